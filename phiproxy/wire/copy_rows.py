"""COPY data, sans-I/O: chunks in, rows of raw fields out, and back; knows no keys and no types of columns.

Manual: COPY ("File Formats"); copyfromparse.c and copyto.c for what the manual leaves open. A *raw* field is spelled as it stands
in the data, so that a field nobody touches goes on byte for byte; in the binary format None is NULL. The three codecs are in
``copy_text``, ``copy_csv`` and ``copy_binary``; messages and rows need not begin together (manual 55.2.7).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from phiproxy.errors import PhiproxyError
from phiproxy.long_values import cut, holds, parted

Raw = bytes | None
Row = list[Raw]
# A row as it is sent on: what is long may be in pieces.
SentRow = list[Raw | list[bytes]]


class CopyDataError(PhiproxyError, sqlstate="22P04", anchor="err-value"):
    """The data is not in the format that COPY was told (22P04), in PostgreSQL's words; ``line`` counts from 1."""


class RowTooLong(CopyDataError, sqlstate="54000"):
    """One row is longer than ``max_message`` (54000)."""


@dataclass(frozen=True, slots=True)
class CopyFormat:
    """How the data is spelled. The columns of FORCE_… are positions from 0."""

    format: Literal["text", "csv", "binary"] = "text"
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    quote: bytes = b'"'
    escape: bytes = b'"'
    default: bytes | None = None
    header: Literal["no", "yes", "match"] = "no"
    force_not_null: frozenset[int] = frozenset()
    force_null: frozenset[int] = frozenset()
    force_quote: frozenset[int] = frozenset()
    # Until version 17 a line of \. alone ended CSV data too, and \. behind a row ended text.
    marker_ends_csv: bool = True
    # What ENCODING says; empty where the data is in the client's.
    encoding: str = ""
    # One column only: then the server quotes a CSV value of \. alone.
    single: bool = False


class Codec(ABC):
    """One format in one direction. ``error`` is what follows the rows that were returned; ``ended``: what comes next is ignored.

    ``bare``: in the rows that were returned last each field is its own value, none is NULL or DEFAULT. ``ascii``: and all of it is
    ASCII without zero bytes or backslashes, and short. ``from_server``: it ends every line with LF.
    """

    def __init__(self, form: CopyFormat, limit: int, *, from_server: bool = False) -> None:
        self.error: CopyDataError | None = None
        self.ended = self.bare = self.ascii = False
        self._form, self._limit, self._from_server = form, limit, from_server
        self._first = self._next = 1

    @property
    @abstractmethod
    def held(self) -> int:
        """Bytes of a row that is not whole yet."""

    @abstractmethod
    def feed(self, data: bytes) -> list[Row]:
        """Return the rows that are whole now."""

    @abstractmethod
    def finish(self) -> list[Row]:
        """Return the last row, which may lack its end of line."""

    @abstractmethod
    def join(self, rows: Sequence[Row]) -> bytes:
        """Return rows as they are sent on, with what stood before, between and behind them."""

    @abstractmethod
    def parts(self, rows: Sequence[SentRow]) -> Iterator[bytes]:
        """Yield what ``join`` returns in parts, of rows with fields in pieces."""

    def line(self, rows: Sequence[Row], index: int) -> int:
        """Return the number of the line at which a row of the last batch ends, as the server counts."""
        del rows
        return self._first + index

    def read(self, raw: bytes, position: int) -> bytes | None:
        """Return the value of a field; None for NULL and for DEFAULT."""
        return self.reader(position)(raw)

    @abstractmethod
    def reader(self, position: int) -> Callable[[Raw], bytes | None]:
        """Return what ``read`` does for the fields of one column."""

    @abstractmethod
    def write(self, value: bytes, position: int) -> bytes:
        """Return a value's spelling in a row that the server sends."""

    @abstractmethod
    def write_bytea(self, value: bytes) -> bytes:
        """Return a bytea's spelling in a row that the server gets."""

    @abstractmethod
    def long_bytea(self, value: bytes) -> bytes | list[bytes]:
        """Return the spelling of a long bytea, in pieces where it is not the value itself."""

    @abstractmethod
    def poison(self) -> bytes:
        """Return what no bytea column takes: the server skips its row where ON_ERROR says so, and counts it."""


