"""COPY at work: chunks of data in, chunks for the other side out; each protected field sealed or opened by its position.

What is taken from a chunk stays taken when a key is missing: the same chunk may be given again. A block of rows reserves its uses
in one step, one per row and scope that stores a value (crypto.md section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

from phiproxy.crypto.seal import OpenSpan, Record
from phiproxy.errors import InvalidEncoding, PhiproxyError, ValueRefused
from phiproxy.plan.ciphers import Ciphers, Macs, RowStoreFunction
from phiproxy.plan.columns import shown_in, then
from phiproxy.plan.reading import scalar_reader, shown
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.meaning import CopyMeaning, Store
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.copybinary import BinaryCodec
from phiproxy.wire.copycsv import CsvCodec
from phiproxy.wire.copydata import Codec, CopyDataError, CopyFormat, Raw, Row, missing_or_extra
from phiproxy.wire.copytext import TextCodec
from phiproxy.wire.encodings import UTF8, Encoding, encoding_of, of_binary
from phiproxy.wire.values import bytea_from_text

__all__ = ["CopyFailure", "CopyIn", "CopyMeaning", "CopyOut"]

# Rows are taken and sent on in pieces of this size, so that a client's huge message does not become three huge ones.
BLOCK = 64 * 1024

# The protected fields of one row.
Values = tuple[bytes | None, ...]
# Where a field stands and what seals it: its column's index keys, and the records of its scope by row.
_Field = tuple[int, RowStoreFunction, Macs, dict[int, Record]]
# The same of a value that the proxy adds.
_Default = tuple[bytes, RowStoreFunction, Macs, dict[int, Record]]

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
        self._fields = [(i, self._field(i, column)) for i, column in found]
        self._stores = [(i, _store(ciphers, column, styles, binary=self._binary), column) for i, column in found]
        self._protected = [c for _, c in found]
        self._pick = _picker([i for i, _ in found])
        self._added = [c for _, c in copy.added]
        self._scopes = [(scope, self._stored_in(scope)) for scope in sorted({c.scope for c in (*self._protected, *self._added)})]
        self._header = copy.form.header != "no" and copy.form.format != "binary"
        self._taken = 0
        self._rows: list[Row] = []
        self._bare = False
        self._out: list[bytes] = []

    def _field(self, position: int, column: ProtectedColumn) -> Callable[[Raw], bytes | None]:
        """Return what reads a field as it stands in the data."""
        read, to_utf8, oid = self._codec.reader(position), self._encoding.to_utf8, column.type.sent_as
        if not self._binary or self._encoding is UTF8:
            return read
        return lambda raw: None if raw is None else of_binary(raw, oid, to_utf8)

    def _stored_in(self, scope: str) -> Callable[[Values], object] | None:
        """Return what takes the fields of a scope from a row's; None where every row stores something in it."""
        if any(c.scope == scope for c in self._added):
            return None
        return itemgetter(*(n for n, column in enumerate(self._protected) if column.scope == scope))

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
            self._bare = piece is not None and self._codec.bare
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
        done = rows[:begin]
        if not self._stores_any(plain):
            return rows[: begin + len(plain)], failure
        stores, added = self._drawn(plain)
        write, position = self._codec.write_bytea, 0
        for index, (values, row) in enumerate(zip(plain, rows[begin:], strict=False)):
            new = row.copy()
            try:
                for value, (position, store, macs, records) in zip(values, stores, strict=True):
                    if value is not None:
                        new[position] = write(store(value, records[index], macs))
            except InvalidEncoding as error:
                return done, self._failed(error, rows, len(done), position)
            except ValueRefused as error:
                if not self._copy.skips_errors:
                    return done, self._failed(error, rows, len(done), position)
                self._poison(new, values, position)
            for default, store, macs, records in added:
                new.append(write(store(default, records[index], macs)))
            done.append(new)
        return done, failure

    def _poison(self, row: Row, values: Values, position: int) -> None:
        """Put what no bytea is into the place of a value that was refused, and of those behind it, which are not sealed either."""
        for value, (later, _, _) in zip(values, self._stores, strict=True):
            if value is not None and later >= position:
                row[later] = self._codec.poison()

    def _plain(self, rows: list[Row], begin: int) -> tuple[list[Values], CopyFailure | None]:
        """Return the values to be sealed of each row up to the first that cannot be read, and why it cannot."""
        plain, fields, columns = list[Values](), self._fields, self._columns
        if self._bare and fields and {*map(len, rows)} == {columns}:
            return [*map(self._pick, rows[begin:])], None
        for index, row in enumerate(rows[begin:], begin):
            if len(row) != columns:
                return plain, self._wrong_count(rows, index)
            try:
                plain.append(tuple([read(row[position]) for position, read in fields]))
            except ValueRefused as error:
                return plain, CopyFailure(error, self._context(self._codec.line(rows, index)))
        return plain, None

    def _stores_any(self, plain: Sequence[Values]) -> bool:
        nothing: Values = (None,) * len(self._fields)
        return bool(plain) and (bool(self._added) or any(values != nothing for values in plain))

    def _drawn(self, plain: Sequence[Values]) -> tuple[list[_Field], list[_Default]]:
        """Return how the fields of these rows are sealed; everything that may be missing is asked for before the first is drawn."""
        ciphers, columns = self._ciphers, [*self._protected, *self._added]
        macs = ciphers.macs(columns)
        defaults = [ciphers.default(column) for column in self._added]
        records = {scope: self._records(scope, plain, stored) for scope, stored in self._scopes}
        count = len(self._protected)
        fields = [(i, store, m, records[c.scope]) for (i, store, c), m in zip(self._stores, macs[:count], strict=True)]
        added = [
            (default, ciphers.row_store(c), m, records[c.scope])
            for default, c, m in zip(defaults, self._added, macs[count:], strict=True)
        ]
        return fields, added

    def _records(self, scope: str, plain: Sequence[Values], stored: Callable[[Values], object] | None) -> dict[int, Record]:
        """Draw one record per row that stores something in this scope."""
        nothing = None if stored is None else stored((None,) * len(self._fields))
        rows = [i for i, values in enumerate(plain) if stored is None or stored(values) != nothing]
        return dict(zip(rows, self._ciphers.draw(scope, len(rows)), strict=True)) if rows else {}

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
        self._look_at_clock = ciphers.look_at_clock
        self._openers = [
            (
                i,
                self._codec.reader(i),
                self._shown(_opener(ciphers.open_span(r.column), binary), shown(r, int(binary), styles), r.type),
            )
            for i, r in enumerate(copy.reveals)
            if r is not None
        ]
        self._rows: list[Row] | None = None

    def _shown(
        self, opener: Callable[[bytes], bytes], write: Callable[[bytes], bytes] | None, type_: DeclaredType
    ) -> Callable[[bytes], bytes]:
        """Return an opener whose texts are in the data's encoding, which as text is that of whole lines."""
        if self._binary:
            write = shown_in(self._encoding, write, type_, 1)
        return opener if write is None else then(opener, write)

    def feed(self, data: bytes) -> bytes:
        """Return what the client gets for the server's data; SealError, or KeyNeeded: then feed the same data again."""
        codec = self._codec
        if self._rows is None:
            self._rows = codec.feed(data if self._binary else self._encoding.to_utf8(data))
            if codec.error is not None:
                raise codec.error
        begin = 1 if self._header and self._rows else 0
        shown, write = self._rows[:begin], codec.write
        self._look_at_clock()
        for row in self._rows[begin:]:
            new = row.copy()
            for position, read, opener in self._openers:
                value = read(row[position])
                if value is not None:
                    new[position] = write(opener(value), position)
            shown.append(new)
        self._header = self._header and not begin
        self._rows = None
        return codec.join(shown) if self._binary else self._encoding.from_utf8(codec.join(shown))


def _picker(positions: Sequence[int]) -> Callable[[Row], Values]:
    """Return what takes the fields at these positions from a row."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda row: tuple([row[position] for position in positions])


def _of_data(form: CopyFormat, of_client: Encoding) -> Encoding:
    """Return the encoding of the data: what ENCODING says, but in the binary format, where each value is the client's."""
    named = encoding_of(form.encoding) if form.encoding and form.format != "binary" else None
    return named or of_client


def _store(ciphers: Ciphers, column: ProtectedColumn, styles: Styles, *, binary: bool) -> RowStoreFunction:
    """Return what seals the value of a field, which is read in the column's own type first."""
    store = ciphers.row_store(column)
    if column.type.is_text:
        return store
    declared, code = column.type.underlying.unlimited, int(binary)
    read = scalar_reader(Store(column, 0), declared, ())
    return lambda value, record, macs: store(read(value, code, styles), record, macs)


def _opener(open_span: OpenSpan, binary: bool) -> Callable[[bytes], bytes]:  # noqa: FBT001
    def opener(value: bytes) -> bytes:
        sealed = value if binary else bytea_from_text(value)
        return open_span(sealed, 0, len(sealed))

    return opener
