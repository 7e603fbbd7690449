"""int2, int4 and int8: whoever sends ``0x1F`` or ``1_000``, which PostgreSQL reads only since 16, is told to write decimals."""

import re
import struct

from phiproxy.types.codec import Codec, as_is, as_text, unlimited
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import NotReadExactly, bad_syntax, expect_length, out_of_range

BLANKS = b" \t\n\r\v\f"
"""What C's isspace takes, and with it PostgreSQL's input functions."""

DECIMAL_ONLY = "write the number in decimal digits: not every version of PostgreSQL reads this spelling"
MODERN = re.compile(rb"[+-]?0[xX]_?[0-9a-fA-F]|[+-]?0[oO]_?[0-7]|[+-]?0[bB]_?[01]|[+-]?\.?\d[^_]*_")
_CANONICAL = re.compile(rb"-?[1-9][0-9]*|0")
_INTEGER = re.compile(rb"[+-]?[0-9]+")


def modern_spelling(field: bytes, type_name: str) -> Exception:
    """Return the error for what is no number in decimal digits: perhaps one of a later PostgreSQL."""
    if MODERN.match(field):
        return NotReadExactly(f"this spelling of type {type_name} is not read the same by every PostgreSQL", hint=DECIMAL_ONLY)
    return bad_syntax(type_name)


def _integer(type_name: str, size: int, layout: str) -> Codec:
    low, high = -(1 << (8 * size - 1)), (1 << (8 * size - 1)) - 1
    packing = struct.Struct(layout)
    short = len(str(high)) - 1
    """So many digits fit always."""

    def from_text(field: bytes, styles: Styles) -> bytes:
        if len(field) <= short and _CANONICAL.fullmatch(field):
            return field
        digits = field.strip(BLANKS)
        if not _INTEGER.fullmatch(digits):
            raise modern_spelling(digits, type_name)
        significant = digits.lstrip(b"+-").lstrip(b"0")
        if len(significant) > short + 1:
            raise out_of_range(type_name)
        value = int(significant or b"0")
        if digits[:1] == b"-":
            value = -value
        if not low <= value <= high:
            raise out_of_range(type_name)
        return b"%d" % value

    def from_binary(field: bytes) -> bytes:
        return b"%d" % int.from_bytes(expect_length(field, size), "big", signed=True)

    def to_binary(canonical: bytes) -> bytes:
        return packing.pack(int(canonical))

    return Codec(from_text, from_binary, as_text, to_binary, unlimited, as_is)


INT2 = _integer("smallint", 2, "!h")
INT4 = _integer("integer", 4, "!i")
INT8 = _integer("bigint", 8, "!q")
