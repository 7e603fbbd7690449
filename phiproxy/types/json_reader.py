"""JSON that is long or nested deeply: read piece by piece, with no recursion, and so that other threads have their turn.

Python's ``json`` reads a text in one go, during which nothing else of the process runs, and recurses. Here it reads strings, and
objects and arrays that are short; what is around these is read by its grammar (RFC 8259, as PostgreSQL reads it).
"""

import json.decoder
import re
from collections.abc import Callable
from typing import Any, NoReturn

from phiproxy.long_values import PIECE, empty, joined, take_apart

# Takes a text and where a string's first character is; returns the string, and where what follows it begins. ValueError.
_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORD = re.compile(r"true|false|null")
_WORDS = {"true": True, "false": False, "null": None}
_CLOSING = {"{": "}", "[": "]"}
_SHORT = 4096
# Of a string so much is read at once: of one that is all escapes it takes half a millisecond.
_PIECE = 16 * 1024
# What a long string is cut into: it ends behind an escape, and not between two that are one character. What follows it is an
# escape, the end of the string, or the end of what is looked at.
_PART = re.compile(
    r"""(?:[^"\\]+|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*"""
)
_ESCAPE = re.compile(r"\\(?:[^u]|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4})")
Pairs = list[tuple[str, Any]]


class _Container:
    """An object or array that is being read: what it has so far, and of an object the key whose value is next."""

    __slots__ = ("closing", "items", "key")

    def __init__(self, closing: str) -> None:
        self.closing = closing
        self.items: list[Any] = []
        self.key = ""

    def add(self, value: Any) -> None:
        """Add a value."""
        self.items.append((self.key, value) if self.closing == "}" else value)

    def take_apart(self) -> None:
        """Let go of all that was read, in pieces."""
        if self.closing == "}":
            take_apart([value for _, value in self.items])
            empty(self.items)
        else:
            take_apart(self.items)


class TooDeep(Exception):
    """What is nested more deeply than it is read."""


def read(text: str, decoder: json.JSONDecoder, members: Callable[[Pairs], Any], deepest: int) -> Any:
    """Return the value that a text is, as ``decoder`` reads it; ``members`` makes an object of its members, as they stand there.

    Raises ValueError for what is no JSON, and TooDeep for more than so many objects and arrays within one another.
    """
    around: list[_Container] = []
    try:
        return _read(text, decoder.scan_once, decoder.parse_int, members, deepest, around)  # type: ignore[attr-defined]
    except BaseException:
        for container in around:
            container.take_apart()
        raise


def _read(
    text: str,
    scan: Callable[[str, int], tuple[Any, int]],
    number: Callable[[str], Any],
    members: Callable[[Pairs], Any],
    deepest: int,
    around: list[_Container],
) -> Any:
    """Do what ``read`` does; ``around`` are the objects and arrays that are not whole yet."""
    position = _behind_blanks(text, 0)
    by_hand = 0  # Up to there nothing is tried: it was, within something that is longer.
    while True:
        sign = text[position : position + 1]
        value: Any
        whole = sign in _CLOSING and _is_shallow(around, deepest) and position >= by_hand
        if whole and (short := _short(text, position, scan)) is not None:
            value, length = short
            position += length
        elif sign in _CLOSING:
            by_hand = max(by_hand, position + _SHORT)
            container = _Container(_CLOSING[sign])
            position = _behind_blanks(text, position + 1)
            if text[position : position + 1] != container.closing:
                around.append(container)
                position = _key(text, position, container)
                continue
            position += 1
            value = members([]) if sign == "{" else []
        elif sign == '"':
            value, position = _string_at(text, position + 1)
        else:
            value, position = _scalar(text, position, number)
        while around:
            container = around[-1]
            container.add(value)
            position = _behind_blanks(text, position)
            sign = text[position : position + 1]
            position += 1
            if sign == ",":
                position = _key(text, _behind_blanks(text, position), container)
                break
            if sign != container.closing:
                _refuse()
            value = members(container.items) if sign == "}" else container.items
            around.pop()
        else:
            if _behind_blanks(text, position) != len(text):
                take_apart(value)
                _refuse()
            return value


def _is_shallow(around: list[_Container], deepest: int) -> bool:
    """Tell whether an object or array within these may be read whole where it is short; TooDeep where it may not be at all."""
    if len(around) >= deepest:
        raise TooDeep
    return len(around) <= deepest - _SHORT // 2


def _short(text: str, position: int, scan: Callable[[str, int], tuple[Any, int]]) -> tuple[Any, int] | None:
    """Return an object or array that ends soon, and its length; None for a longer one, and for what is none."""
    try:
        return scan(text[position : position + _SHORT], 0)
    except (StopIteration, ValueError, RecursionError):
        return None


def _behind_blanks(text: str, position: int) -> int:
    while True:
        match = _BLANK.match(text, position, position + PIECE)
        assert match is not None
        if match.end() < position + PIECE:
            return match.end()
        position = match.end()


def _string_at(text: str, begin: int) -> tuple[str, int]:
    """Return the string whose first character is at ``begin``, and what follows it; ValueError. A long one in pieces."""
    end = text.find('"', begin, begin + _PIECE)
    if end >= 0 and text[end - 1] != "\\":
        return _string(text, begin)
    parts: list[str] = []
    while True:
        end = _behind(_PART, text, begin, begin + _PIECE)
        end = _behind(_ESCAPE, text, end, len(text))
        if text[end : end + 1] == '"':
            last, end = _string(text, begin)
            return (joined([*parts, last]) if parts else last), end
        if end == begin:
            _refuse()
        parts.append(_string(text[begin:end] + '"', 0)[0])
        begin = end


def _behind(pattern: re.Pattern[str], text: str, begin: int, end: int) -> int:
    match = pattern.match(text, begin, end)
    return begin if match is None else match.end()


def _key(text: str, position: int, container: _Container) -> int:
    """Read the key and colon of an object's next member; return where the next value begins."""
    if container.closing == "]":
        return position
    if text[position : position + 1] != '"':
        _refuse()
    container.key, position = _string_at(text, position + 1)
    position = _behind_blanks(text, position)
    if text[position : position + 1] != ":":
        _refuse()
    return _behind_blanks(text, position + 1)


def _scalar(text: str, position: int, number: Callable[[str], Any]) -> tuple[Any, int]:
    match = _NUMBER.match(text, position)
    if match is not None:
        return number(match[0]), match.end()
    match = _WORD.match(text, position)
    if match is None:
        _refuse()
    return _WORDS[match[0]], match.end()


def _refuse() -> NoReturn:
    raise ValueError("not JSON")
