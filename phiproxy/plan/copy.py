"""COPY at work: chunks of data in, chunks for the other side out; each protected field sealed or opened by its position.

What is taken from a chunk stays taken when a key is missing: the same chunk may be given again. A block of rows reserves its uses
in one step, one per row and scope that stores a value (crypto.md section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress

from phiproxy.crypto.seal import Record
from phiproxy.errors import InvalidEncoding, PhiproxyError, ValueRefused
from phiproxy.plan.ciphers import Ciphers, StoreFunction
from phiproxy.plan.columns import shown_in, then
from phiproxy.plan.reading import scalar_reader, shown
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.meaning import CopyMeaning, Store
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.copybinary import BinaryCodec
from phiproxy.wire.copycsv import CsvCodec
from phiproxy.wire.copydata import Codec, CopyDataError, CopyFormat, Row, missing_or_extra
from phiproxy.wire.copytext import TextCodec
from phiproxy.wire.encodings import UTF8, Encoding, encoding_of, of_binary
from phiproxy.wire.values import bytea_from_text

__all__ = ["CopyFailure", "CopyIn", "CopyMeaning", "CopyOut"]

# Rows are taken and sent on in pieces of this size, so that a client's huge message does not become three huge ones.
BLOCK = 64 * 1024

_CODECS: dict[str, type[TextCodec] | type[CsvCodec] | type[BinaryCodec]] = {
    "text": TextCodec,
    "csv": CsvCodec,
    "binary": BinaryCodec,
}


def codec_of(form: CopyFormat, limit: int, *, from_server: bool = False) -> Codec:
    """Return the codec of a format."""
    return _CODECS[form.format](form, limit, from_server=from_server)


class CopyFailure(Exception):
    """The COPY ends with this error, at this place of the data as the server would name it in its CONTEXT."""

    def __init__(self, error: PhiproxyError, context: str | None) -> None:
        super().__init__("the COPY fails")
        self.error = error
        self.context = context


class CopyIn:
    """One COPY FROM STDIN."""

    def __init__(
        self, copy: CopyMeaning, ciphers: Ciphers, limit: int, encoding: Encoding = UTF8, styles: Styles = Styles.CANONICAL
    ) -> None:
        self._copy = copy
        self._ciphers = ciphers
        self._codec = codec_of(copy.form, limit)
        self._binary = copy.form.format == "binary"
        self._encoding = _of_data(copy.form, encoding)
        self._reader = self._encoding.reader()
        self._columns = len(copy.columns)
        found = [(i, reveal.column) for i, reveal in enumerate(copy.reveals) if reveal is not None]
        self._sealers: list[tuple[int, StoreFunction, str]] = [(i, ciphers.store(c), c.scope) for i, c in found]
        code = int(copy.form.format == "binary")
        self._readers = [_reader(column, code, styles) for _, column in found]
        self._scopes = sorted({c.scope for _, c in found})
        self._protected = [c for _, c in found]
        self._added = [(c, ciphers.store(c)) for _, c in copy.added]
        self._scopes = sorted({*self._scopes, *(c.scope for c, _ in self._added)})
        self._header = copy.form.header != "no" and copy.form.format != "binary"
        self._taken = 0
        self._rows: list[Row] = []
        self._out: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return what the server gets for the client's data; CopyFailure, or KeyNeeded: then feed the same data again."""
        while self._rows or self._taken < len(data):
            if not self._rows:
                piece = data[self._taken : self._taken + BLOCK] if len(data) > BLOCK else data
                self._taken += len(piece)
                self._rows = self._read(piece)
            self._emit()
        self._taken = 0
        return self.given()

    def finish(self) -> list[bytes]:
        """Return what the server gets for the end of the data."""
        if not self._rows:
            self._rows = self._read(None)
        self._emit()
        return self.given()

    def given(self) -> list[bytes]:
        """Return what was made before a failure."""
        out, self._out = self._out, []
        return out

    def _read(self, piece: bytes | None) -> list[Row]:
        try:
            if self._binary:
                return self._codec.finish() if piece is None else self._codec.feed(piece)
            text = self._reader(piece or b"", piece is None)
            rows = self._codec.feed(text) if text else []
            return rows if piece is not None else [*rows, *self._codec.finish()]
        except (CopyDataError, ValueRefused) as error:
            raise CopyFailure(error, self._context(self._codec.line([], 0))) from None

    def _emit(self) -> None:
        """Seal the rows that were read and append them to the output."""
        rows, codec = self._rows, self._codec
        if self._header and rows:
            self._check_header(rows[0])
        begin = 1 if self._header and rows else 0
        sealed, failure = self._sealed(rows, begin)
        self._rows = []
        if begin:
            # The client's own first line may hold anything, a value too.
            names = [*self._copy.columns, *(name for name, _ in self._copy.added)]
            sealed[0] = [codec.write(name.encode(), -1) for name in names]
            self._header = False
        data = codec.join(sealed) if self._binary else self._encoding.from_utf8(codec.join(sealed))
        self._out += [data[i : i + BLOCK] for i in range(0, len(data), BLOCK)]
        if failure is None and codec.error is not None:
            failure = CopyFailure(codec.error, self._context(codec.line(rows, len(rows))))
        if failure is not None:
            raise failure

    def _sealed(self, rows: list[Row], begin: int) -> tuple[list[Row], CopyFailure | None]:
        """Return the rows as the server gets them, up to the first that fails, and how it fails. KeyNeeded leaves all as it was."""
        plain, failure = self._plain(rows, begin)
        records = self._records(plain)
        done = rows[:begin]
        for values, row, own in zip(plain, rows[begin:], records, strict=False):
            new = row.copy()
            for (position, store, scope), value, reader in zip(self._sealers, values, self._readers, strict=True):
                if value is None:
                    continue
                try:
                    given = value if reader is None else reader(value)
                    new[position] = self._codec.write_bytea(store(given, own[scope]))
                except InvalidEncoding as error:
                    return done, self._failed(error, rows, len(done), position)
                except ValueRefused as error:
                    if not self._copy.skips_errors:
                        return done, self._failed(error, rows, len(done), position)
                    new[position] = self._codec.poison()
                    break
            new += [self._codec.write_bytea(store(self._ciphers.default(c), own[c.scope])) for c, store in self._added]
            done.append(new)
        return done, failure

    def _plain(self, rows: list[Row], begin: int) -> tuple[list[list[bytes | None]], CopyFailure | None]:
        """Return the values to be sealed of each row up to the first that cannot be read, and why it cannot."""
        read, plain = self._codec.read, list[list[bytes | None]]()
        for index, row in enumerate(rows[begin:], begin):
            if len(row) != self._columns:
                return plain, self._wrong_count(rows, index)
            values = [read(raw, i) if (raw := row[i]) is not None else None for i, _, _ in self._sealers]
            if self._binary and self._encoding is not UTF8:
                try:
                    values = [
                        None if value is None else of_binary(value, column.type.sent_as, self._encoding.to_utf8)
                        for value, column in zip(values, self._protected, strict=True)
                    ]
                except ValueRefused as error:
                    return plain, CopyFailure(error, self._context(self._codec.line(rows, index)))
            plain.append(values)
        return plain, None

    def _records(self, plain: Sequence[Sequence[bytes | None]]) -> list[dict[str, Record]]:
        """Draw one record per row and scope that stores something; everything that may be missing is asked for first."""
        always = {c.scope for c, _ in self._added}
        if not plain or not (always or any(value is not None for values in plain for value in values)):
            return [{} for _ in plain]
        self._ciphers.need_keys([*self._protected, *(c for c, _ in self._added)], [c for c, _ in self._added])
        records: list[dict[str, Record]] = [{} for _ in plain]
        for scope in self._scopes:
            mine = [s == scope for _, _, s in self._sealers]
            storing = [i for i, values in enumerate(plain) if scope in always or any(v is not None for v in compress(values, mine))]
            if storing:
                draw = self._ciphers.reserve(scope, len(storing))
                for i in storing:
                    records[i][scope] = draw()
        return records

    def _check_header(self, row: Row) -> None:
        """Compare the first line with the columns where HEADER MATCH says so (NextCopyFromRawFields)."""
        if self._copy.form.header != "match":
            return
        columns = self._copy.columns
        error = None
        if len(row) != len(columns):
            error = f"wrong number of fields in header line: got {len(row)}, expected {len(columns)}"
        for i, (raw, name) in enumerate(zip(row, columns, strict=False)):
            if error is None and (raw is None or self._codec.read(raw, i) != name.encode()):
                error = f'column name mismatch in header line field {i + 1}: expected "{name}"'
        if error is not None:
            raise CopyFailure(CopyDataError(error), self._context(1))

    def _wrong_count(self, rows: list[Row], index: int) -> CopyFailure:
        found = len(rows[index])
        binary = self._copy.form.format == "binary"
        text = f"row field count is {found}, expected {self._columns}" if binary else missing_or_extra(found, self._copy.columns)
        # PostgreSQL shows the line itself behind the number.
        return CopyFailure(CopyDataError(text), self._context(self._codec.line(rows, index)))

    def _failed(self, error: ValueRefused, rows: list[Row], index: int, position: int) -> CopyFailure:
        # An invalid byte is found before the line is cut into columns.
        column = "" if isinstance(error, InvalidEncoding) else f", column {self._copy.columns[position]}"
        return CopyFailure(error, self._context(self._codec.line(rows, index), column))

    def _context(self, line: int, column: str = "") -> str | None:
        # Before the first row there is no place to name.
        return f"COPY {self._copy.table}, line {line}{column}" if line else None

    def fails_with(self, error: PhiproxyError) -> CopyFailure:
        """Return the failure of the row that is being taken for a reason that is not in the data."""
        return CopyFailure(error, self._context(self._codec.line(self._rows, 0)))


