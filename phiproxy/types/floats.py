"""float4 and float8: canonical is the shortest spelling that is read as the same number, ``1e+15``, ``-0``, ``NaN``.

Python's ``float`` is the number, its ``repr`` the digits; only float4, which Python lacks, and the spelling are our own.
"""

import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

from phiproxy.types.codec import Codec, unlimited
from phiproxy.types.integers import BLANKS
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import NotReadExactly, bad_syntax, expect_length, out_of_range

_NUMBER = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX = re.compile(rb"[+-]?0[xX][0-9a-fA-F.]|[+-]?nan\(", re.IGNORECASE)
_INFINITE = {sign + word: float(sign + word) for sign in (b"", b"+", b"-") for word in (b"nan", b"inf", b"infinity")}
_DOUBLE = struct.Struct("!d")
_SINGLE = struct.Struct("!f")
_LARGEST_SINGLE = (2 - 2.0**-23) * 2.0**127
_EDGES_FROM, _EDGES_TO = 2.0**52, 1e41
_TOO_LARGE = (2 - 2.0**-24) * 2.0**127  # from here on the nearest float4 is infinite


def _read(field: bytes, type_name: str) -> tuple[float, bytes]:
    """Return the float8 and the digits that were read."""
    text = field.strip(BLANKS)
    if _NUMBER.fullmatch(text):
        return float(text), text
    special = _INFINITE.get(text.lower())
    if special is not None:
        return special, b""
    if _HEX.match(text):
        hint = "write the number in decimal digits"
        raise NotReadExactly(f"this spelling of type {type_name} is not read the same by every PostgreSQL", hint=hint)
    raise bad_syntax(type_name)


def _out_of_range(value: float, digits: bytes) -> bool:
    """Tell whether digits were read as infinity, or as zero although they are not."""
    if not digits:
        return False
    return math.isinf(value) or (value == 0 and bool(re.split(rb"[eE]", digits)[0].strip(b"+-0.")))


def _double_from_text(field: bytes, styles: Styles) -> bytes:
    value, digits = _read(field, "double precision")
    if _out_of_range(value, digits):
        raise out_of_range("double precision")
    return spell_double(value)


def _single_from_text(field: bytes, styles: Styles) -> bytes:
    value, digits = _read(field, "real")
    single = _nearest_single(value, digits)
    if _out_of_range(single, digits):
        raise out_of_range("real")
    return spell_single(single)


def _nearest_single(value: float, digits: bytes) -> float:
    """Round decimal digits to float4 once, not first to float8: a tie between two float4 is decided by the digits themselves."""
    if not math.isfinite(value):
        return value
    if abs(value) >= _TOO_LARGE:
        smaller = abs(value) == _TOO_LARGE and abs(Decimal(digits.decode())) < Decimal(_TOO_LARGE)
        return math.copysign(_LARGEST_SINGLE if smaller else math.inf, value)
    single = _single(value)
    bits = int.from_bytes(_SINGLE.pack(single), "big")
    if single == value or bits & 0x7FFFFFFF == 0x7F7FFFFF:
        return single
    other: float = _SINGLE.unpack((bits + (1 if abs(value) > abs(single) else -1)).to_bytes(4, "big"))[0]
    if (Fraction(single) + Fraction(other)) / 2 != Fraction(value):
        return single
    exact, middle = Decimal(digits.decode()), Decimal(value)
    if exact == middle:
        return single
    return max(single, other) if exact > middle else min(single, other)


def _single(value: float) -> float:
    if abs(value) >= _TOO_LARGE:
        return math.copysign(math.inf, value)
    single: float = _SINGLE.unpack(_SINGLE.pack(value))[0]
    return single


def _spell(digits: str, exponent: int, *, negative: bool, upper: int) -> bytes:
    """Write digits d.ddd times ten to the exponent as C's %g does, in plain form below the upper exponent."""
    if -5 < exponent < upper:
        if exponent < 0:
            text = "0." + "0" * (-exponent - 1) + digits
        elif len(digits) <= exponent + 1:
            text = digits.ljust(exponent + 1, "0")
        else:
            text = f"{digits[: exponent + 1]}.{digits[exponent + 1 :]}"
    else:
        text = digits[0] + ("." + digits[1:] if len(digits) > 1 else "") + f"e{exponent:+03d}"
    return (("-" if negative else "") + text).encode()


def _special(value: float) -> bytes | None:
    if math.isfinite(value):
        return None if value else (b"-0" if math.copysign(1, value) < 0 else b"0")
    return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"


