"""numeric: canonical as PostgreSQL prints it, with its scale: ``1.50``, ``-0.001``, ``NaN``, ``-Infinity``.

Digits as text, and not ``decimal``: that has one exponent where PostgreSQL has a scale that is kept apart (``0e3`` is ``0``),
rounds by a context, and the longest numbers here (131072 digits before the point) are more than Python turns into ``int`` or back.
"""

import re
import struct

from phiproxy.types.codec import Codec, as_text
from phiproxy.types.integers import BLANKS, modern_spelling
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import InvalidBinaryRepresentation, NotReadExactly, NumericValueOutOfRange, ProtocolViolation

_CANONICAL = re.compile(rb"-?(?:[1-9][0-9]*|0)\.[0-9]+|-?[1-9][0-9]*|0")
_NUMBER = re.compile(rb"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([+-]?[0-9]+))?")
_BLANK_IN_EXPONENT = re.compile(rb"[0-9.][eE][ \t\n\r\v\f]+[+-]?[0-9]")
_SPECIAL = {
    b"nan": b"NaN",
    **{sign + word: sign.strip(b"+") + b"Infinity" for sign in (b"", b"+", b"-") for word in (b"inf", b"infinity")},
}
_SIGNS = {b"NaN": 0xC000, b"Infinity": 0xD000, b"-Infinity": 0xF000}
_SPECIAL_SIGNS = {sign: text for text, sign in _SIGNS.items()}
_NEGATIVE = 0x4000
_MAX_WHOLE = 131_072
_MAX_SCALE = 16_383
_MAX_EXPONENT_DIGITS = 9
_HEADER = struct.Struct("!HhHH")


def _overflow() -> NumericValueOutOfRange:
    return NumericValueOutOfRange("value overflows numeric format")


def _from_text(field: bytes, styles: Styles) -> bytes:
    if len(field) < 1000 and _CANONICAL.fullmatch(field) and (field[:1] != b"-" or field.strip(b"-0.")):
        return field
    return read_number(field)


def read_number(field: bytes) -> bytes:
    """Return the canonical form of a number in any spelling that every version of PostgreSQL reads."""
    text = field.strip(BLANKS)
    match = _NUMBER.fullmatch(text)
    if match is None:
        special = _SPECIAL.get(text.lower())
        if special is None and _BLANK_IN_EXPONENT.search(text):
            raise NotReadExactly("a blank within a numeric is not read by every PostgreSQL", hint="write the number without blanks")
        if special is None:
            raise modern_spelling(text, "numeric")
        return special
    sign, whole, fraction, bare, exponent = match.groups()
    return _scaled(sign == b"-", whole or b"", fraction or bare or b"", exponent or b"0")


def _scaled(negative: bool, whole: bytes, fraction: bytes, exponent: bytes) -> bytes:  # noqa: FBT001
    figures = exponent.lstrip(b"+-0") or b"0"
    if len(figures) > _MAX_EXPONENT_DIGITS:
        raise _overflow()
    shift = -int(figures) if exponent[:1] == b"-" else int(figures)
    digits = whole + fraction
    point = len(whole) + shift
    significant = digits.lstrip(b"0")
    scale = max(0, len(fraction) - shift)
    if scale > _MAX_SCALE or (significant and point - (len(digits) - len(significant)) > _MAX_WHOLE):
        raise _overflow()
    if not significant:
        return b"0." + b"0" * scale if scale else b"0"
    if point <= 0:
        return _spell(negative, b"", b"0" * -point + digits)
    return _spell(negative, digits[:point].ljust(point, b"0"), digits[point:])


def _spell(negative: bool, whole: bytes, fraction: bytes) -> bytes:  # noqa: FBT001
    whole = whole.lstrip(b"0") or b"0"
    text = whole + b"." + fraction if fraction else whole
    return b"-" + text if negative and text.strip(b"0.") else text


def _split(canonical: bytes) -> tuple[bool, bytes, bytes]:
    negative = canonical[:1] == b"-"
    whole, _, fraction = canonical[negative:].partition(b".")
    return negative, whole, fraction