class CopyOut:
    """One COPY TO STDOUT: opens what the server sends."""

    def __init__(
        self, copy: CopyMeaning, ciphers: Ciphers, limit: int, encoding: Encoding = UTF8, styles: Styles = Styles.CANONICAL
    ) -> None:
        self._codec = codec_of(copy.form, limit, from_server=True)
        self._binary = binary = copy.form.format == "binary"
        self._encoding = _of_data(copy.form, encoding)
        self._header = copy.form.header != "no" and not binary
        self._openers = [
            (i, self._shown(then(_opener(ciphers.open(r.column), binary), shown(r, int(binary), styles)), r.type))
            for i, r in enumerate(copy.reveals)
            if r is not None
        ]
        self._rows: list[Row] | None = None

    def _shown(self, opener: Callable[[bytes], bytes], type_: DeclaredType) -> Callable[[bytes], bytes]:
        """Return an opener whose texts are in the data's encoding, which as text is that of whole lines."""
        return shown_in(self._encoding, opener, type_, 1) if self._binary else opener

    def feed(self, data: bytes) -> bytes:
        """Return what the client gets for the server's data; SealError, or KeyNeeded: then feed the same data again."""
        codec = self._codec
        if self._rows is None:
            self._rows = codec.feed(data if self._binary else self._encoding.to_utf8(data))
            if codec.error is not None:
                raise codec.error
        begin = 1 if self._header and self._rows else 0
        shown = self._rows[:begin]
        read, write = codec.read, codec.write
        for row in self._rows[begin:]:
            new = row.copy()
            for position, opener in self._openers:
                raw = row[position]
                value = read(raw, position) if raw is not None else None
                if value is not None:
                    new[position] = write(opener(value), position)
            shown.append(new)
        self._header = self._header and not begin
        self._rows = None
        return codec.join(shown) if self._binary else self._encoding.from_utf8(codec.join(shown))


def _of_data(form: CopyFormat, of_client: Encoding) -> Encoding:
    """Return the encoding of the data: what ENCODING says, but in the binary format, where each value is the client's."""
    named = encoding_of(form.encoding) if form.encoding and form.format != "binary" else None
    return named or of_client


def _reader(column: ProtectedColumn, code: int, styles: Styles) -> Callable[[bytes], bytes] | None:
    """Return what reads a field for a column, in its own type; None for text."""
    if column.type.is_text:
        return None
    declared = column.type.underlying.unlimited
    read = scalar_reader(Store(column, 0), declared, ())
    return lambda value: read(value, code, styles)


def _opener(opener: Callable[[bytes], bytes], binary: bool) -> Callable[[bytes], bytes]:  # noqa: FBT001
    return opener if binary else lambda value: opener(bytea_from_text(value))