def _digits(text: str) -> tuple[str, int]:
    """Return the significant digits and the exponent of the first one."""
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    stripped = (whole + fraction).lstrip("0")
    first = len(whole) - 1 - (len(whole + fraction) - len(stripped))
    return stripped.rstrip("0"), first + int(exponent or 0)


def spell_double(value: float) -> bytes:
    """Return the canonical form of a float8."""
    special = _special(value)
    if special is not None:
        return special
    magnitude = abs(value)
    if 1e-4 <= magnitude < 1e15:
        return repr(value).removesuffix(".0").encode()
    digits, exponent = _digits(repr(magnitude))
    # Python takes digits at the very edge of what rounds to the number, PostgreSQL only what is within. Elsewhere an edge has more
    # than 17 digits.
    if _EDGES_FROM <= magnitude < _EDGES_TO:
        digits, exponent = _within(digits, exponent, magnitude)
    return _spell(digits, exponent, negative=value < 0, upper=15)


def _within(digits: str, exponent: int, value: float) -> tuple[str, int]:
    low = (Fraction(value) + Fraction(math.nextafter(value, 0))) / 2
    high = (Fraction(value) + Fraction(math.nextafter(value, math.inf))) / 2
    if low < Fraction(f"{digits}e{exponent - len(digits) + 1}") < high:
        return digits, exponent
    return _shortest(Fraction(value), low, high, exponent)


def _shortest(value: Fraction, low: Fraction, high: Fraction, exponent: int) -> tuple[str, int]:
    """Return the fewest digits strictly between the bounds, of these the nearest to the value."""
    for precision in range(1, 18):
        unit = Fraction(10) ** (exponent - precision + 1)
        below = value // unit
        candidates = [n for n in (below, below + 1) if low < n * unit < high]
        if candidates:
            digits = str(min(candidates, key=lambda n: abs(n * unit - value)))
            return digits.rstrip("0"), exponent + len(digits) - precision
    raise AssertionError("17 digits always suffice")


def spell_single(value: float) -> bytes:
    """Return the canonical form of a float4."""
    special = _special(value)
    if special is not None:
        return special
    magnitude = abs(value)
    for precision in range(9):
        text = f"{magnitude:.{precision}e}"
        if _single(float(text)) == magnitude:
            break
    digits, exponent = _digits(text)
    if precision > 5 or exponent > 6:
        digits, exponent = _within_single(magnitude, digits, exponent)
    return _spell(digits, exponent, negative=value < 0, upper=6)


def _within_single(value: float, digits: str, exponent: int) -> tuple[str, int]:
    """Return other digits where these lie on the edge, or where a power of two, whose lower half is narrower, has fewer above."""
    bits = int.from_bytes(_SINGLE.pack(value), "big")
    exact = Fraction(value)
    below = Fraction(_SINGLE.unpack((bits - 1).to_bytes(4, "big"))[0])
    above = 2 * exact - below if bits == 0x7F7FFFFF else Fraction(_SINGLE.unpack((bits + 1).to_bytes(4, "big"))[0])
    low, high = (exact + below) / 2, (exact + above) / 2
    if bits & 0x7FFFFF and low < Fraction(f"{digits}e{exponent - len(digits) + 1}") < high:
        return digits, exponent
    return _shortest(exact, low, high, _digits(f"{value:.9e}")[1])


def _text(decimal_digits: int) -> Callable[[bytes, Styles], bytes]:
    """Return the output function; with extra_float_digits at most 0 it rounds to so many digits (manual 20.11.2)."""

    def to_text(canonical: bytes, styles: Styles) -> bytes:
        if styles.extra_float_digits > 0 or canonical[-1:] in (b"N", b"y"):
            return canonical
        value = float(canonical) if decimal_digits == _DOUBLE_DIGITS else _single(float(canonical))
        return f"{value:.{max(1, decimal_digits + styles.extra_float_digits)}g}".encode()

    return to_text


def _double_form(canonical: bytes) -> bytes:
    return b"0" if canonical == b"-0" else canonical


_DOUBLE_DIGITS = 15
FLOAT8 = Codec(
    _double_from_text,
    lambda field: spell_double(_DOUBLE.unpack(expect_length(field, 8))[0]),
    _text(_DOUBLE_DIGITS),
    lambda canonical: _DOUBLE.pack(float(canonical)),
    unlimited,
    _double_form,
)
FLOAT4 = Codec(
    _single_from_text,
    lambda field: spell_single(_SINGLE.unpack(expect_length(field, 4))[0]),
    _text(6),
    lambda canonical: _SINGLE.pack(float(canonical)),
    unlimited,
    lambda canonical: _double_form(spell_double(_single(float(canonical)))),
)
