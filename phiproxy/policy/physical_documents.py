"""What a document with sealed fields is on disk, as SQL: how a field is reached, its tag, and the guard of the column."""

import json
import re
from typing import Final

from phiproxy.documents.field_paths import ELEMENTS, Path, spell_path
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import DocumentFields, ProtectedColumn, Slot

_FIRST_TAG = 25
"""Where the tag of slot 0 begins in the header of a sealed leaf, behind 12 bytes in hexadecimal digits."""
_TAG_DIGITS = 32
_LISTING: Final = b"phi-clear:"
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


def document_guard(column: ProtectedColumn) -> str:
    """Return the CHECK of a document: each field that is there, and not null, is sealed under its own identity.

    With ``others: sealed`` it also lists what is in clear (``listing``). The number of the document's identity stands in it, by
    which protected columns are known (``physical_columns.guarded_number``).
    """
    document = column.document
    listed = list(zip(document.fields, document.paths, strict=True)) if document is not None else []
    name = quote_ident(column.name)
    conditions = [f"'\\x{column.number:04x}'::bytea IS NOT NULL"]
    conditions += [_sealed(name, field, path) for field, path in listed if ELEMENTS not in path]
    if document is not None and (constant := listing(document)) is not None:
        conditions.append(f"'\\x{constant.hex()}'::bytea IS NOT NULL")
    # Of several paths through arrays in one go: the server reads the document once for each condition.
    if plain := " || ".join(_plain_elements(field, path) for field, path in listed if ELEMENTS in path):
        conditions.append(f"NOT jsonb_path_match({name}, {quoted(plain)}::jsonpath)")
    return f"CHECK ({' AND '.join(conditions)})"


def listing(document: DocumentFields) -> bytes | None:
    """Return the constant in a document's guard that lists the paths in clear; None where all but the fields is in clear.

    A document with ``clear: ["$.ward"]`` → ``b'phi-clear:["$.ward"]'``
    """
    return _LISTING + _spelled_paths(document.clear) if document.others_sealed else None


def _spelled_paths(clear: tuple[Path, ...]) -> bytes:
    return json.dumps(sorted(map(spell_path, clear)), ensure_ascii=False).encode()


def guarded_clear(constant: bytes) -> tuple[str, ...] | None:
    """Return the paths that a constant of a guard lists; None for any other constant."""
    if not constant.startswith(_LISTING):
        return None
    paths: list[str] = json.loads(constant[len(_LISTING) :])
    return tuple(paths)


def _plain_elements(field: ProtectedColumn, path: Path) -> str:
    """Return the predicate of jsonpath that a value at a path through arrays is in plaintext."""
    pattern = f"^phi1:f5500101[0-9a-f]{{10}}{field.number:04x}"
    return f'exists ({json_path(path)}?(@ != null && !(@.type() == "string" && @ like_regex "{pattern}")))'


def json_path(path: Path) -> str:
    """Return a path as PostgreSQL prints it as a jsonpath, with all keys quoted."""
    return "$" + "".join("[*]" if step is ELEMENTS else f".{json.dumps(step, ensure_ascii=False)}" for step in path)


_FIELD = re.compile(rb"phi1:f5500101\[0-9a-f\]\{10\}([0-9a-f]{4})(?![0-9a-f])")


def guarded_numbers(constants: bytes) -> tuple[int, ...]:
    """Return the identity numbers of the fields that a guard of a document asks for, by the bytes of its constants, in order.

    Fields of one domain have one number, which is there once for each.
    """
    return tuple(sorted(int(number, 16) for number in _FIELD.findall(constants)))


def _sealed(document: str, field: ProtectedColumn, path: Path) -> str:
    kind = f"jsonb_typeof({reached(document, path, text=False)})"
    text = reached(document, path, text=True)
    slots = max((s.number + 1 for s in field.slots if s.state != "building"), default=0)
    return (
        f"CASE {kind} WHEN 'string'::text THEN"
        f" {text} ~ '^phi1:f5500101[0-9a-f]{{10}}{field.number:04x}([0-9a-f]{{2}})+:[0-9A-Za-z_-]+$'::text"
        f" AND substring({text}, 28, 2) COLLATE \"C\" >= '{slots:02x}'::text"
        f" ELSE COALESCE({kind}, 'null'::text) = 'null'::text END"
    )


def sealed_under(column: str) -> str:
    """Return the condition that a document holds a leaf that is sealed as a parameter says, by ``document_pattern``."""
    return f"{quote_ident(column)}::text ~ %s"


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