class Lines:
    """Chunks to physical lines, for text and CSV; the first line's end is the end of all (LF, CR or CRLF)."""

    __slots__ = ("eol", "limit", "size", "tail")

    def __init__(self, limit: int, eol: bytes = b"") -> None:
        self.eol = eol
        self.limit = limit
        self.tail: list[bytes] = []
        self.size = 0

    def keep(self, data: bytes) -> None:
        """Keep the beginning of a line; RowTooLong when it grows beyond the limit."""
        if data:
            self.tail.append(data)
            self.size += len(data)
            self.check(self.size)

    def check(self, size: int) -> None:
        """Raise RowTooLong for a row of this size, or the beginning of one, beyond the limit."""
        if size > self.limit:
            raise RowTooLong("a row of COPY is longer than max_message")

    def take(self, more: bytes = b"") -> bytes:
        """Return what is kept, with more behind it, and keep nothing."""
        rest_of_line = b"".join([*self.tail, more]) if self.tail else more
        self.tail.clear()
        self.size = 0
        return rest_of_line

    def whole(self, data: bytes) -> bytes:
        """Return ``data`` behind what was kept; nothing, where it is kept too, since no line ends in it."""
        if not holds(data, self.eol[-1:]):
            self.keep(data)
            return b""
        # CR LF may be cut between the two; whatever is kept is joined once, when its line ends.
        return self.take(data)

    def cut(self, data: bytes) -> list[bytes]:
        """Return the lines of what ``whole`` gave, without their ends; what is behind the last is kept."""
        if not data:
            return []
        lines = parted(data, self.eol)
        self.keep(lines.pop())
        return lines


class LineCodec(Codec):
    """What text and CSV have in common."""

    def __init__(self, form: CopyFormat, limit: int, *, from_server: bool = False) -> None:
        super().__init__(form, limit, from_server=from_server)
        self._delimiter = form.delimiter
        self._lines = Lines(limit, b"\n" if from_server else b"")

    @property
    def held(self) -> int:
        """Bytes of a row that is not whole yet."""
        return self._lines.size

    def feed(self, data: bytes) -> list[Row]:
        """Return the rows that are whole now."""
        if self.ended:
            return []
        if not self._lines.eol:
            data = self._detect(data)
            if not self._lines.eol:
                return []
        return self._cut(self._lines.whole(data))

    def _detect(self, data: bytes) -> bytes:
        """Find the first line's end; return what is to be cut, or keep it."""
        lines = self._lines
        if b"\n" not in data and b"\r" not in data and not (lines.tail and lines.tail[-1][-1:] == b"\r"):
            lines.keep(data)
            return b""
        data = lines.take(data)
        end = self._first_end(data)
        following = data[end : end + 2]
        if following[:1] == b"\n":
            lines.eol = b"\n"
        elif following[:1] == b"\r" and len(following) == 2:
            lines.eol = b"\r\n" if following == b"\r\n" else b"\r"
        else:
            lines.keep(data)
        return data

    @abstractmethod
    def _first_end(self, data: bytes) -> int:
        """Return where the first line ends, or the end of the data."""

    @abstractmethod
    def _cut(self, data: bytes) -> list[Row]:
        """Return the rows of lines of which all but the last are whole."""

    def join(self, rows: Sequence[Row]) -> bytes:
        """Return rows as lines."""
        if not rows:
            return b""
        delimiter, eol = self._delimiter, self._lines.eol
        return eol.join([*(delimiter.join(row) for row in rows), b""])  # type: ignore[arg-type]

    def parts(self, rows: Sequence[SentRow]) -> Iterator[bytes]:
        """Yield rows as lines, in parts."""
        for row in rows:
            for position, field in enumerate(row):
                if position:
                    yield self._delimiter
                assert field is not None
                yield from field if isinstance(field, list) else (field,)
            yield self._lines.eol


def in_blocks(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield what parts come to in blocks of at most a size. It is never one whole, whose memory takes long to give back."""
    waiting: list[bytes] = []
    room = size
    for part in parts:
        for piece in (part,) if len(part) <= size else cut(part, 0, len(part), size):
            if len(piece) > room:
                yield b"".join(waiting)
                waiting, room = [], size
            waiting.append(piece)
            room -= len(piece)
    if waiting:
        yield b"".join(waiting)


def missing_or_extra(count: int, names: Sequence[str]) -> str:
    """Return PostgreSQL's words for a row with the wrong number of fields."""
    if count > len(names):
        return "extra data after last expected column"
    return f'missing data for column "{names[count]}"'
