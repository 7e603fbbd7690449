"""Work on long values, in pieces so that other threads get their turn, and on another thread where that is wanted."""

from binascii import hexlify
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from phiproxy.errors import LongWorkNeeded

# A longer value is taken in pieces, each of which is some hundreds of microseconds; in small ones where regular expressions read.
LONG_VALUE: Final = 1024 * 1024
# Of JSON each value is looked at, and of a document with fields each of these is sealed or opened by itself: 10 ms or so.
LONG_JSON: Final = 64 * 1024
PIECE: Final = 256 * 1024
SMALL_PIECE: Final = 64 * 1024
# So many objects end at once: a million of them take a tenth of a second, during which nothing else runs.
FEW: Final = 4096
# So many pieces of a value are given back at once.
FEW_PIECES: Final = 16
T = TypeVar("T")
_DECODER = getincrementaldecoder("utf-8")


def cut(data: bytes, begin: int, end: int, size: int | None = None) -> Iterator[bytes]:
    """Yield ``data[begin:end]`` in pieces: as bytes, since joining bytes lets other threads run and joining views does not."""
    size = PIECE if size is None else size
    return (data[at : min(at + size, end)] for at in range(begin, end, size))


def together(pieces: list[bytes]) -> bytes:
    """Join pieces, and give them back few by few: where they end with their list, all others wait until the last has."""
    whole = b"".join(pieces)
    while pieces:
        del pieces[-FEW_PIECES:]
    return whole


def copied(data: bytes, begin: int, end: int) -> bytes:
    """Return ``data[begin:end]``, in pieces."""
    return together([*cut(data, begin, end)])


def found_at(data: bytes, part: bytes, begin: int = 0) -> int:
    """Do what ``find`` does, in pieces."""
    if len(data) - begin <= LONG_VALUE:
        return data.find(part, begin)
    places = (data.find(part, at, at + PIECE + len(part) - 1) for at in range(begin, len(data), PIECE))
    return next((place for place in places if place >= 0), -1)


def holds(data: bytes, part: bytes) -> bool:
    """Do what ``in`` does, in pieces."""
    return part in data if len(data) <= LONG_VALUE else found_at(data, part) >= 0


def joined(parts: Iterable[str]) -> str:
    """Join texts, piece by piece: joining all at once, memory for all of them is taken and written to, and nothing else runs.

    What a variable alone refers to is lengthened where it is.
    """
    whole = ""
    for part in parts:
        whole += part
    return whole


def decoded(text: bytes) -> str:
    """Do what ``decode`` does for UTF-8, in pieces; UnicodeDecodeError with its place in the whole text."""
    if len(text) <= LONG_VALUE:
        return text.decode("utf-8")
    decode = _DECODER().decode
    try:
        whole = joined(map(decode, cut(text, 0, len(text))))
        decode(b"", final=True)  # the last character is whole
    except UnicodeDecodeError:
        return text.decode("utf-8")
    return whole


def encoded(text: str) -> bytes:
    """Do what ``encode`` does for UTF-8, in pieces."""
    if len(text) <= LONG_VALUE:
        return text.encode("utf-8")
    return together([text[at : at + PIECE].encode("utf-8") for at in range(0, len(text), PIECE)])


def parted(data: bytes, separator: bytes) -> list[bytes]:
    """Do what ``split`` does, of long data with parts that are copied in pieces."""
    if len(data) <= LONG_VALUE:
        return data.split(separator)
    parts: list[bytes] = []
    at = 0
    while (end := found_at(data, separator, at)) >= 0:
        parts.append(copied(data, at, end) if end - at > LONG_VALUE else data[at:end])
        at = end + len(separator)
    if not parts:
        return [data]  # no copy, whose memory takes as long to give back as to make
    parts.append(copied(data, at, len(data)) if len(data) - at > LONG_VALUE else data[at:])
    return parts


def hexlified(data: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """Do what ``hexlify`` does, in pieces, and put the result between two others."""
    if len(data) <= LONG_VALUE:
        return before + hexlify(data) + behind
    return together([before, *map(hexlify, cut(data, 0, len(data))), behind])


def empty(items: list[Any]) -> None:
    """Empty a list whose items may end with it, in pieces."""
    while items:
        del items[-FEW:]


def take_apart(*values: Any) -> None:
    """Empty the dictionaries and lists that values are made of, which nobody needs any longer, in pieces."""
    waiting = [*values]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and len(one) <= FEW:
            waiting += one.values()
            one.clear()
        elif isinstance(one, dict):
            waiting.append(one)  # the rest of it later
            waiting += [one.popitem()[1] for _ in range(FEW)]
        elif isinstance(one, list):
            if len(one) > FEW:
                waiting.append(one)
            waiting += one[-FEW:]
            del one[-FEW:]


class LongWork:
    """Does the work that a long value takes in the caller's thread or, while outcomes are ``given``, takes it from another's."""

    __slots__ = ("_outcomes",)

    def __init__(self) -> None:
        self._outcomes: Iterator[object] | None = None

    def do(self, work: Callable[[], T]) -> T:
        """Return the outcome of ``work``; LongWorkNeeded where another thread does it and has not yet."""
        if self._outcomes is None:
            return work()
        for outcome in self._outcomes:
            return cast("T", outcome)
        raise LongWorkNeeded(work)

    @contextmanager
    def given(self, outcomes: Iterable[object]) -> Iterator[None]:
        """Within this context, answer ``do`` by these outcomes, in order, instead of doing the work here."""
        self._outcomes = iter(outcomes)
        try:
            yield
        finally:
            self._outcomes = None
