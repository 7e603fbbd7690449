"""Statements put together of pieces of the client's text, with parameters numbered anew, and where each piece is from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from phiproxy.sql.result import Waiting
from phiproxy.sql.text.token_spans import Spans

Span = tuple[int, int]


class Composed:
    """A text that grows. Its $1, $2 … stand for keys: the client's parameter n is n, column n of the rest -n."""

    def __init__(self, text: bytes, spans: Spans, instead: Sequence[tuple[int, int, str]] = ()) -> None:
        """``instead``: what stands for spans of the client's text, in their order."""
        self._client = text
        self._instead = instead
        self._spans = spans
        self._parts: list[bytes] = []
        self._length = 0
        self.parameters: list[int] = []
        self.origins: list[tuple[int, int, int]] = []
        self._parameters_at: dict[int, int] = {}

    @property
    def text(self) -> bytes:
        """The text so far."""
        return b"".join(self._parts)

    def add(self, *pieces: str | Span) -> Composed:
        """Add texts, and pieces of the client's text by their spans."""
        for piece in pieces:
            if isinstance(piece, str):
                self._write(piece.encode())
            else:
                self._copy(*piece)
        return self

    def parameter(self, key: int) -> str:
        """Return how a parameter is written here."""
        if key not in self.parameters:
            self.parameters.append(key)
        return f"${self.parameters.index(key) + 1}"

    def shares_parameter(self, start: int, end: int) -> bool:
        """Tell whether a parameter in a piece of the client's text stands elsewhere in it too."""
        own = {self._client[token.start : token.end] for token in self._spans.parameters(start, end)}
        others = (t for t in self._spans.tokens if t.name == "PARAM" and not start <= t.start < end)
        return any(self._client[token.start : token.end] in own for token in others)

    def origin(self, offset: int) -> int:
        """Return where what stands at an offset is from in the client's text; -1 where it is not from there."""
        pieces = (origin + offset - start for start, end, origin in self.origins if start <= offset < end)
        return self._parameters_at.get(offset, next(pieces, -1))

    def waiting(self, waiting: Waiting | None) -> Waiting | None:
        """Return values that wait, of the client's parameters, as those of this text."""
        if waiting is None:
            return None
        return Waiting(frozenset(k for k, n in enumerate(self.parameters, start=1) if n in waiting.numbers), waiting.constants)

    def _write(self, piece: bytes) -> None:
        self._parts.append(piece)
        self._length += len(piece)

    def _copy(self, start: int, end: int) -> None:
        for first, last, text in self._instead:
            if start <= first and last <= end:
                self._copied(start, first)
                self._write(text.encode())
                start = last
        self._copied(start, end)

    def _copied(self, start: int, end: int) -> None:
        at = start
        for token in self._spans.parameters(start, end):
            self._own(at, token.start)
            self._parameters_at[self._length] = token.start
            self._write(self.parameter(int(self._client[token.start + 1 : token.end])).encode())
            at = token.end
        self._own(at, end)

    def _own(self, start: int, end: int) -> None:
        if start < end:
            self.origins.append((self._length, self._length + end - start, start))
            self._write(self._client[start:end])


def client_spans(
    spans: Iterable[tuple[int, int, int]], origins: Sequence[tuple[int, int, int]]
) -> tuple[tuple[int, int, int], ...]:
    """Return where pieces are from in the client's text; ``spans`` say where they stand, and from where in the composed text.

    ``origins`` stand one behind the other.
    """
    result, ends = [], [from_end for _, from_end, _ in origins]
    for start, end, at in spans:
        for i in range(bisect_right(ends, at), len(origins)):
            from_start, from_end, origin = origins[i]
            first, last = max(at, from_start), min(at + end - start, from_end)
            if first >= last:
                break
            result.append((start + first - at, start + last - at, origin + first - from_start))
    return tuple(result)
