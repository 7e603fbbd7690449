"""Long values: what is done with one in pieces, so that another thread has its turn meanwhile, and who does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar, cast

from phiproxy.errors import LongWorkNeeded

# A longer value is taken in pieces, each of which is some hundreds of microseconds.
LONG_VALUE: Final = 1024 * 1024
PIECE: Final = 1024 * 1024
T = TypeVar("T")


def cut(data: bytes, begin: int, end: int) -> Iterator[bytes]:
    """Return what stands between two places, in pieces: bytes, whose join lets other threads go on; that of views does not."""
    return (data[at : min(at + PIECE, end)] for at in range(begin, end, PIECE))


def copied(data: bytes, begin: int, end: int) -> bytes:
    """Return ``data[begin:end]``, in pieces."""
    return b"".join([*cut(data, begin, end)])


class LongWork:
    """Who does the work that a long value takes: whoever asks for its outcome, or, while outcomes are ``given``, another thread."""

    __slots__ = ("_outcomes",)

    def __init__(self) -> None:
        self._outcomes: Iterator[object] | None = None

    def do(self, work: Callable[[], T]) -> T:
        """Return what ``work`` comes to; LongWorkNeeded where that is to be done elsewhere, and was not given."""
        if self._outcomes is None:
            return work()
        for outcome in self._outcomes:
            return cast("T", outcome)
        raise LongWorkNeeded(work)

    @contextmanager
    def given(self, outcomes: Iterable[object]) -> Iterator[None]:
        """Do none of it here: these are the outcomes of what is asked for first."""
        self._outcomes = iter(outcomes)
        try:
            yield
        finally:
            self._outcomes = None
