"""Casts between types over canonical forms: those that PostgreSQL has (pg_cast), in which contexts, and what they give.

Only casts that are exact here are done; one that PostgreSQL has and that depends on more than value and session is ``NotCast``.
"""

import math
import struct
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from ipaddress import ip_interface
from typing import Literal

from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import DatetimeFieldOverflow, NotReadExactly, NumericValueOutOfRange
from phiproxy.wire.arrays import array_from_text, array_to_text
from phiproxy.wire.bytea_and_text import cut_text

Context = Literal["implicit", "assignment", "explicit"]
Cast = Callable[[bytes, Styles], bytes]

TEXTS = frozenset({"text", "varchar", "bpchar", "citext"})
INTEGERS = {"int2": ("smallint", 16), "int4": ("integer", 32), "int8": ("bigint", 64)}
EXACT_NUMBERS = frozenset({*INTEGERS, "numeric"})
FLOATS = frozenset({"float4", "float8"})
NUMBERS = EXACT_NUMBERS | FLOATS
_RANKS = {"implicit": 0, "assignment": 1, "explicit": 2}


class NoCast(Exception):
    """PostgreSQL has no such cast in this context."""


class NotCast(Exception):
    """PostgreSQL has this cast, and it is not done here."""


def cast(source: DeclaredType, target: DeclaredType, context: Context) -> Cast:
    """Return the function of a cast, without the target's typmod; NoCast, NotCast."""
    source, target = source.underlying, target.underlying
    if source.element is not None and target.element is not None:
        one, other = source.element, target.element
        if one.family == other.family or (one.is_text and other.is_text):
            return same
        element = cast(one, other, context)
        return lambda value, styles: array_to_text(array_from_text(value).map(lambda e: element(e, styles)))
    if source.family == target.family and (source.family != "enum" or source.oid == target.oid):
        return same
    conversion = _between(source, target)
    if conversion is None:
        raise NoCast
    needed, function = conversion
    if _RANKS[context] < _RANKS[needed]:
        raise NoCast
    if function is None:
        raise NotCast
    return function


def explicit(source: DeclaredType, target: DeclaredType) -> Cast:
    """Return the function of an explicit cast with the target's typmod: it cuts a text that is too long (manual 8.3)."""
    if target.base is not None:
        over, judged = explicit(source, target.base), codec(target).assign
        return lambda value, styles: judged(over(value, styles), -1)
    function = cast(source, target, "explicit")
    limit = target.typmod - 4 if target.typmod >= 4 and target.family in ("varchar", "bpchar") else None
    assign = codec(target).assign
    if target.typmod == -1:
        return function
    if limit is None:
        return lambda value, styles: assign(function(value, styles), target.typmod)
    return lambda value, styles: assign(cut_text(function(value, styles), limit), target.typmod)


def _between(source: DeclaredType, target: DeclaredType) -> tuple[Context, Cast | None] | None:
    """Return the least context in which a cast is made, and the function; None where PostgreSQL has none."""
    one, other = source.family, target.family
    if other in TEXTS:
        return _to_text(source, target)
    if one in TEXTS:
        # citext has no casts of its own to other types: those of text apply through I/O.
        return "explicit", codec(target).from_text
    if one in NUMBERS and other in NUMBERS:
        return _numbers(one, target)
    return _others(one, target)


def _to_text(source: DeclaredType, target: DeclaredType) -> tuple[Context, Cast]:
    if source.family in TEXTS:
        by_assignment = target.family == "citext" or (source.family, target.family) == ("citext", "bpchar")
        context: Context = "assignment" if by_assignment else "implicit"
        return context, trimmed if source.family == "bpchar" else same
    if source.family == "bool":
        return "assignment", lambda value, _styles: b"true" if value == b"t" else b"false"
    if source.family in ("inet", "cidr"):
        return "assignment", lambda value, _styles: value if b"/" in value else value + (b"/128" if b":" in value else b"/32")
    return "assignment", codec(source).to_text


