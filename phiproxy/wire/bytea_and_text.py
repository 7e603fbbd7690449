"""Text and binary forms that the proxy itself must read: bytea (manual 8.4.1, hex format), and whether text is valid (23.3)."""

import re
from binascii import Error as HexError
from binascii import unhexlify
from codecs import getincrementaldecoder

from phiproxy.errors import InvalidEncoding, SealError, StringTooLong
from phiproxy.long_values import LONG_VALUE, cut, together

_ZERO = 'invalid byte sequence for encoding "UTF8": 0x00'
_INVALID = 'invalid byte sequence for encoding "UTF8"'
_DECODER = getincrementaldecoder("utf-8")
_ESCAPE = re.compile(rb"\\(\\|[0-3][0-7]{2})")
HEX = b"\\x"
NOT_BYTEA = "a protected value is not in bytea's text form"


def bytea_from_text(field: bytes) -> bytes:
    r"""Return the bytes of a bytea in text form: hex (``\x…``), or escape where the session set bytea_output so; else SealError."""
    if field[:2] == HEX:
        try:
            if len(field) > LONG_VALUE:
                return together([unhexlify(piece) for piece in cut(field, 2, len(field))])
            return unhexlify(field[2:])
        except HexError:
            raise SealError(NOT_BYTEA) from None
    plain = _ESCAPE.sub(lambda m: m[1] if m[1] == b"\\" else bytes((int(m[1], 8),)), field)
    if not field.isascii():
        raise SealError(NOT_BYTEA)
    return plain


def check_text(value: bytes) -> bytes:
    """Return ``value`` when it is valid UTF-8 without zero bytes, as text in a UTF-8 database must be; else 22021."""
    if len(value) > LONG_VALUE:
        return _check_long_text(value)
    if 0 in value:
        raise InvalidEncoding(_ZERO)
    if not value.isascii():
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidEncoding(_INVALID) from None
    return value


def _check_long_text(value: bytes) -> bytes:
    """Do what ``check_text`` does in pieces: another thread may go on, and the whole is not decoded into one text."""
    decoder = _DECODER()
    try:
        for piece in cut(value, 0, len(value)):
            if 0 in piece:
                raise InvalidEncoding(_ZERO)
            if not piece.isascii() or decoder.getstate()[0]:
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InvalidEncoding(_INVALID) from None
    return value


def assign_varchar(value: bytes, limit: int) -> bytes:
    """Apply varchar(n) as an assignment does (manual 8.3): excess blanks are cut, anything else in excess is 22001."""
    if len(value) <= limit:
        return value
    text = value.decode("utf-8")
    if len(text) <= limit:
        return value
    if text[limit:].strip(" "):
        raise StringTooLong(f"value too long for type character varying({limit})")
    return text[:limit].encode("utf-8")


def cut_text(value: bytes, limit: int) -> bytes:
    """Cut a text as an explicit cast to varchar(n) does (manual 8.3); 22021 when it is no text."""
    return value if len(check_text(value)) <= limit else value.decode("utf-8")[:limit].encode("utf-8")
