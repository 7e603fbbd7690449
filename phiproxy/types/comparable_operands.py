"""Which operands PostgreSQL compares with a type by ``=``, and as what: operator resolution (manual 10.2) over the closed table.

The result is a canonical form whose equality form is that of the column's values which are equal to the operand.
"""

from collections.abc import Callable
from decimal import Decimal

from phiproxy.types.casts import (
    EXACT_NUMBERS,
    FLOAT8,
    FLOATS,
    INTEGERS,
    NUMERIC,
    TEXTS,
    Cast,
    NoCast,
    NotCast,
    cast,
    date_zoned,
    host,
    same,
    to_timestamp,
    trimmed,
    widened,
    zoned,
)
from phiproxy.types.codec import as_is
from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles


def compared(column: DeclaredType, operand: DeclaredType) -> Cast:
    """Return what an operand is compared as; NoCast where there is no such operator, NotCast where it is not answered exactly."""
    column, operand = column.underlying, operand.underlying
    one, other = column.family, operand.family
    if one == "json":
        raise NoCast
    if one == "array":
        return _array(column, operand)
    if one in TEXTS and other in TEXTS:
        return _texts(one, other)
    if one in FLOATS and other in FLOATS | EXACT_NUMBERS:
        # A float4 is compared with anything but itself as a float8, which is what its equality form is of.
        if other == "float4":
            return lambda value, _styles: widened(value)
        return same if other == "float8" else cast(operand, FLOAT8, "assignment")
    if one == other and (one != "enum" or column.oid == operand.oid):
        return same
    if one in EXACT_NUMBERS and other in FLOATS | EXACT_NUMBERS:
        return _exact(one, other)
    pair_cast = _PAIRS.get((one, other))
    if pair_cast is None:
        raise NotCast if (one, other) in _INEXACT else NoCast
    return pair_cast


def ordered(column: DeclaredType, operand: DeclaredType) -> Cast:
    """Return what an operand is compared as by ``<`` and its kin; NoCast, NotCast.

    Of what has a calendar it stays as fine as it is: no date is a moment of the day, and yet one of them is the first behind it.
    """
    column, operand = column.base or column, operand.base or operand
    if (column.family, operand.family) == ("date", "timestamp"):
        return same
    return compared(column, operand)


def form_of(column: DeclaredType, lower: Callable[[bytes], bytes] | None = None) -> Callable[[bytes], bytes]:
    """Return the equality form of what ``compared`` gives for a column: as a float8 of a float4, without trimming of char.

    ``lower``: see ``codec``.
    """
    column = column.underlying
    if column.family == "float4":
        return codec(FLOAT8).form
    return as_is if column.family == "bpchar" else codec(column, lower).form


def _array(column: DeclaredType, operand: DeclaredType) -> Cast:
    assert column.element is not None
    if operand.element is None:
        raise NoCast
    if operand.element.family != column.element.family or column.element.family == "json":
        raise NoCast  # anyarray = anyarray is of one type: text[] and varchar[] are two
    return same


def _texts(one: str, other: str) -> Cast:
    if one == other == "citext":
        return same
    if "citext" in (one, other) or (one, other) == ("varchar", "bpchar"):
        # citext = text is text = text: the column's own case counts, and its index does not know it. So do the blanks of a
        # varchar, which is compared with char as a char.
        raise NotCast
    return trimmed if other == "bpchar" or (one, other) == ("bpchar", "varchar") else same


def _exact(one: str, other: str) -> Cast:
    if other in EXACT_NUMBERS:
        return (lambda value, _styles: codec(NUMERIC).form(value)) if one in INTEGERS else same
    if one not in INTEGERS or one == "int8":
        raise NotCast  # the column's value would be rounded to a float8 first
    return lambda value, _styles: _expanded(widened(value) if other == "float4" else value)


def _expanded(value: bytes) -> bytes:
    """Return a float8 as the number that it is, without an exponent."""
    return codec(NUMERIC).form(format(Decimal(float(value) + 0.0), "f").encode())  # and -0 is 0


def _day(value: bytes, _styles: Styles) -> bytes:
    """Return the date whose midnight a timestamp is; any other stays what no date is."""
    if value.endswith(b"infinity"):
        return value
    day, clock, *era = value.split(b" ")
    return b" ".join((day, *era)) if clock == b"00:00:00" else value


_PAIRS: dict[tuple[str, str], Cast] = {
    ("date", "timestamp"): _day,
    ("timestamp", "date"): to_timestamp,
    ("timestamptz", "timestamp"): zoned,
    ("timestamptz", "date"): date_zoned,
    ("inet", "cidr"): host,
    ("cidr", "inet"): same,
    ("interval", "time"): same,
}
_INEXACT = frozenset(
    {
        ("date", "timestamptz"), ("timestamp", "timestamptz"), ("timetz", "time"), ("time", "timetz"), ("time", "interval"),
    }
)  # fmt: skip
