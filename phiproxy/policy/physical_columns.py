"""What a protected column is on disk, as SQL: its tags, what is beside it, and the names of these (spec/stored-format 1.3)."""

import hashlib
import re
from dataclasses import replace

from phiproxy.documents.field_paths import parse_path
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.identifiers import quote_ident, shorten
from phiproxy.policy.physical_documents import leaf_tag, reached
from phiproxy.policy.protection import ProtectedColumn, Slot

HIDDEN_PREFIX = "phi_tag_"
SHADOW_PREFIX = "phi_new_"
REPLACED_PREFIX = "phi_old_"
_HIDDEN = (HIDDEN_PREFIX, SHADOW_PREFIX, REPLACED_PREFIX)
# Any constant of type bytea; before it, the last column that was named.
_CONSTANT = re.compile(r":varattno (\d+)|:consttype 17 [^{}]*:constvalue \d+ \[ (?:-?\d+ ){4}((?:-?\d+ )+)\]")
_HEADER = bytes.fromhex("f5500101")
COMPUTED_DEFAULT = ("pg_catalog.decode(pg_catalog.encode(", ", 'base64'), 'hex')")
"""What stands around the sealed text of a DEFAULT that is computed. The server cannot evaluate it: base64 of an envelope is no hex.

So an INSERT that comes past the proxy fails, and stores neither NULL nor the sealed text.
"""
# How such a DEFAULT begins in pg_attrdef.adbin: a call of decode(text, text), whose OID every PostgreSQL has.
_DECODE = "{FUNCEXPR :funcid 1947 "
# One byte of an envelope says how many slots it has (spec/stored-format 2.1).
MAX_SLOTS = 255
# Where the slots of an envelope begin, and what holds them all: 255 of 16 bytes.
_SLOTS = "13, 4080"


def hidden_name(column: ProtectedColumn, number: int) -> str:
    """Return the name of the generated column that holds a tag."""
    return tag_column_name(column.name, number)


def tag_column_name(column: str, number: int) -> str:
    """Return the name of the generated column that holds a tag of a column of this name."""
    name = f"{HIDDEN_PREFIX}{column}_{number}"
    return shorten(name, hashlib.sha256(name.encode()).hexdigest()[:8])


def is_hidden(name: str) -> bool:
    """Tell whether a column of a table with protected columns is one that clients do not know of."""
    return name.startswith(_HIDDEN)


def visible_columns(relation: Relation) -> list[CatalogColumn]:
    """Return the columns that clients know of, in their order."""
    return [column for column in relation.columns if not column.name.startswith(_HIDDEN)]


def replaced_name(column: str) -> str:
    """Return the name of the hidden column that was replaced by a sealed one, or by an opened one."""
    return shorten(REPLACED_PREFIX + column, hashlib.sha256(column.encode()).hexdigest()[:8])


def shadow_name(column: str) -> str:
    """Return the name of the hidden column beside one that is being sealed, or opened again for good."""
    return shorten(SHADOW_PREFIX + column, hashlib.sha256(column.encode()).hexdigest()[:8])


def hidden_beside(column: str) -> tuple[str, str]:
    """Return the names of the hidden columns beside a column that may hold sealed values of it: while it is converted, or after."""
    return shadow_name(column), replaced_name(column)


def generated_tags(relation: Relation, column: ProtectedColumn) -> tuple[tuple[int, str], ...]:
    """Return the generated tag columns that are searched in place of the column: what is computed there is not leakproof."""
    if not relation.row_security:
        return ()
    names = ((slot.number, hidden_name(column, slot.number)) for slot in column.slots)
    return tuple((number, name) for number, name in names if relation.column(name) is not None)


def hidden_column(column: ProtectedColumn, slot: Slot) -> str:
    """Return the definition of the generated column that holds a tag."""
    return f"{quote_ident(hidden_name(column, slot.number))} bytea GENERATED ALWAYS AS ({tag(column, slot)}) STORED"


