r"""PostgreSQL's arrays as bounds and elements, in text and binary form; knows nothing of what the elements mean.

Manual 8.15 (text form: ``{a,"b c",NULL}``, perhaps with bounds ``[0:1]={…}``); ``array_recv`` (binary form: number of dimensions,
flags, element type, per dimension length and lower bound, then length-prefixed elements, -1 for NULL).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from phiproxy.errors import ValueRefused
from phiproxy.wire.oids import BYTEA_OID, TEXT_ARRAY_OID, TEXT_OID, VARCHAR_ARRAY_OID, VARCHAR_OID

MAX_DIMENSIONS = 6

_TOO_MANY = "number of array dimensions exceeds the maximum allowed"
_BLANK = rb"[ \t\n\r\v\f]"
_BOUNDS = re.compile(_BLANK + rb"*((?:\[(?:[+-]?\d{1,18}:)?[+-]?\d{1,18}\])+)" + _BLANK + rb"*=" + _BLANK + rb"*")
_BOUND = re.compile(rb"\[(?:([+-]?\d+):)?([+-]?\d+)\]")
_BARE = rb'(?:[^"{},\\ \t\n\r\v\f]|\\.)+'
_TOKEN = re.compile(
    _BLANK + rb'*(?:([{},])|"((?:[^"\\]|\\.)*)"|(' + _BARE + rb"(?:" + _BLANK + rb"+" + _BARE + rb")*))" + _BLANK + rb"*", re.DOTALL
)
_NEEDS_QUOTES = re.compile(rb'["\\{},]|' + _BLANK)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_SPECIAL = re.compile(rb'["\\]')


class WrongElementType(ValueRefused, sqlstate="42804"):
    """42804: an array in binary form is of another element type than text."""


class TooManyDimensions(ValueRefused, sqlstate="54000"):
    """54000: more dimensions than PostgreSQL has."""


class BadBinaryArray(ValueRefused, sqlstate="22P03"):
    """22P03: an array in binary form is not well-formed."""


@dataclass(frozen=True, slots=True)
class Array:
    """(length, lower bound) of each dimension, none for an empty array, and the elements in row-major order."""

    bounds: tuple[tuple[int, int], ...]
    elements: tuple[bytes | None, ...]

    def map(self, function: Callable[[bytes], bytes]) -> Array:
        """Return the array with every element that is not NULL mapped."""
        return Array(self.bounds, tuple(None if e is None else function(e) for e in self.elements))


EMPTY = Array((), ())


def malformed() -> ValueRefused:
    """Return PostgreSQL's error for a text that is no array (22P02), without the text."""
    return ValueRefused("malformed array literal")


def array_from_text(text: bytes) -> Array:
    """Read an array in text form; ValueRefused (22P02) where PostgreSQL would refuse it."""
    given = _BOUNDS.match(text)
    lengths, elements = _Reader(text, given.end() if given else 0).read()
    if not elements:
        if given is None:
            return EMPTY
        raise malformed()
    if given is None:
        return Array(tuple((n, 1) for n in lengths), tuple(elements))
    stated = [(int(m[1]) if m[1] else 1, int(m[2])) for m in _BOUND.finditer(given[1])]
    if [upper - lower + 1 for lower, upper in stated] != lengths:
        raise malformed()
    return Array(tuple((n, lower) for n, (lower, _) in zip(lengths, stated, strict=True)), tuple(elements))


class _Reader:
    """One pass over the tokens: how many elements each level has, and the elements of the innermost."""

    def __init__(self, text: bytes, start: int) -> None:
        self._tokens = _tokens(text, start)
        self._lengths: dict[int, int] = {}
        self._elements: list[bytes | None] = []

    def read(self) -> tuple[list[int], list[bytes | None]]:
        sign, _ = next(self._tokens, (b"", None))
        if sign != b"{":
            raise malformed()
        self._level(1)
        if next(self._tokens, None) is not None:
            raise malformed()
        return [self._lengths[depth] for depth in sorted(self._lengths)], self._elements

    def _level(self, depth: int) -> None:
        if depth > MAX_DIMENSIONS:
            raise TooManyDimensions(_TOO_MANY)
        count, comma, nested = 0, True, None
        for sign, element in self._tokens:
            if sign == b"}":
                if (comma and count) or self._lengths.setdefault(depth, count) != count:
                    break
                return
            if sign == b",":
                if comma:
                    break
                comma = True
                continue
            if not comma or (nested is not None and nested is not (sign == b"{")):
                break
            comma, nested, count = False, sign == b"{", count + 1
            if sign:
                self._level(depth + 1)
            elif depth + 1 in self._lengths:
                break
            else:
                self._elements.append(element)
        raise malformed()


