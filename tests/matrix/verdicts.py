"""What became of a case: the reply of the proxy beside that of PostgreSQL to the same statement."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Literal

from tests.matrix.dialogue import Reply
from tests.session.frames import values

Verdict = Literal["equal", "equal error", "refused", "another SQLSTATE", "false error", "wrong value", "wrong type", "accepted"]
# What may not be.
FAULTS: frozenset[Verdict] = frozenset(("false error", "wrong value", "wrong type", "accepted"))
_FRACTION = re.compile(rb"-?\d+\.\d*0")
_ALIKE = {b"-0": b"0", b"24:00:00": b"1 day", b"30 days": b"1 mon"}
_FLOATS = frozenset((700, 701))
OURS = "phiproxy:"
REFUSED = "0A000"
# Of several errors of one statement another one may be found first: in its types, or in a value. Both say that it is wrong.
_OF_TYPES = frozenset(("42703", "42704", "42725", "42803", "42804", "42809", "42846", "42883", "42P08", "42P18", "42P21"))
_OF_VALUES = re.compile("22...|23514|08P01")
# What only PostgreSQL finds: a column that is assigned to twice, a conversion that it has promised itself and has not.
_OF_POSTGRESQL = frozenset(("42701", "XX000"))


def failed(replies: Sequence[Reply]) -> Reply | None:
    """Return the first reply that is an error."""
    return next((r for r in replies if r.sqlstate), None)


def documented(found: str | None, expected: str | None) -> bool:
    """Whether a statement that PostgreSQL refuses with one SQLSTATE may be refused with the other (docs/errors.md, err-refused)."""
    return _is_of_types_or_values(found) and (expected in _OF_POSTGRESQL or _is_of_types_or_values(expected))


def _is_of_types_or_values(state: str | None) -> bool:
    return state is not None and (state in _OF_TYPES or _OF_VALUES.fullmatch(state) is not None)


def folded(row: bytes, *, blanks: bool = False) -> tuple[bytes | None, ...]:
    """Return the values of a row, as text, with one form for those that are equal to PostgreSQL; ``blanks``: as char(n) is."""
    return tuple(value if value is None else _form(value.lower(), blanks=blanks) for value in values(b"D    " + row))


def _form(value: bytes, *, blanks: bool) -> bytes:
    if blanks:
        value = value.rstrip(b" ")
    if _FRACTION.fullmatch(value):
        value = value.rstrip(b"0").rstrip(b".")
    return _ALIKE.get(value, value)


def verdict(
    proxied: Sequence[Reply],
    plain: Sequence[Reply],
    after_proxied: Sequence[Reply] = (),
    after_plain: Sequence[Reply] = (),
    *,
    merges: bool = False,
    blanks: bool = False,
) -> Verdict:
    """Say what became of a statement; ``after_…`` is what the tables hold then, if it writes.

    ``merges``: of equal values one is shown, and which is nobody's; ``blanks``: among them char(n).
    """
    found, expected = failed(proxied), failed(plain)
    if found is not None:
        if found.sqlstate == REFUSED and found.message.startswith(OURS):
            return "refused"
        if expected is None:
            return "false error"
        return "equal error" if found.sqlstate == expected.sqlstate else "another SQLSTATE"
    if expected is not None:
        return "accepted"
    if any(a.tags != b.tags or not _same(a, b, merges=merges, blanks=blanks) for a, b in zip(proxied, plain, strict=True)):
        return "wrong value"
    if any(a.rows != b.rows for a, b in zip(after_proxied, after_plain, strict=True)):
        return "wrong value"
    types = [[(r.fields, r.parameters) for r in side] for side in (proxied, plain)]
    return "equal" if types[0] == types[1] else "wrong type"


def _same(found: Reply, expected: Reply, *, merges: bool, blanks: bool) -> bool:
    """Whether the rows are the same; another type often shows in them too: 1.0 beside 1."""
    if found.rows == expected.rows or sorted(map(_one_nan(found), found.rows)) == sorted(map(_one_nan(expected), expected.rows)):
        return True
    return merges and _bag(found, blanks=blanks) == _bag(expected, blanks=blanks)


def _one_nan(reply: Reply) -> Callable[[bytes], list[str]]:
    """Return what writes a row with one form of NaN: of 2^53 in binary, the proxy tells one."""
    floats = [f.type_oid in _FLOATS and f.format == 1 for f in reply.fields]

    def written(row: bytes) -> list[str]:
        fields = values(b"D    " + row)
        nans = [is_float and v is not None and _is_nan(v) for is_float, v in zip(floats, fields, strict=False)]
        return ["NaN" if nan else repr(v) for nan, v in zip(nans, fields, strict=True)]

    return written if any(floats) else lambda row: [repr(row)]


def _is_nan(value: bytes) -> bool:
    return math.isnan(struct.unpack("!d" if len(value) == 8 else "!f", value)[0])


def _bag(reply: Reply, *, blanks: bool) -> list[str]:
    return sorted(repr(folded(row, blanks=blanks)) for row in reply.rows)