def hidden_index(column: ProtectedColumn, slot: Slot, table_name: tuple[str, str]) -> str:
    """Return the statement that makes the index of a generated column of table ``table_name``."""
    plain = f"phi_tag_idx_{table_name[1]}_{hidden_name(column, slot.number).removeprefix(HIDDEN_PREFIX)}_stored"
    name = shorten(plain, hashlib.sha256(repr((*table_name, column.name, slot.number)).encode()).hexdigest()[:8])
    on = ".".join(map(quote_ident, table_name))
    return f"CREATE INDEX {quote_ident(name)} ON {on} ({quote_ident(hidden_name(column, slot.number))})"


def condition_of(column: str, start: str = "", end: str = "") -> tuple[str, str]:
    """Return what stands before and behind the sealed condition in a CHECK constraint that the proxy evaluates.

    A value that does not satisfy the condition has one slot more, which holds the salt of the condition's envelope: for such a
    value, and no other, the constraint is false. So the server says when, and of which row, and with which words.
    """
    c = quote_ident(column)
    searched = f"pg_catalog.substring({c}, {_SLOTS})"
    return f"({start}position(pg_catalog.substring(", f", 13, 16) IN {searched}) = 0{end})"


def violation(definition: bytes) -> bytes:
    """Return the slot that says that a value does not satisfy a sealed condition, which has no slots itself."""
    return definition[12:28]


def lacks_tag(column: str, slot: int) -> str:
    """Return the condition that a value has no tag in a slot: it was stored before there was that slot, or is no envelope.

    ``lacks_tag("ssn", 1)`` holds of a value with one slot, and of one in plaintext; of NULL it is true.
    """
    c = quote_ident(column)
    return (
        f"(CASE WHEN pg_catalog.octet_length({c}) >= 12 AND pg_catalog.substring({c}, 1, 3) = '\\xf55001'::pg_catalog.bytea"
        f" THEN pg_catalog.get_byte({c}, 11) <= {slot} ELSE true END)"
    )


def constant_bytes(numbers: str) -> bytes:
    """Return the bytes that nodeToString writes as signed numbers."""
    return bytes(int(n) & 255 for n in numbers.split())


def sealed_constant(tree: str | None) -> bytes | None:
    """Return the envelope that a stored DEFAULT is or holds (pg_attrdef.adbin), or None where it is something else."""
    match = next((m for m in _CONSTANT.finditer(tree or "") if m[2]), None)
    value = constant_bytes(match[2]) if match is not None else b""
    return value if value.startswith(_HEADER) else None


def is_computed_default(tree: str | None) -> bool:
    """Tell whether a stored DEFAULT (pg_attrdef.adbin) is a computed one: its envelope is of a text (``COMPUTED_DEFAULT``)."""
    return tree is not None and tree.startswith(_DECODE)


def sealed_conditions(tree: str) -> list[tuple[int, bytes]]:
    """Return (number of the column, sealed condition) of each part of a constraint (pg_constraint.conbin) that is sealed."""
    conditions, column = [], 0
    for match in _CONSTANT.finditer(tree):
        if match[1]:
            column = int(match[1])
        elif (value := constant_bytes(match[2])).startswith(_HEADER):
            conditions.append((column, value))
    return conditions


def tag(column: ProtectedColumn, slot: Slot) -> str:
    """Return T_i of a column, or of a field of a document (spec/stored-format 1.1)."""
    if column.path:
        return tag_of(reached(quote_ident(column.name), parse_path(column.path), text=True), replace(slot, form="text"))
    return tag_of(quote_ident(column.name), slot)


def tag_of(envelope: str, slot: Slot) -> str:
    """Return T_i of what an expression says: NULL where the slot's own is NULL."""
    bytes_of = f"pg_catalog.substring({envelope}, {13 + 16 * slot.number}, 16)"
    tag = bytes_of if slot.form == "bytea" else leaf_tag(envelope, slot)
    return tag if slot.total else f"NULLIF({tag}, '\\x{'00' * 16}'::bytea)"
