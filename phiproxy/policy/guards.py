"""What a protected column is on disk, as SQL: its guard, its tags, and the names of both (crypto.md sections 1 and 2)."""

from __future__ import annotations

import hashlib
import re

from phiproxy.policy.names import quote_ident, shorten
from phiproxy.policy.protection import ProtectedColumn, Slot

GUARD_PREFIX = "phi_guard_"
# A constant of type bytea (17) with two bytes behind the four of its length, as nodeToString writes a Datum: signed bytes.
_NUMBER = re.compile(r":consttype 17 [^{}]*:constvalue 6 \[ (?:-?\d+ ){4}(-?\d+) (-?\d+) \]")


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


def guarded_number(tree: str) -> int | None:
    """Return the identity number in a guard's stored expression (pg_constraint.conbin), or None where it is none of ours."""
    found = _NUMBER.search(tree)
    return None if found is None else (int(found[1]) & 255) << 8 | int(found[2]) & 255


def tag(column: ProtectedColumn, slot: Slot) -> str:
    """Return T_i of a total expression (crypto.md section 1); this version has no partial ones."""
    return f"pg_catalog.substring({quote_ident(column.name)}, {13 + 16 * slot.number}, 16)"
