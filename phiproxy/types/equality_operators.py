"""As what PostgreSQL compares two operands by ``=``: operator resolution over pg_operator and pg_cast (manual 10.2).

- ``integer = numeric``: both become numeric.
- ``real = numeric``: the numeric becomes a double precision, as which the real is compared with it.
- ``smallint = bigint``: each stays what it is, the comparison is that of bigint.
- ``char(n) = text``: both become text. The blanks of the char are gone, those of the text count.
- ``char(n) = varchar``: both become char. No blanks at the end count.
"""

from typing import NamedTuple

from phiproxy.types.casts import FLOATS, NUMBERS, NoCast
from phiproxy.types.declared import DeclaredType


class Equality(NamedTuple):
    """What the operands become before they are compared, and the type ``at`` which they are."""

    left: DeclaredType
    right: DeclaredType
    at: DeclaredType


# Of these there is an operator for any two, which compares them as the wider of both.
_CROSSED = (("int2", "int4", "int8"), ("float4", "float8"), ("date", "timestamp", "timestamptz"))
_TEXT, _BPCHAR = DeclaredType.builtin("text"), DeclaredType.builtin("bpchar")
_INET, _INTERVAL, _TIMETZ = DeclaredType.builtin("inet"), DeclaredType.builtin("interval"), DeclaredType.builtin("timetz")
_NUMERIC, _FLOAT8 = DeclaredType.builtin("numeric"), DeclaredType.builtin("float8")
_TEXTS = frozenset({"text", "varchar"})


def equality(left: DeclaredType, right: DeclaredType) -> Equality:
    """Return how two types are compared; NoCast where there is no such operator."""
    left, right = left.underlying.unlimited, right.underlying.unlimited
    one, other = left.family, right.family
    for group in _CROSSED:
        if one in group and other in group:
            return Equality(left, right, max(left, right, key=lambda t: group.index(t.family)))
    if "float4" in (one, other) and {one, other} <= NUMBERS:
        return Equality(left if one == "float4" else _FLOAT8, right if other == "float4" else _FLOAT8, _FLOAT8)
    both = _both(left, right)
    return Equality(both, both, both)


def _both(left: DeclaredType, right: DeclaredType) -> DeclaredType:
    one, other = left.family, right.family
    families = {one, other}
    if families in ({"citext"}, {"bpchar"}):
        return left
    if families <= _TEXTS or families <= {*_TEXTS, "citext"} or families in ({"bpchar", "text"}, {"bpchar", "citext"}):
        return _TEXT
    if families == {"bpchar", "varchar"}:
        return _BPCHAR
    if families <= NUMBERS:
        return _FLOAT8 if families & FLOATS else _NUMERIC
    if families <= {"inet", "cidr"}:
        return _INET
    if families in ({"time", "interval"}, {"time", "timetz"}):
        return _INTERVAL if "interval" in families else _TIMETZ
    if one == "array" and other == "array":
        return _arrays(left, right)
    if one != other or one == "json" or (one == "enum" and left.oid != right.oid):
        raise NoCast
    return left


def _arrays(left: DeclaredType, right: DeclaredType) -> DeclaredType:
    """Return the array: there is an operator for two of one type only."""
    assert left.element is not None
    assert right.element is not None
    one, other = left.element.underlying.unlimited, right.element.underlying.unlimited
    if one.family == "json" or one != other:
        raise NoCast
    return left


# What a value becomes without being equal to another one by it, and without being compared in another way by what it was.
_WIDENED = {
    "int2": {"int4", "int8", "numeric", "float8"},
    "int4": {"int8", "numeric", "float8"},
    "int8": {"numeric"},
    "float4": {"float8"},
    "bpchar": _TEXTS,
    "date": {"timestamp"},
    "cidr": {"inet"},
}


def stays_apart(declared: DeclaredType, to: DeclaredType) -> bool:
    """Tell whether values of a type that become another one are equal to others exactly where they were before.

    ``integer`` that becomes ``real`` does not: two that differ may be one real.
    """
    one, other = declared.underlying.unlimited, to.underlying.unlimited
    if one == other or (one.is_text and other.is_text) or one.family == other.family != "enum":
        return True
    return other.family in _WIDENED.get(one.family, ())