def _tokens(text: bytes, start: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield (brace or comma, None) or (b"", element)."""
    while start < len(text):
        m = _TOKEN.match(text, start)
        if m is None:
            raise malformed()
        sign, quoted, bare = m.groups()
        start = m.end()
        if sign:
            yield sign, None
        elif quoted is not None:
            yield b"", _ESCAPED.sub(rb"\1", quoted)
        else:
            yield b"", None if bare.lower() == b"null" else _ESCAPED.sub(rb"\1", bare)


def array_from_binary(data: bytes, array_oid: int = TEXT_ARRAY_OID, element_oid: int = 0) -> Array:
    """Read a text[], varchar[] (``array_oid``) or an array of ``element_oid`` in binary form; BadBinaryArray, WrongElementType."""
    try:
        (dimensions,) = struct.unpack_from("!i", data)
        if dimensions > MAX_DIMENSIONS:
            raise TooManyDimensions(_TOO_MANY)
        flags, element_type = struct.unpack_from("!iI", data, 4)
        if dimensions < 0 or flags not in (0, 1):
            raise BadBinaryArray("invalid array in binary form")
        if element_type != (element_oid or (VARCHAR_OID if array_oid == VARCHAR_ARRAY_OID else TEXT_OID)):
            raise WrongElementType(f"binary data has array element type {element_type} instead of the parameter's")
        bounds = tuple(struct.unpack_from("!ii", data, 12 + 8 * i) for i in range(dimensions))
        elements = _binary_elements(data, 12 + 8 * dimensions, prod(max(n, 0) for n, _ in bounds) if bounds else 0)
    except struct.error:
        raise BadBinaryArray("an array is too short") from None
    return Array(bounds, elements) if elements else EMPTY


def _binary_elements(data: bytes, pos: int, count: int) -> tuple[bytes | None, ...]:
    if count > (len(data) - pos) // 4:
        raise BadBinaryArray("an array is shorter than its elements")
    elements: list[bytes | None] = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", data, pos)
        pos += 4
        if size == -1:
            elements.append(None)
            continue
        if size < 0 or pos + size > len(data):
            raise BadBinaryArray("an element is longer than its array")
        elements.append(data[pos : pos + size])
        pos += size
    if pos != len(data):
        raise BadBinaryArray("an array has trailing bytes")
    return tuple(elements)


def spell_array(elements: Sequence[bytes | None]) -> bytes:
    """Return a one-dimensional array as text."""
    return b"{" + b",".join(b"NULL" if e is None else b'"' + _SPECIAL.sub(rb"\\\g<0>", e) + b'"' for e in elements) + b"}"


def bytea_array(array: Array) -> bytes:
    """Return a bytea[] in binary form."""
    return array_to_binary(array, BYTEA_OID)


def array_to_binary(array: Array, element_oid: int) -> bytes:
    """Return an array of elements in their binary form."""
    flags = int(None in array.elements)
    parts = [struct.pack("!iiI", len(array.bounds), flags, element_oid)]
    parts += [struct.pack("!ii", length, lower) for length, lower in array.bounds]
    for element in array.elements:
        parts.append(b"\xff\xff\xff\xff" if element is None else struct.pack("!i", len(element)) + element)
    return b"".join(parts)


def array_to_text(array: Array) -> bytes:
    """Return an array of elements in their text form, quoted as the server quotes them."""
    return _nested(array, [b"NULL" if e is None else _quoted(e) for e in array.elements])


def _quoted(element: bytes) -> bytes:
    if element and element.lower() != b"null" and not _NEEDS_QUOTES.search(element):
        return element
    return b'"' + element.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _nested(array: Array, elements: list[bytes]) -> bytes:
    """Return the braces of an array around its elements, after its bounds where one does not begin at 1."""
    stated = b"".join(b"[%d:%d]" % (lower, lower + length - 1) for length, lower in array.bounds)
    for length, _ in reversed(array.bounds):
        elements = [b"{" + b",".join(elements[i : i + length]) + b"}" for i in range(0, len(elements), length)]
    needs_bounds = any(lower != 1 for _, lower in array.bounds)
    return (stated + b"=" if needs_bounds else b"") + (elements[0] if elements else b"{}")


def spell_bytea_array(array: Array | None) -> bytes:
    """Return a bytea[] constant; right under standard_conforming_strings = on."""
    if array is None:
        return b"NULL::bytea[]"
    elements = [b"NULL" if e is None else b'"\\\\x' + e.hex().encode() + b'"' for e in array.elements]
    return b"'" + _nested(array, elements) + b"'::bytea[]"
