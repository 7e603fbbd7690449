"""What a document with sealed fields is on disk, as SQL: how a field is reached, and its tag."""

import json

from phiproxy.documents.field_paths import ELEMENTS, Path
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import ProtectedColumn, Slot

_FIRST_TAG = 25
"""Where the tag of slot 0 begins in the header of a sealed leaf, behind 12 bytes in hexadecimal digits."""
_TAG_DIGITS = 32
OF_NULL = b"\x00"
"""What stands in for the tag of JSON's null where fields are compared as JSON; no tag is so short."""


def quoted(text: str) -> str:
    """Return a constant of SQL that is read alike under both settings of standard_conforming_strings."""
    plain = "'" + text.replace("'", "''") + "'"
    return "E" + plain.replace("\\", "\\\\") if "\\" in plain else plain


def reached(document: str, path: Path, *, text: bool) -> str:
    """Return what stands at a path of a document, as JSON or as text: NULL where there is nothing.

    ``reached("doc", ("ssn",), text=True)`` → ``pg_catalog.jsonb_extract_path_text(doc, VARIADIC ARRAY['ssn'::text])``
    """
    name = "jsonb_extract_path_text" if text else "jsonb_extract_path"
    steps = ", ".join(f"{quoted(step)}::text" for step in path if step is not ELEMENTS)
    return f"pg_catalog.{name}({document}, VARIADIC ARRAY[{steps}])"


def member(document: str, path: Path) -> str:
    """Return the text at a path of keys as applications write it: ``(doc -> 'name'::text) ->> 'family'::text``."""
    *before, last = (f"{quoted(step)}::text" for step in path if step is not ELEMENTS)
    for step in before:
        document = f"({document} -> {step})"
    return f"{document} ->> {last}"


def leaf_tag(value: str, slot: Slot) -> str:
    """Return the tag of a sealed leaf that an expression gives as text, or as JSON, as the 16 bytes that a tag is everywhere.

    Of a leaf that is older than the slot it is empty, which no tag is. Of JSON's null, which is a value as JSON and is not sealed,
    it is ``OF_NULL``.
    """
    if slot.form == "jsonb":
        text = f"pg_catalog.jsonb_extract_path_text({value}, VARIADIC ARRAY[]::text[])"
        of_null = f"'\\x{OF_NULL.hex()}'::bytea"
        return f"CASE WHEN {value} OPERATOR(pg_catalog.=) 'null'::jsonb THEN {of_null} ELSE {_tag_in(text, slot)} END"
    return _tag_in(value, slot)


def _tag_in(text: str, slot: Slot) -> str:
    header, first = f"pg_catalog.split_part({text}, ':'::text, 2)", _FIRST_TAG + _TAG_DIGITS * slot.number
    return f"pg_catalog.decode(pg_catalog.substring({header}, {first}, {_TAG_DIGITS}), 'hex'::text)"


def fields_with_index(column: ProtectedColumn) -> list[tuple[ProtectedColumn, Path]]:
    """Return the fields of a document that can be guarded and searched, with their paths: those of which there is one."""
    document = column.document
    if document is None:
        return []
    return [(f, path) for f, path in zip(document.fields, document.paths, strict=True) if ELEMENTS not in path]


def indexable(column: ProtectedColumn) -> list[ProtectedColumn]:
    """Return what of a column can have blind indexes: the column itself, or of a document those fields of which there is one."""
    return [column] if column.document is None else [field for field, _ in fields_with_index(column)]


def bare_path(column: ProtectedColumn) -> str:
    """Return a field's path as a part of a name of SQL; empty for a column."""
    return "".join(c if c.isalnum() else "_" for c in column.path.removeprefix("$"))


def json_path(path: Path) -> str:
    """Return a path as PostgreSQL prints it as a jsonpath, with all keys quoted."""
    return "$" + "".join("[*]" if step is ELEMENTS else f".{json.dumps(step, ensure_ascii=False)}" for step in path)


def document_pattern(key_id: int) -> str:
    """Return the regular expression of a document's text with a leaf that is sealed under a data key."""
    return f'"phi1:f5500101[0-9a-f]{{2}}{key_id:08x}'


def stale_leaf_pattern(number: int, slot: int) -> str:
    """Return the regular expression of a document's text with a leaf of an identity, in any place, that has a tag in a slot."""
    tag = f"[0-9a-f]{{{_TAG_DIGITS}}}"
    return f'"phi1:f5500101[0-9a-f]{{10}}{number:04x}[0-9a-f]{{2}}({tag}){{{slot}}}(?!0{{{_TAG_DIGITS}}}){tag}'


def lacks_leaf_tag(column: str, path: Path, slot: int) -> str:
    """Return the condition that a field is there without a tag in a slot: it was stored before there was that slot, or is plain."""
    text = reached(quote_ident(column), path, text=True)
    return (
        f"(CASE WHEN pg_catalog.substring({text}, 1, 13) = 'phi1:f5500101'"
        f" THEN pg_catalog.substring({text}, 28, 2) COLLATE \"C\" <= '{slot:02x}' ELSE {text} IS NOT NULL END)"
    )