def _from_binary(field: bytes) -> bytes:
    try:
        count, weight, sign, scale = _HEADER.unpack_from(field)
        groups = struct.unpack_from(f"!{count}H", field, 8)
    except struct.error:
        raise ProtocolViolation("insufficient data left in message") from None
    if sign not in (0, _NEGATIVE) and sign not in _SPECIAL_SIGNS:
        raise InvalidBinaryRepresentation('invalid sign in external "numeric" value')
    if scale > _MAX_SCALE:
        raise InvalidBinaryRepresentation('invalid scale in external "numeric" value')
    if any(group > 9999 for group in groups):
        raise InvalidBinaryRepresentation('invalid digit in external "numeric" value')
    if len(field) != 8 + 2 * count:
        raise InvalidBinaryRepresentation("incorrect binary data format in a value")
    if sign in _SPECIAL_SIGNS:
        return _SPECIAL_SIGNS[sign]
    digits = b"".join([b"%04d" % group for group in groups])
    point = 4 * (weight + 1)
    if point < 0:
        digits, point = b"0" * -point + digits, 0
    # Digits beyond the scale are cut, not rounded, as the server does.
    return _spell(sign == _NEGATIVE, digits[:point].ljust(point, b"0"), digits[point : point + scale].ljust(scale, b"0"))


def _to_binary(canonical: bytes) -> bytes:
    special = _SIGNS.get(canonical)
    if special is not None:
        # The server sends a scale of 32 with the infinities: a bit of their own header.
        return _HEADER.pack(0, 0, special, 0 if canonical == b"NaN" else 32)
    negative, whole, fraction = _split(canonical)
    padded = whole.rjust(-(-len(whole) // 4) * 4, b"0") + fraction.ljust(-(-len(fraction) // 4) * 4, b"0")
    groups = [int(padded[i : i + 4]) for i in range(0, len(padded), 4)]
    weight = -(-len(whole) // 4) - 1
    while groups and groups[-1] == 0:
        groups.pop()
    first = next((i for i, group in enumerate(groups) if group), 0)
    sign = _NEGATIVE if negative else 0
    header = _HEADER.pack(len(groups) - first, weight - first if groups else 0, sign, len(fraction))
    return header + struct.pack(f"!{len(groups) - first}H", *groups[first:])


def _assign(canonical: bytes, typmod: int) -> bytes:
    """Round to the scale, half away from zero, and fail where the digits before the point do not fit (manual 8.1.2)."""
    if typmod < 4:
        return canonical
    if canonical in _SIGNS:
        if canonical == b"NaN":
            return canonical
        raise NumericValueOutOfRange("numeric field overflow")
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, ((typmod - 4 & 0x7FF) ^ 1024) - 1024
    negative, whole, fraction = round_digits(*_split(canonical), scale)
    significant = whole.lstrip(b"0")
    before = len(significant) or len(fraction.lstrip(b"0")) - len(fraction)
    if before > precision - scale and (significant or fraction.strip(b"0")):
        raise NumericValueOutOfRange("numeric field overflow")
    return _spell(negative, whole, fraction)


def round_digits(negative: bool, whole: bytes, fraction: bytes, scale: int) -> tuple[bool, bytes, bytes]:  # noqa: FBT001
    """Round a number, half away from zero, to so many digits after the point, or before it when negative."""
    digits, length = whole + fraction, len(whole) + scale
    if len(fraction) <= scale:
        return negative, whole, fraction.ljust(scale, b"0")
    if length < 0:
        return False, b"0", b""
    rounded = digits[:length]
    if digits[length : length + 1] >= b"5":
        rounded = _increment(rounded)
    rounded = rounded.rjust(length, b"0")
    point = len(rounded) - max(scale, 0)
    if scale < 0:
        return negative, rounded + b"0" * -scale, b""
    return negative, rounded[:point], rounded[point:]


def _increment(digits: bytes) -> bytes:
    head = digits.rstrip(b"9")
    nines = len(digits) - len(head)
    return (head[:-1] + b"%d" % (int(head[-1:]) + 1) if head else b"1") + b"0" * nines


def shortest(canonical: bytes) -> bytes:
    """Return the equality form: no needless zeros after the point."""
    return canonical.rstrip(b"0").removesuffix(b".") if b"." in canonical else canonical


NUMERIC = Codec(_from_text, _from_binary, as_text, _to_binary, _assign, shortest)