def same(value: bytes, _styles: Styles) -> bytes:
    """Return the value."""
    return value


def trimmed(value: bytes, _styles: Styles) -> bytes:
    """Return a text without the blanks at its end."""
    return value.rstrip(b" ")


# -- numbers -------------------------------------------------------------------------------------------------------------------


def _numbers(one: str, target: DeclaredType) -> tuple[Context, Cast]:
    other = target.family
    order = ["int2", "int4", "int8", "numeric", "float4", "float8"]
    context: Context = "implicit" if order.index(one) < order.index(other) else "assignment"
    if other in INTEGERS:
        return context, _to_integer(one, *INTEGERS[other])
    if other == "numeric":
        return context, same if one in INTEGERS else _float_to_numeric(6 if one == "float4" else 15)
    if one == "float4":
        return context, lambda value, _styles: widened(value)
    if one == "float8":
        return context, _to_float4
    return context, codec(target).from_text


def _to_integer(one: str, shown: str, bits: int) -> Cast:
    rounding = ROUND_HALF_EVEN if one in FLOATS else ROUND_HALF_UP

    def convert(value: bytes, _styles: Styles) -> bytes:
        if one == "float4":
            value = widened(value)
        number = Decimal(value.decode())
        if not number.is_finite():
            if one == "numeric":
                raise NotReadExactly(f"cannot convert {'NaN' if number.is_nan() else 'infinity'} to {shown}")
            raise NumericValueOutOfRange(f"{shown} out of range")
        whole = int(number.to_integral_value(rounding))
        if not -(1 << bits - 1) <= whole < 1 << bits - 1:
            raise NumericValueOutOfRange(f"{shown} out of range")
        return b"%d" % whole

    return convert


def _float_to_numeric(digits: int) -> Cast:
    def convert(value: bytes, _styles: Styles) -> bytes:
        number = float(value)
        if not math.isfinite(number):
            return value
        return format(Decimal(f"{number:.{digits}g}") + 0, "f").encode()  # there is no -0 among numerics

    return convert


def widened(value: bytes) -> bytes:
    """Return a canonical float4 as the float8 that it is."""
    number = struct.unpack("!f", struct.pack("!f", float(value)))[0]
    return codec(FLOAT8).from_text(repr(number).encode(), Styles.CANONICAL)


def _to_float4(value: bytes, _styles: Styles) -> bytes:
    number = float(value)
    try:
        packed = struct.pack("!f", number)
    except OverflowError:
        raise NumericValueOutOfRange("value out of range: overflow") from None
    if number and not struct.unpack("!f", packed)[0]:
        raise NumericValueOutOfRange("value out of range: underflow")
    return codec(FLOAT4).from_binary(packed)


FLOAT8 = DeclaredType.builtin("float8")
FLOAT4 = DeclaredType.builtin("float4")
NUMERIC = DeclaredType.builtin("numeric")
TIMESTAMP = DeclaredType.builtin("timestamp")
TIMESTAMPTZ = DeclaredType.builtin("timestamptz")


# -- dates and times -----------------------------------------------------------------------------------------------------------


def to_timestamp(value: bytes, _styles: Styles = Styles.CANONICAL) -> bytes:
    """Return a canonical date as the timestamp of its midnight; 22008 where timestamps end before."""
    if value.endswith(b"infinity"):
        return value
    day, _, era = value.partition(b" ")
    try:
        return codec(TIMESTAMP).from_text(day + b" 00:00:00" + (b" BC" if era else b""), Styles.CANONICAL)
    except DatetimeFieldOverflow:
        raise DatetimeFieldOverflow("date out of range for timestamp") from None


def zoned(value: bytes, styles: Styles) -> bytes:
    """Return a canonical timestamp as the timestamptz that it is in the session's zone."""
    return codec(TIMESTAMPTZ).from_text(value, Styles(time_zone=styles.time_zone))


