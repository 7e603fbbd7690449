"""Chunks in, (tag, start, end) spans out; knows lengths and limits, not meanings.

Manual: "Frontend/Backend Protocol", 55.2.1 and 55.8 (message formats): Byte1 tag, Int32 length that counts itself, payload.
"""

from collections.abc import Callable, Iterator
from functools import partial
from struct import Struct

from phiproxy.errors import WireError
from phiproxy.long_values import together

_LENGTH = Struct("!I").unpack_from
HEADER = 5
# A longer message of which nothing must be held is passed on as it comes, never gathered.
SLICE = 64 * 1024
# Copying a longer one is felt by others: another thread puts it together, and what comes behind it is put beside it.
LONG = 4 * 1024 * 1024
# No message of PostgreSQL's is longer, either way (MaxAllocSize): a length above is a lie.
MAX_STREAMED = 0x3FFFFFFF


class FrameBuffer:
    """Bytes of one direction, cut into typed messages.

    ``data`` and ``pos`` are public for the hot loop: a frame occupies ``data[start:end]`` with its payload at ``start + 5``.
    ``next`` never advances; ``advance`` does, so that a frame can be taken again after ``KeyNeeded``.

    A message of one of the tags ``streams`` that is longer than SLICE is not awaited: ``begun`` shows its beginning, and then
    ``gather`` holds it until it is whole after all, or ``stream`` lets the rest of it pass, through ``passed``, however long it is
    (``passing`` bytes; ``forwarded`` says whether they go on or are dropped).

    One of more than LONG bytes is put together by another thread: when it is ``complete``, ``joining`` is the work, and ``joined``
    takes its outcome.
    """

    __slots__ = ("_joining", "_late", "_late_size", "_wanted", "data", "forwarded", "max_message", "passing", "pos", "streams")

    def __init__(self, max_message: int = 64 * 1024 * 1024, *, streams: frozenset[int] = frozenset()) -> None:
        self.data = b""
        self.pos = 0
        self.max_message = max_message
        self.streams = streams
        self.passing = 0
        self.forwarded = False
        self._wanted = 0
        self._late: list[bytes] = []
        self._late_size = 0
        self._joining = 0

    def feed(self, chunk: bytes) -> None:
        """Append received bytes (bytes, not a view: spans are sliced from them)."""
        if self._wanted or self._late or len(self.data) - self.pos > LONG:
            # A long message is joined once, when it is whole: joining at every chunk would cost its length squared.
            self._late.append(chunk)
            self._late_size += len(chunk)
            if self._wanted and not self._joining and self._wanted <= LONG and self.pending >= self._wanted:
                self.joined(self.joining()())
            return
        self.data = chunk if self.pos >= len(self.data) else self.data[self.pos :] + chunk
        self.pos = 0

    def put_before(self, messages: bytes) -> None:
        """Let messages be taken before all that has come and is not consumed; not while ``is_joining``."""
        self.data, self.pos, self._wanted = messages + self.data[self.pos :], 0, 0

    @property
    def complete(self) -> bool:
        """Tell whether a long message is all there, and not put together yet."""
        return 0 < self._wanted <= self.pending and not self._joining

    @property
    def is_joining(self) -> bool:
        """Tell whether ``joined`` is awaited."""
        return self._joining > 0

    def joining(self) -> Callable[[], bytes]:
        """Return what puts together what has come, which may be done by another thread; what comes meanwhile comes behind it."""
        parts = [self.data[self.pos :], *self._late]
        self._joining = self.pending
        self.data, self.pos, self._late, self._late_size = b"", 0, [], 0
        return partial(together, parts)

    def joined(self, data: bytes) -> None:
        """Take what ``joining`` has come to."""
        self.data, self._joining, self._wanted = data, 0, 0

    def pull(self) -> bool:
        """Put what has come behind a long message to the rest, once that message is consumed; False where there is nothing."""
        if self._wanted or not self._late:
            return False
        self.joined(self.joining()())
        return True

    def next(self) -> tuple[int, int, int] | None:
        """Return (tag, start, end) of the first unconsumed message, or None when it is incomplete.

        Raises WireError for a length below 4 or above ``max_message``, before any of it is awaited.
        """
        if self.complete:
            self.joined(self.joining()())
        start, data = self.pos, self.data
        if len(data) - start < HEADER:
            return self.next() if self.pull() else None
        (length,) = _LENGTH(data, start + 1)
        if length < 4:
            raise WireError("a message claims a length below 4")
        if length > self.max_message and (data[start] not in self.streams or length > MAX_STREAMED):
            raise WireError("a message is longer than max_message")
        end = start + 1 + length
        if end > len(data):
            if self.pull():
                return self.next()
            if length <= SLICE or data[start] not in self.streams:
                self._wanted = 1 + length
            return None
        return data[start], start, end

    def begun(self) -> tuple[int, int, int] | None:
        """Return (tag, start, end of what is there) of a long message that may be streamed; call it when ``next`` gave None."""
        if self._wanted or len(self.data) - self.pos < HEADER:
            return None
        return self.data[self.pos], self.pos, len(self.data)

    def gather(self) -> None:
        """Hold the message that has begun until it is whole; WireError when it is longer than ``max_message``."""
        (length,) = _LENGTH(self.data, self.pos + 1)
        if length > self.max_message:
            raise WireError("a message is longer than max_message")
        self._wanted = 1 + length

    def stream(self, *, forwarded: bool) -> None:
        """Consume the beginning of a message; the rest of it will pass."""
        (length,) = _LENGTH(self.data, self.pos + 1)
        self.passing = self.pos + 1 + length - len(self.data)
        self.forwarded = forwarded
        self.pos = len(self.data)

    def passed(self, chunk: bytes) -> tuple[bytes, bytes]:
        """Cut a chunk into what goes on of a message that passes (empty when that is dropped) and what comes behind it."""
        inside = chunk if len(chunk) <= self.passing else chunk[: self.passing]
        self.passing -= len(inside)
        return (inside if self.forwarded else b""), chunk[len(inside) :]

    def advance(self, end: int) -> None:
        """Mark everything before ``end`` as consumed."""
        self.pos = end

    def run_end(self, tag: int) -> int:
        """Return the end of the run of complete messages of this tag that starts at ``pos`` (``pos`` when there is none)."""
        data, pos, size, limit = self.data, self.pos, len(self.data), self.max_message
        while size - pos >= HEADER and data[pos] == tag:
            (length,) = _LENGTH(data, pos + 1)
            if length < 4 or length > limit or pos + 1 + length > size:
                break
            pos += 1 + length
        return pos

    def run(self, tag: int) -> Iterator[tuple[int, int]]:
        """Return the spans of the complete messages of this tag that follow one another from ``pos``."""
        data, pos, size, limit = self.data, self.pos, len(self.data), self.max_message
        while size - pos >= HEADER and data[pos] == tag:
            (length,) = _LENGTH(data, pos + 1)
            end = pos + 1 + length
            if length < 4 or length > limit or end > size:
                return
            yield pos, end
            pos = end

    @property
    def holds_nothing(self) -> bool:
        """Tell whether what comes next begins a message."""
        return self.pos >= len(self.data) and not (self.passing or self._wanted or self._late)

    @property
    def pending(self) -> int:
        """Bytes received and not consumed."""
        return len(self.data) - self.pos + self._joining + self._late_size
