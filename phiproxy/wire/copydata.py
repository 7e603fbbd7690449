"""COPY data, sans-I/O: chunks in, rows of raw fields out, and back; knows no keys and no types of columns.

Manual: COPY ("File Formats"); copyfromparse.c and copyto.c for what the manual leaves open. A *raw* field is spelled as it stands
in the data, so that a field nobody touches goes on byte for byte; in the binary format None is NULL. The three codecs are in
``copytext``, ``copycsv`` and ``copybinary``; messages and rows need not begin together (manual 55.2.7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from phiproxy.errors import PhiproxyError

Raw = bytes | None
Row = list[Raw]


class CopyDataError(PhiproxyError):
    """The data is not in the format that COPY was told (22P04), in PostgreSQL's words; ``line`` counts from 1."""

    sqlstate: ClassVar[str] = "22P04"
    anchor = "err-value"


class RowTooLong(CopyDataError):
    """One row is longer than ``max_message`` (54000)."""

    sqlstate: ClassVar[str] = "54000"


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
    # Until version 17 a line of \. alone ended CSV data too.
    marker_ends_csv: bool = True
    # What ENCODING says; empty where the data is in the client's.
    encoding: str = ""
    # One column only: then the server quotes a CSV value of \. alone.
    single: bool = False


class Codec(Protocol):
    """One format in one direction. ``error`` is what follows the rows that were returned; ``ended``: what comes next is ignored.

    ``bare``: in the rows that were returned last each field is its own value, none is NULL or DEFAULT.
    """

    error: CopyDataError | None
    ended: bool
    bare: bool

    def feed(self, data: bytes) -> list[Row]:
        """Return the rows that are whole now."""

    def finish(self) -> list[Row]:
        """Return the last row, which may lack its end of line."""

    def join(self, rows: Sequence[Row]) -> bytes:
        """Return rows as they are sent on, with what stood before, between and behind them."""

    def line(self, rows: Sequence[Row], index: int) -> int:
        """Return the number of the line at which a row of the last batch ends, as the server counts."""

    def read(self, raw: bytes, position: int) -> bytes | None:
        """Return the value of a field; None for NULL and for DEFAULT."""

    def reader(self, position: int) -> Callable[[Raw], bytes | None]:
        """Return what ``read`` does for the fields of one column."""

    def write(self, value: bytes, position: int) -> bytes:
        """Return a value's spelling in a row that the server sends."""

    def write_bytea(self, value: bytes) -> bytes:
        """Return a bytea's spelling in a row that the server gets."""

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

    def take(self) -> bytes:
        """Return what is kept and keep nothing."""
        kept = b"".join(self.tail)
        self.tail.clear()
        self.size = 0
        return kept

    def whole(self, data: bytes) -> bytes:
        """Return ``data`` behind what was kept; nothing, where it is kept too, since no line ends in it."""
        if self.eol[-1:] not in data:
            self.keep(data)
            return b""
        # CR LF may be cut between the two; whatever is kept is joined once, when its line ends.
        return self.take() + data if self.tail else data

    def cut(self, data: bytes) -> list[bytes]:
        """Return the lines of what ``whole`` gave, without their ends; what is behind the last is kept."""
        if not data:
            return []
        lines = data.split(self.eol)
        self.keep(lines.pop())
        return lines


def missing_or_extra(found: int, names: Sequence[str]) -> str:
    """Return PostgreSQL's words for a row with the wrong number of fields."""
    if found > len(names):
        return "extra data after last expected column"
    return f'missing data for column "{names[found]}"'
