"""json and jsonb: json keeps its text; jsonb's canonical form has its keys in order, once each, and numbers as numeric prints them.

Read and checked by Python's ``json``: its grammar is PostgreSQL's once NaN and Infinity are refused. Numbers stay text on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import NoReturn

from phiproxy.errors import ValueRefused
from phiproxy.types.codec import Codec, as_is, as_text, unlimited
from phiproxy.types.numerics import read_number, shortest
from phiproxy.types.refused import InvalidBinaryRepresentation, NotReadExactly, UntranslatableCharacter, bad_syntax
from phiproxy.types.styles import Styles
from phiproxy.wire.values import check_text

Value = str | bytes | bool | None | list["Value"] | dict[str, "Value"]
"""A JSON value; a number is the bytes of its digits."""

MAX_DEPTH = 500
_VERSION = b"\x01"
# A string, whose brackets are none, or a bracket.
_BRACKET = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"?|[\[\]{}]', re.DOTALL)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _number(text: str) -> bytes:
    return text.encode()


_DECODER = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_refuse_constant)


def parse(field: bytes, decoder: json.JSONDecoder = _DECODER) -> Value:
    """Read JSON; ValueRefused (22P02) where PostgreSQL refuses it."""
    text = check_text(field).decode("utf-8")
    if field.count(b"[") + field.count(b"{") > MAX_DEPTH:
        _check_depth(field)
    try:
        value: Value = decoder.decode(text)
    except ValueError:
        raise bad_syntax("json") from None
    return value


def _check_depth(field: bytes) -> None:
    """Refuse what is nested deeper than is read: Python's decoder recurses, on a stack that has an end."""
    depth = 0
    for token in _BRACKET.finditer(field):
        opened = token[0]
        depth += opened in (b"[", b"{")
        depth -= opened in (b"]", b"}")
        if depth > MAX_DEPTH:
            raise _too_deep()


def _too_deep() -> NotReadExactly:
    return NotReadExactly("a json value is nested too deeply", hint="values are read to a depth of some hundreds")


def _json_from_binary(field: bytes) -> bytes:
    parse(field)
    return field


def _json_from_text(field: bytes, styles: Styles) -> bytes:
    return _json_from_binary(field)


def _refuse_form(canonical: bytes) -> bytes:
    """Raise: json has no ``=``, and so no index."""
    raise ValueRefused("could not identify an equality operator for type json")


JSON = Codec(_json_from_text, _json_from_binary, as_text, as_is, unlimited, _refuse_form)


def _spell(value: Value, number: Callable[[bytes], bytes]) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, bytes):
        return number(value).decode()
    if isinstance(value, dict):
        keys = sorted(value, key=_key_order)
        return "{" + ", ".join([f"{encode_basestring(key)}: {_spell(value[key], number)}" for key in keys]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join([_spell(item, number) for item in value]) + "]"
    return "null" if value is None else "true" if value else "false"


def _key_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode("utf-8", "surrogatepass")
    return len(encoded), encoded


def _normalised(field: bytes) -> bytes:
    return _checked(parse(field, _UNIQUE))


def _checked(value: Value) -> bytes:
    """Return jsonb's text of a value, once it is seen that jsonb can hold it."""
    text = _spell(value, read_number)
    if "\\u0000" in text and _holds_zero(value):
        raise UntranslatableCharacter("unsupported Unicode escape sequence")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise bad_syntax("json") from None  # one half of a surrogate pair


def _last_of_each(pairs: list[tuple[str, Value]]) -> Value:
    """Return an object of the last value of each key; the others are checked before they are forgotten."""
    found = dict(pairs)
    if len(found) != len(pairs):
        for _, value in pairs:
            _checked(value)
    return found


_UNIQUE = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_refuse_constant, object_pairs_hook=_last_of_each)


def _holds_zero(value: Value) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _holds_zero(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_holds_zero, value))


def _jsonb_from_text(field: bytes, styles: Styles) -> bytes:
    return _normalised(field)


def _jsonb_from_binary(field: bytes) -> bytes:
    if field[:1] != _VERSION:
        raise InvalidBinaryRepresentation("unsupported jsonb version number")
    return _normalised(field[1:])


def _jsonb_to_binary(canonical: bytes) -> bytes:
    return _VERSION + canonical


def _jsonb_form(canonical: bytes) -> bytes:
    """Return the canonical text with numbers in numeric's equality form: 1.0 is 1."""
    return _spell(parse(canonical), shortest).encode("utf-8") if b"." in canonical else canonical


JSONB = Codec(_jsonb_from_text, _jsonb_from_binary, as_text, _jsonb_to_binary, unlimited, _jsonb_form)
