"""The guard of a protected column: a CHECK that lets no plaintext in (spec/stored-format 2.3), and what is read of a stored one."""

import hashlib
import json
import re
from typing import Final

from phiproxy.documents.field_paths import ELEMENTS, Path, spell_path
from phiproxy.policy.identifiers import quote_ident, shorten
from phiproxy.policy.physical_columns import constant_bytes
from phiproxy.policy.physical_documents import json_path, quoted, reached
from phiproxy.policy.protection import DocumentFields, ProtectedColumn

GUARD_PREFIX = "phi_guard_"
_LISTING: Final = b"phi-clear:"
# A constant of type bytea (17) with two bytes behind the four of its length, as nodeToString writes a Datum: signed bytes.
_NUMBER = re.compile(r":consttype 17 [^{}]*:constvalue 6 \[ (?:-?\d+ ){4}(-?\d+) (-?\d+) \]")
_ANY_CONSTANT = re.compile(r":constvalue \d+ \[ ((?:-?\d+ )+)\]")


def guard_name(column: str) -> str:
    """Return the constraint's name; where it is too long, a digest keeps two long columns of one table apart."""
    return shorten(GUARD_PREFIX + column, hashlib.sha256(column.encode()).hexdigest()[:8])


def guard(column: ProtectedColumn) -> str:
    """Return the CHECK of spec/stored-format 2.3. K counts no slot that is still building: older values lack it."""
    if column.document is not None:
        return _document_guard(column)
    c = quote_ident(column.name)
    k = max((s.number + 1 for s in column.slots if s.state != "building"), default=0)
    return (
        f"CHECK (CASE WHEN octet_length({c}) >= 12 THEN substring({c},1,3) = '\\xf55001'::bytea"
        f" AND substring({c},10,2) = '\\x{column.number:04x}'::bytea"
        f" AND get_byte({c},11) >= {k} AND octet_length({c}) >= 56 + 16*get_byte({c},11) ELSE {c} IS NULL END)"
    )


def guarded_number(tree: str) -> int | None:
    """Return the identity number in a guard's stored expression (pg_constraint.conbin), or None where it is none of ours."""
    match = _NUMBER.search(tree)
    return None if match is None else (int(match[1]) & 255) << 8 | int(match[2]) & 255


def guarded_fields(tree: str) -> tuple[int, ...]:
    """Return the identity numbers of the fields that a guard's stored expression asks for; none where it is not of a document."""
    return guarded_numbers(b"".join(constant_bytes(match[1]) for match in _ANY_CONSTANT.finditer(tree)))


def guarded_listing(tree: str) -> tuple[str, ...] | None:
    """Return the paths in clear that a guard's stored expression lists; None where all but the fields is in clear."""
    listings = (guarded_clear(constant_bytes(match[1])[4:]) for match in _ANY_CONSTANT.finditer(tree))
    return next((paths for paths in listings if paths is not None), None)


def _document_guard(column: ProtectedColumn) -> str:
    """Return the CHECK of a document: each field that is there, and not null, is sealed under its own identity.

    With ``others: sealed`` it also lists what is in clear (``listing``). The number of the document's identity stands in it, by
    which protected columns are known (``guarded_number``).
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
