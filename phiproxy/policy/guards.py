"""What a protected column is on disk, as SQL: its guard, its tags, and the names of both (crypto.md sections 1 and 2)."""

from __future__ import annotations

import hashlib
import re

from phiproxy.policy.catalog import Relation
from phiproxy.policy.names import quote_ident, shorten
from phiproxy.policy.protection import ProtectedColumn, Slot

GUARD_PREFIX = "phi_guard_"
HIDDEN_PREFIX = "phi_tag_"
# A constant of type bytea (17) with two bytes behind the four of its length, as nodeToString writes a Datum: signed bytes.
_NUMBER = re.compile(r":consttype 17 [^{}]*:constvalue 6 \[ (?:-?\d+ ){4}(-?\d+) (-?\d+) \]")


# Any constant of type bytea; before it, the last column that was named.
_CONSTANT = re.compile(r":varattno (\d+)|:consttype 17 [^{}]*:constvalue \d+ \[ (?:-?\d+ ){4}((?:-?\d+ )+)\]")
_HEADER = bytes.fromhex("f5500101")
# One byte of an envelope says how many slots it has (crypto.md section 2).
MAX_SLOTS = 255
# Where the slots of an envelope begin, and what holds them all: 255 of 16 bytes.
_SLOTS = "13, 4080"


def hidden_name(column: ProtectedColumn, number: int) -> str:
    """Return the name of the generated column that holds a tag."""
    name = f"{HIDDEN_PREFIX}{column.name}_{number}"
    return shorten(name, hashlib.sha256(name.encode()).hexdigest()[:8])


def generated_tags(relation: Relation, column: ProtectedColumn) -> tuple[tuple[int, str], ...]:
    """Return the generated tag columns that are searched in place of the column: what is computed there is not leakproof."""
    if not relation.row_security:
        return ()
    names = ((slot.number, hidden_name(column, slot.number)) for slot in column.slots)
    return tuple((number, name) for number, name in names if relation.column(name) is not None)


def hidden_column(column: ProtectedColumn, slot: Slot) -> str:
    """Return the definition of the generated column that holds a tag."""
    return f"{quote_ident(hidden_name(column, slot.number))} bytea GENERATED ALWAYS AS ({tag(column, slot)}) STORED"


def hidden_index(column: ProtectedColumn, slot: Slot, place: tuple[str, str]) -> str:
    """Return the statement that makes the index of a generated column of table ``place``."""
    plain = f"phi_tag_idx_{place[1]}_{hidden_name(column, slot.number).removeprefix(HIDDEN_PREFIX)}_stored"
    name = shorten(plain, hashlib.sha256(repr((*place, column.name, slot.number)).encode()).hexdigest()[:8])
    on = ".".join(map(quote_ident, place))
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


def guard_name(column: str) -> str:
    """Return the constraint's name; where it is too long, a digest keeps two long columns of one table apart."""
    return shorten(GUARD_PREFIX + column, hashlib.sha256(column.encode()).hexdigest()[:8])


def guard(column: ProtectedColumn) -> str:
    """Return the CHECK of crypto.md section 2. K counts no slot that is still building: older values lack it."""
    c = quote_ident(column.name)
    k = max((s.number + 1 for s in column.slots if s.state != "building"), default=0)
    return (
        f"CHECK (CASE WHEN octet_length({c}) >= 12 THEN substring({c},1,3) = '\\xf55001'::bytea"
        f" AND substring({c},10,2) = '\\x{column.number:04x}'::bytea"
        f" AND get_byte({c},11) >= {k} AND octet_length({c}) >= 56 + 16*get_byte({c},11) ELSE {c} IS NULL END)"
    )


def lacks_tag(column: str, slot: int) -> str:
    """Return the condition that a value has no tag in a slot: it was stored before there was that slot, or is no envelope.

    ``lacks_tag("ssn", 1)`` holds of a value with one slot, and of one in plaintext; of NULL it is true.
    """
    c = quote_ident(column)
    return (
        f"(CASE WHEN pg_catalog.octet_length({c}) >= 12 AND pg_catalog.substring({c}, 1, 3) = '\\xf55001'::pg_catalog.bytea"
        f" THEN pg_catalog.get_byte({c}, 11) <= {slot} ELSE true END)"
    )


def guarded_number(tree: str) -> int | None:
    """Return the identity number in a guard's stored expression (pg_constraint.conbin), or None where it is none of ours."""
    found = _NUMBER.search(tree)
    return None if found is None else (int(found[1]) & 255) << 8 | int(found[2]) & 255


def _bytes(numbers: str) -> bytes:
    return bytes(int(n) & 255 for n in numbers.split())


def sealed_constant(tree: str | None) -> bytes | None:
    """Return the envelope that a stored DEFAULT is (pg_attrdef.adbin), or None where it is something else."""
    found = next((m for m in _CONSTANT.finditer(tree or "") if m[2]), None)
    value = _bytes(found[2]) if found is not None else b""
    return value if value.startswith(_HEADER) else None


def sealed_conditions(tree: str) -> list[tuple[int, bytes]]:
    """Return (number of the column, sealed condition) of each part of a constraint (pg_constraint.conbin) that is sealed."""
    found, column = [], 0
    for match in _CONSTANT.finditer(tree):
        if match[1]:
            column = int(match[1])
        elif (value := _bytes(match[2])).startswith(_HEADER):
            found.append((column, value))
    return found


def tag(column: ProtectedColumn, slot: Slot) -> str:
    """Return T_i of a column (crypto.md section 1)."""
    return tag_of(quote_ident(column.name), slot)


def tag_of(envelope: str, slot: Slot) -> str:
    """Return T_i of what an expression says: NULL where the slot's own is NULL."""
    found = f"pg_catalog.substring({envelope}, {13 + 16 * slot.number}, 16)"
    return found if slot.total else f"NULLIF({found}, '\\x{'00' * 16}'::bytea)"