def date_zoned(value: bytes, styles: Styles) -> bytes:
    """Return a canonical date as the timestamptz of its midnight in the session's zone."""
    return zoned(to_timestamp(value, styles), styles)


def _local(value: bytes, styles: Styles) -> bytes:
    """Return a canonical timestamptz as the timestamp that the session's clock shows."""
    shown = codec(TIMESTAMPTZ).to_text(value, Styles(time_zone=styles.time_zone))
    if shown.endswith(b"infinity"):
        return shown
    day, clock, *era = shown.split(b" ")
    return b" ".join((day, clock[:8] + _fraction(clock), *era))


def on_the_clock(value: bytes, styles: Styles) -> bytes:
    """Return a canonical timestamptz as the canonical timestamp that the session's clock shows."""
    return codec(TIMESTAMP).from_text(_local(value, styles), Styles.CANONICAL)  # which may be later than the last of them


def midnight(value: bytes, styles: Styles) -> bytes:
    """Return the timestamp of the day that begins with this timestamptz in the session's zone; of any other moment what none is."""
    day = to_timestamp(to_date(_local(value, styles)))
    return day if zoned(day, styles) == value else value


def _fraction(clock: bytes) -> bytes:
    return clock[8 : len(clock) - len(clock[8:].lstrip(b".0123456789"))]


def to_date(value: bytes, _styles: Styles = Styles.CANONICAL) -> bytes:
    """Return a canonical timestamp without its time."""
    day, _, rest = value.partition(b" ")
    return day + (b" BC" if rest.endswith(b" BC") else b"")


def _time_of(value: bytes, _styles: Styles) -> bytes:
    if value.endswith(b"infinity"):
        raise NotReadExactly("the time of an infinite timestamp is NULL, which is not understood here")
    return value.split(b" ")[1]


def _after_local(function: Cast) -> Cast:
    return lambda value, styles: function(_local(value, styles), styles)


# -- the rest ------------------------------------------------------------------------------------------------------------------


def host(value: bytes, _styles: Styles) -> bytes:
    """Return a canonical cidr as an inet."""
    return value.removesuffix(b"/32") if b":" not in value else value.removesuffix(b"/128")


def _network(value: bytes, _styles: Styles) -> bytes:
    return codec(DeclaredType.builtin("cidr")).from_text(str(ip_interface(value.decode()).network).encode(), Styles.CANONICAL)


def _others(one: str, target: DeclaredType) -> tuple[Context, Cast | None] | None:
    if one in ("json", "jsonb") and target.family in ("json", "jsonb"):
        return "assignment", codec(target).from_text
    return _PAIRS.get((one, target.family))


_PAIRS: dict[tuple[str, str], tuple[Context, Cast | None]] = {
    ("bool", "int4"): ("explicit", lambda value, _styles: b"1" if value == b"t" else b"0"),
    ("int4", "bool"): ("explicit", lambda value, _styles: b"f" if value == b"0" else b"t"),
    ("cidr", "inet"): ("implicit", host),
    ("inet", "cidr"): ("assignment", _network),
    ("date", "timestamp"): ("implicit", to_timestamp),
    ("date", "timestamptz"): ("implicit", date_zoned),
    ("timestamp", "timestamptz"): ("implicit", zoned),
    ("timestamp", "date"): ("assignment", to_date),
    ("timestamp", "time"): ("assignment", _time_of),
    ("timestamptz", "timestamp"): ("assignment", on_the_clock),
    ("timestamptz", "date"): ("assignment", _after_local(to_date)),
    ("timestamptz", "time"): ("assignment", _after_local(_time_of)),
    ("timestamptz", "timetz"): ("assignment", None),
    ("time", "interval"): ("implicit", same),
    ("time", "timetz"): ("implicit", None),  # of the zone's offset today
    ("timetz", "time"): ("assignment", lambda value, _styles: value[:8] + _fraction(value)),
    ("interval", "time"): ("assignment", None),
    **{("jsonb", name): ("explicit", None) for name in (*NUMBERS, "bool")},
}
