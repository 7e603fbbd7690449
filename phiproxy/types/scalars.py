"""bool, uuid and bytea."""

import re
from binascii import Error as HexError
from binascii import unhexlify

from phiproxy.types.codec import Codec, as_is, as_text, unlimited
from phiproxy.types.integers import BLANKS
from phiproxy.types.styles import Styles
from phiproxy.types.value_errors import InvalidParameterValue, bad_syntax, expect_length

_TRUE = frozenset({b"t", b"tr", b"tru", b"true", b"y", b"ye", b"yes", b"on", b"1"})
_FALSE = frozenset({b"f", b"fa", b"fal", b"fals", b"false", b"n", b"no", b"of", b"off", b"0"})


def _bool_from_text(field: bytes, styles: Styles) -> bytes:
    word = field.strip(BLANKS).lower()
    if word in _TRUE:
        return b"t"
    if word in _FALSE:
        return b"f"
    raise bad_syntax("boolean")


BOOL = Codec(
    _bool_from_text,
    lambda field: b"f" if expect_length(field, 1) == b"\x00" else b"t",
    as_text,
    lambda canonical: b"\x01" if canonical == b"t" else b"\x00",
    unlimited,
    as_is,
)

_CANONICAL_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Python's UUID takes hyphens anywhere and "urn:uuid:"; PostgreSQL takes them after each group of four digits only.
_UUID = re.compile(rb"(\{)?([0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7})(?(1)\})")


def _uuid_from_text(field: bytes, styles: Styles) -> bytes:
    if _CANONICAL_UUID.fullmatch(field):
        return field
    match = _UUID.fullmatch(field)
    if match is None:
        raise bad_syntax("uuid")
    return _spell_uuid(match[2].replace(b"-", b"").lower())


def _spell_uuid(digits: bytes) -> bytes:
    return b"-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


UUID = Codec(
    _uuid_from_text,
    lambda field: _spell_uuid(expect_length(field, 16).hex().encode()),
    as_text,
    lambda canonical: unhexlify(canonical.replace(b"-", b"")),
    unlimited,
    as_is,
)

_ESCAPED = re.compile(rb"\\(\\|[0-3][0-7][0-7])")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}|[ \n\t\r])*")
_HEX_DIGIT_OR_BLANK = re.compile(rb"[0-9a-fA-F \n\t\r]*")
_ESCAPE_OUT = [b"\\\\" if c == 0x5C else bytes((c,)) if 0x20 <= c <= 0x7E else b"\\%03o" % c for c in range(256)]


def _bytea_from_text(field: bytes, styles: Styles) -> bytes:
    return _bytea_from_binary(_unhex(field[2:]) if field[:2] == b"\\x" else _unescape(field))


def _unhex(digits: bytes) -> bytes:
    try:
        return unhexlify(digits)
    except HexError:
        pass
    if _HEX.fullmatch(digits):
        return unhexlify(digits.translate(None, b" \n\t\r"))
    if _HEX_DIGIT_OR_BLANK.fullmatch(digits) and len(digits.translate(None, b" \n\t\r")) % 2:
        raise InvalidParameterValue("invalid hexadecimal data: odd number of digits")
    raise InvalidParameterValue("invalid hexadecimal digit")


def _unescape(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    plain = _ESCAPED.sub(b"", field)
    if b"\\" in plain:
        raise bad_syntax("bytea")
    return _ESCAPED.sub(lambda m: m[1] if m[1] == b"\\" else bytes((int(m[1], 8),)), field)


def _bytea_from_binary(field: bytes) -> bytes:
    return b"\\x" + field.hex().encode()


def _bytea_to_text(canonical: bytes, styles: Styles) -> bytes:
    if styles.bytea_output == "hex":
        return canonical
    return b"".join([_ESCAPE_OUT[c] for c in unhexlify(canonical[2:])])


BYTEA = Codec(_bytea_from_text, _bytea_from_binary, _bytea_to_text, lambda c: unhexlify(c[2:]), unlimited, as_is)
