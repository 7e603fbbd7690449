"""JSON that is long or nested deeply: read piece by piece, with no recursion, and so that other threads have their turn.

Python's ``json`` reads a text in one go, during which nothing else of the process runs, and recurses. Here it reads strings, and
objects and arrays that are short; what is around these is read by its grammar (RFC 8259, as PostgreSQL reads it).
"""

import json.decoder
import re
from collections.abc import Callable
from typing import Any, NoReturn

# Takes a text and where a string's first character is; returns the string, and where what follows it begins. ValueError.
_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORD = re.compile(r"true|false|null")
_WORDS = {"true": True, "false": False, "null": None}
_CLOSING = {"{": "}", "[": "]"}
_SHORT = 4096
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


class TooDeep(Exception):
    """What is nested more deeply than it is read."""


def read(text: str, decoder: json.JSONDecoder, members: Callable[[Pairs], Any], deepest: int) -> Any:
    """Return the value that a text is, as ``decoder`` reads it; ``members`` makes an object of its members, as they stand there.

    Raises ValueError for what is no JSON, and TooDeep for more than so many objects and arrays within one another.
    """
    number, scan = decoder.parse_int, decoder.scan_once  # type: ignore[attr-defined]
    around: list[_Container] = []
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
            value, position = _string(text, position + 1)
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
    match = _BLANK.match(text, position)
    assert match is not None
    return match.end()


def _key(text: str, position: int, container: _Container) -> int:
    """Read the key and colon of an object's next member; return where the next value begins."""
    if container.closing == "]":
        return position
    if text[position : position + 1] != '"':
        _refuse()
    container.key, position = _string(text, position + 1)
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
