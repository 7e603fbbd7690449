"""COPY's binary format: a signature, flags and an extension, then rows like DataRow's, then -1 (manual: COPY, Binary Format)."""

from collections.abc import Callable, Iterator, Sequence
from struct import Struct, pack
from typing import cast

from phiproxy.long_values import LONG_VALUE, copied
from phiproxy.wire.copy_rows import Codec, CopyDataError, CopyFormat, Raw, Row, RowTooLong, SentRow

SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
_HEAD = len(SIGNATURE) + 8
_COUNT = Struct("!h").unpack_from
_SIZE = Struct("!i").unpack_from
_PACK_SIZE = Struct("!i").pack
_NULL = b"\xff\xff\xff\xff"
_TRAILER = b"\xff\xff"


class BinaryCodec(Codec):
    """Rows of the binary format."""

    def __init__(self, form: CopyFormat, limit: int, *, from_server: bool = False) -> None:
        super().__init__(form, limit, from_server=from_server)
        self._late: list[bytes] = []
        self._size = 0
        self._wanted = _HEAD
        self._begun = False
        self._before = b""
        self._after = b""

    @property
    def held(self) -> int:
        """Bytes of a row that is not whole yet."""
        return self._size

    def feed(self, data: bytes) -> list[Row]:
        """Return the rows that are whole now."""
        self._first = self._next
        if self.ended:
            if data:
                self.error = CopyDataError("received copy data after EOF marker")
            return []
        self._late.append(data)
        self._size += len(data)
        if self._size < self._wanted:
            return []
        data = b"".join(self._late)
        pos = self._begin(data) if not self._begun else 0
        if pos < 0 or self.error is not None:
            self._first = 0
            self._keep(data, max(pos, 0))
            return []
        rows: list[Row] = []
        while (end := self._row(data, pos, rows)) > pos:
            pos = end
        if self.ended and pos < len(data) and self.error is None:
            self.error = CopyDataError("received copy data after EOF marker")
        self._keep(data, pos)
        self._next += len(rows)
        return rows

    def _keep(self, data: bytes, pos: int) -> None:
        self._late = [data[pos:]] if pos < len(data) else []
        self._size = len(data) - pos
        if self._wanted > self._limit:
            raise RowTooLong("a row of COPY is longer than max_message")

    def _begin(self, data: bytes) -> int:
        """Return where the rows begin, or -1 when the header is not whole."""
        if not data.startswith(SIGNATURE):
            self.error, self.ended = CopyDataError("COPY file signature not recognized"), True
            return len(data)
        if int.from_bytes(data[11:15], "big") >> 16:
            self.error, self.ended = CopyDataError("unrecognized critical flags in COPY file header"), True
            return len(data)
        (extension,) = _SIZE(data, 15)
        if extension < 0:
            self.error, self.ended = CopyDataError("invalid COPY file header (missing length)"), True
            return len(data)
        self._wanted = _HEAD + extension
        if len(data) < self._wanted:
            return -1
        end, self._wanted = self._wanted, 2
        self._before, self._begun = data[:end], True
        return end

    def _row(self, data: bytes, pos: int, rows: list[Row]) -> int:
        """Append the row at ``pos`` and return its end; ``pos`` itself when there is no whole one."""
        start, have = pos, len(data)
        if self.ended or have - pos < 2:
            self._wanted = 2
            return start
        (count,) = _COUNT(data, pos)
        pos += 2
        if count == -1:
            self.ended, self._after = True, _TRAILER
            return pos
        row: Row = []
        for _ in range(count):
            if have - pos < 4:
                self._wanted = pos + 4 - start
                return start
            (size,) = _SIZE(data, pos)
            pos += 4
            if size == -1:
                row.append(None)
                continue
            if size < 0:
                self.error, self.ended = CopyDataError("invalid field size"), True
                return start
            if have - pos < size:
                self._wanted = pos + size - start
                return start
            row.append(data[pos : pos + size] if size <= LONG_VALUE else copied(data, pos, pos + size))
            pos += size
        rows.append(row)
        return pos

    def finish(self) -> list[Row]:
        """Return nothing: an incomplete row is an error."""
        self._first = self._next if self._begun else 0
        if not self.ended and (self._size or not self._begun):
            self.error = CopyDataError("unexpected EOF in COPY data" if self._begun else "COPY file signature not recognized")
        return []

    def join(self, rows: Sequence[Row]) -> bytes:
        """Return rows with the header before the first and the trailer behind the last."""
        return b"".join(self.parts(cast("Sequence[SentRow]", rows)))

    def parts(self, rows: Sequence[SentRow]) -> Iterator[bytes]:
        """Yield header, rows and trailer, in parts."""
        before, self._before = self._before, b""
        yield before
        for row in rows:
            yield pack("!h", len(row))
            for field in row:
                if field is None:
                    yield _NULL
                else:
                    assert not isinstance(field, list)
                    yield _PACK_SIZE(len(field))
                    yield field
        after, self._after = self._after, b""
        yield after

    def reader(self, position: int) -> Callable[[Raw], bytes | None]:
        """Return what ``read`` does for the fields of one column."""
        del position
        return lambda raw: raw

    def write(self, value: bytes, position: int) -> bytes:
        """Return the value: it is the field."""
        del position
        return value

    def write_bytea(self, value: bytes) -> bytes:
        """Return the value: it is the field."""
        return value

    def long_bytea(self, value: bytes) -> bytes:
        """Return the value: it is the field."""
        return value

    def poison(self) -> bytes:
        """Return an empty bytea, which no guard takes: ON_ERROR does not exist for this format."""
        return b""
