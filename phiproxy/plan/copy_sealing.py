"""COPY at work: chunks of data in, chunks for the other side out; each protected field sealed or opened by its position.

What is taken from a chunk stays taken when a key is missing: the same chunk may be given again. A block of rows reserves its uses
in one step, one per row and scope that stores a value (spec/stored-format 2.1).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import cast

from phiproxy.crypto.seal import Record, RecordKeys
from phiproxy.documents.sealed_leaves import LOOKS_SEALED
from phiproxy.errors import InvalidEncoding, KeyNeeded, PhiproxyError, ValueRefused, WriteKeyWant
from phiproxy.long_values import LONG_VALUE, copied, holds
from phiproxy.plan.column_ciphers import Ciphers, long_for
from phiproxy.plan.convert_values import Steps, at_once, keys_spelled
from phiproxy.plan.copy_subjects import RowSubjects
from phiproxy.plan.document_ciphers import of_binary
from phiproxy.plan.field_ciphers import Macs, RowStoreFunction
from phiproxy.plan.masked_values import Shown, shown_masked
from phiproxy.plan.result_columns import shown_in
from phiproxy.plan.sealed_columns import ColumnStore, column_store
from phiproxy.plan.spelled_values import RecordNames, SpelledKeys, needed_together, records_spelled, spells_stored
from phiproxy.plan.subjects_of_execution import Noted, noting, outputs_of
from phiproxy.plan.value_formats import scalar_reader, shown
from phiproxy.policy.protection import Form, ProtectedColumn
from phiproxy.sql.result import ProtectedCopy, Reveal
from phiproxy.sql.values.uses import Store
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.bytea_and_text import bytea_from_text
from phiproxy.wire.copy_binary import BinaryCodec
from phiproxy.wire.copy_csv import CsvCodec
from phiproxy.wire.copy_rows import Codec, CopyDataError, CopyFormat, Raw, Row, SentRow, in_blocks, missing_or_extra
from phiproxy.wire.copy_text import TextCodec
from phiproxy.wire.encodings import UTF8, Encoding, beside, encoding_of
from phiproxy.wire.encodings import of_binary as text_of_binary

# Rows are taken and sent on in pieces of this size, so that a client's huge message does not become three huge ones.
BLOCK = 64 * 1024
# What is read of the client's data in one step: some 2 ms of work, two of which a neighbour's question waits for.
SLICE = 8 * 1024

# The protected fields of one row.
Values = tuple[bytes | None, ...]
# The protected fields column by column, where none is NULL.
Columns = list[tuple[bytes, ...]]
# Where a field stands and what seals it: its column's index keys, and the records of its scope by row.
_Field = tuple[int, RowStoreFunction, Macs, dict[int, Record]]
# The same of a value that the proxy adds, with what spells it; None: it adds NULL.
_Default = tuple[bytes, RowStoreFunction, Macs, dict[int, Record], Callable[[bytes], Raw]] | None

_CODECS: dict[str, type[TextCodec] | type[CsvCodec] | type[BinaryCodec]] = {
    "text": TextCodec,
    "csv": CsvCodec,
    "binary": BinaryCodec,
}


def codec_of(form: CopyFormat, limit: int, *, from_server: bool = False) -> Codec:
    """Return the codec of a format."""
    return _CODECS[form.format](form, limit, from_server=from_server)


# The server is sent it though columns are missing: before it says so it takes the first field as a value of its column, and in an
# empty one nothing can stand at the wrong place that should be sealed, as it may in other rows that are too short.
_EMPTY_LINE: Row = [b""]


class CopyFailure(Exception):
    """The COPY ends with this error, at this place of the data as the server would name it in its CONTEXT."""

    def __init__(self, error: PhiproxyError, context: str | None) -> None:
        super().__init__("the COPY fails")
        self.error = error
        self.context = context


# Rows as the server gets them, and why the next cannot be one.
Sealed = tuple[list[SentRow], CopyFailure | None]
# The values of rows, and why the next cannot be read.
Plain = tuple[list[Values], CopyFailure | None]


class CopyIn:
    """One COPY FROM STDIN. ``computed`` are the values of its last columns, which are not in the data (``_of_client``)."""

    def __init__(
        self,
        copy: ProtectedCopy,
        ciphers: Ciphers,
        limit: int,
        encoding: Encoding = UTF8,
        styles: Styles = Styles.CANONICAL,
        computed: Sequence[bytes | None] = (),
    ) -> None:
        self._copy = copy = _of_client(copy, len(computed))
        self._ciphers = ciphers
        self._codec = codec_of(copy.form, limit)
        self._binary = copy.form.format == "binary"
        self._null: Raw = None if self._binary else copy.form.null
        self._encoding = _of_data(copy.form, encoding)
        self._reader = self._encoding.reader()
        self.columns = len(copy.columns)
        protected = [(i, reveal.column) for i, reveal in enumerate(copy.reveals) if reveal is not None]
        self._fields = [(i, self._field(i, column)) for i, column in protected]
        self._stores = [(i, _store(ciphers, column, styles, binary=self._binary), column) for i, column in protected]
        self._protected, self._styles = [c for _, c in protected], styles
        self._writers = [self._written(i, column) for i, column in protected]
        self._long_writers = [
            self._written_long if column.form == "bytea" else write
            for (_, column), write in zip(protected, self._writers, strict=True)
        ]
        places = [i for i, _ in protected]
        self._pick: Callable[[Row], Values] = (
            itemgetter(*places) if len(places) > 1 else lambda row: tuple([row[place] for place in places])
        )
        self._computed = [_utf8(value, c, encoding) for value, (_, c) in zip(computed, copy.added, strict=False)]
        self._added = [c for _, c in copy.added]
        self._added_stores = [
            _store(ciphers, c, styles, binary=True) if n < len(computed) else ciphers.row_store(c)
            for n, c in enumerate(self._added)
        ]
        self._added_writers = [self._written(-1, c) for c in self._added]
        self._filled = [c for n, c in enumerate(self._added) if n >= len(computed) or computed[n] is not None]
        self._scopes = [(scope, self._stored_in(scope)) for scope in sorted({c.scope for c in (*self._protected, *self._filled)})]
        self._header = copy.form.header != "no" and copy.form.format != "binary"
        self._longest = min(map(long_for, self._protected), default=LONG_VALUE)
        self._taken = 0
        self._rows: list[Row] = []
        self._bare = self._ascii = self._long = False
        self._out: list[bytes] = []
        self._at_once = self._stores_at_once()
        self._whom = RowSubjects(copy, self._codec, self._encoding, sealed=False)
        self._noted: list[Noted] = []

    def _stores_at_once(self) -> list[ColumnStore]:
        """Return what seals many values of each column at once; empty where each value is looked at by itself."""
        if self._binary or self._added:
            return []
        stores = [column_store(self._ciphers, column) for column in self._protected]
        return [store for store in stores if store is not None] if all(stores) else []

    @property
    def adds(self) -> bool:
        """Tell whether the server gets columns that are not in the data."""
        return bool(self._added)

    def taken_subjects(self) -> list[Noted]:
        """Return whom the rows were about that were sent on since this was last asked."""
        noted, self._noted = self._noted, []
        return noted

    def _written(self, position: int, column: ProtectedColumn) -> Callable[[bytes], Raw]:
        """Return what spells what was sealed: an envelope, or a document, of which its binary form is given."""
        if column.form == "bytea":
            return self._codec.write_bytea
        if self._binary:
            return lambda value: value
        return lambda value: self._codec.write(of_binary(value), position)

    def _written_long(self, value: bytes) -> bytes | list[bytes]:
        return self._codec.write_bytea(value) if len(value) <= LONG_VALUE else self._codec.long_bytea(value)

    def _field(self, position: int, column: ProtectedColumn) -> Callable[[Raw], bytes | None]:
        read, to_utf8, oid = self._codec.reader(position), self._encoding.to_utf8, column.type.sent_as
        if not self._binary or self._encoding is UTF8:
            return read
        return lambda raw: None if raw is None else text_of_binary(raw, oid, to_utf8)

    def _stored_in(self, scope: str) -> Callable[[Values], object] | None:
        """Return what takes the fields of a scope from a row's; None where every row stores something in it."""
        if any(c.scope == scope for c in self._filled):
            return None
        return itemgetter(*(n for n, column in enumerate(self._protected) if column.scope == scope))

    def is_long(self, data: bytes | None) -> bool:
        """Tell whether data, or its end, should be taken in steps: a long row may be whole with it, or waits for its keys."""
        if self._rows:
            return self._long
        if data is None:
            return self._codec.held > self._longest
        return self._codec.held + len(data) > self._longest and (self._binary or b"\n" in data or b"\r" in data)

    def feed(self, data: bytes) -> list[bytes]:
        """Return what the server gets for the client's data; CopyFailure, or KeyNeeded: then feed the same data again."""
        return at_once(self.steps(data, 0, len(data)))

    def finish(self) -> list[bytes]:
        """Return what the server gets for the end of the data."""
        return at_once(self.last_steps())

    @property
    def begun(self) -> bool:
        """Tell whether only a part was taken so far of data that is to be given again."""
        return self._taken > 0

    def steps(self, data: bytes, begin: int, end: int, most: int | None = None) -> Steps[list[bytes]]:
        """Do what ``feed`` does with what stands between two places, in steps; of it ``most`` bytes, if any: the rest is next."""
        until = end if most is None else min(end, begin + self._taken + most)
        while self._rows or begin + self._taken < until:
            if not self._rows:
                # Of a row that is long already another thread reads more at once: to be asked takes time too.
                size = SLICE if self._codec.held <= self._longest else BLOCK
                piece = data[begin + self._taken : min(begin + self._taken + size, until)]
                self._taken += len(piece)
                self._rows = yield from self._taken_apart(piece)
            yield from self._emit()
            yield None
        if until == end:
            self._taken = 0
        return self.given()

    def last_steps(self) -> Steps[list[bytes]]:
        """Do what ``finish`` does, in steps."""
        if not self._rows:
            self._rows = yield from self._taken_apart(None)
        yield from self._emit()
        return self.given()

    def _taken_apart(self, piece: bytes | None) -> Steps[list[Row]]:
        """Take the rows that are whole with a piece, or at the end; where one may be long another thread does it."""
        self._long = self.is_long(piece)
        rows = cast("list[Row]", (yield partial(self._read, piece))) if self._long else self._read(piece)
        self._long = self._long and bool(rows)
        return rows

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
            self._bare, self._ascii = piece is not None and self._codec.bare, piece is not None and self._codec.ascii
            return rows if piece is not None else [*rows, *self._codec.finish()]
        except (CopyDataError, ValueRefused) as error:
            raise CopyFailure(error, self._context(self._codec.line([], 0))) from None

    def _emit(self) -> Steps[None]:
        rows, codec = self._rows, self._codec
        if self._header and rows:
            self._check_header(rows[0])
        begin = 1 if self._header and rows else 0
        sealed, failure = yield from self._sealed(rows, begin)
        self._rows = []
        self._noted += self._whom.of([row for row in rows[begin : len(sealed)] if len(row) == self.columns])
        if begin:
            # The client's own first line may hold anything, a value too.
            names = [*self._copy.columns, *(name for name, _ in self._copy.added)]
            sealed[0] = [codec.write(name.encode(), -1) for name in names]
            self._header = False
        self._out += cast("list[bytes]", (yield partial(self._blocks, sealed))) if self._long else self._blocks(sealed)
        if failure is None and codec.error is not None:
            failure = CopyFailure(codec.error, self._context(codec.line(rows, len(rows))))
        if self._long:
            yield from _let_go(sealed)
            yield from _let_go(rows)
        if failure is not None:
            raise failure

    def _blocks(self, sealed: list[SentRow]) -> list[bytes]:
        if self._long:
            parts = self._codec.parts(sealed)
            return [*in_blocks(parts if self._binary else map(self._encoding.from_utf8, parts), BLOCK)]
        data = self._codec.join(cast("list[Row]", sealed))
        data = data if self._binary else self._encoding.from_utf8(data)
        return [data[i : i + BLOCK] for i in range(0, len(data), BLOCK)]

    def _sealed(self, rows: list[Row], begin: int) -> Steps[Sealed]:
        """Return the rows as the server gets them, up to the first that fails, and how it fails. KeyNeeded leaves all as it was."""
        read = partial(self._plain, rows, begin)
        plain, failure = cast("Plain", (yield read)) if self._long else read()
        nothing: Values = (None,) * len(self._fields)
        if not plain or not (self._added or any(values != nothing for values in plain)):
            return cast("list[SentRow]", rows[: begin + len(plain)]), failure
        if self._at_once and self._bare and self._ascii and failure is None and not self._long:
            sealed = self._sealed_at_once(rows, begin, cast("Columns", [*zip(*plain, strict=True)]))
            if sealed is not None:
                return sealed, None
        stores, added = self._drawn(plain)
        if not self._long:
            try:
                return self._sealed_under(rows, begin, plain, failure, stores, added)
            except KeyNeeded as needed:
                raise needed_together(needed.wants, self._spelled(plain)) from None
        try:
            spelled = yield from keys_spelled(self._ciphers, self._protected, partial(self._spelled, plain))
        except ValueRefused as error:
            raise self.fails_with(error) from None
        seal = partial(self._sealed_under, rows, begin, plain, failure, stores, added, spelled)
        try:  # before another thread begins: a keyring is not for two
            for records in (*(field[3] for field in stores), *(field[3] for field in added if field is not None)):
                for record in records.values():
                    record.secret()
        except ValueError:  # given up since the records were drawn
            raise KeyNeeded({WriteKeyWant(scope, len(plain)) for scope, _ in self._scopes}) from None
        return cast("Sealed", (yield seal))

    def _spelled(self, plain: list[Values]) -> list[RecordNames]:
        """Return, for each column, the records of what its values spell that may be stored."""
        columns = enumerate(self._protected)
        return [records_spelled(column, [*self._canonical(column, [row[n] for row in plain])]) for n, column in columns]

    def _canonical(self, column: ProtectedColumn, values: list[bytes | None]) -> Iterator[bytes | None]:
        """Return the canonical forms of the values of a column that may spell what is stored."""
        if column.type.is_text:
            yield from values
            return
        given = [value for value in values if value is not None]
        if column.document is not None:
            given = [value for value in given if holds(value, LOOKS_SEALED) or holds(value, b"\\u00")]
        elif column.type.underlying.family != "bytea":  # of any other the canonical form begins as what is given
            given = [value for value in given if spells_stored(value)]
        read = scalar_reader(Store(column, 0), column.type.underlying.unlimited, ())
        for value in given:
            with suppress(ValueRefused):  # said in its turn
                yield read(value, int(self._binary), self._styles)

    def _sealed_at_once(self, rows: list[Row], begin: int, columns: Columns) -> list[SentRow] | None:
        """Return what ``_sealed`` does, column by column; None where a value is refused, and it must be said which. KeyNeeded."""
        if not all(store.takes(values) for store, values in zip(self._at_once, columns, strict=True)):
            return None
        macs, count = self._ciphers.macs(self._protected), len(rows) - begin
        try:
            slots = [store.slots(values, own) for store, values, own in zip(self._at_once, columns, macs, strict=True)]
        except ValueRefused:
            return None
        keys = {scope: self._ciphers.draw_row_keys(scope, count) for scope, _ in self._scopes}
        done, spell = [row.copy() for row in rows[begin:]], self._codec.write_bytea
        for (place, _, column), store, values, own in zip(self._stores, self._at_once, columns, slots, strict=True):
            for row, envelope in zip(done, store.seal(values, keys[column.scope], own), strict=True):
                row[place] = spell(envelope)
        return cast("list[SentRow]", [*rows[:begin], *done])

    def _sealed_under(
        self,
        rows: list[Row],
        begin: int,
        plain: list[Values],
        failure: CopyFailure | None,
        stores: Sequence[_Field],
        added: Sequence[_Default],
        spelled: Sequence[SpelledKeys | None] | None = None,
    ) -> Sealed:
        """Return what ``_sealed`` does, once the values are read and the records drawn."""
        spelled = spelled if spelled is not None else (None,) * len(stores)
        done = cast("list[SentRow]", rows[:begin])
        writers = self._long_writers if self._long else self._writers
        position = 0
        for index, (values, row) in enumerate(zip(plain, rows[begin:], strict=False)):
            new: SentRow = [*row]
            try:
                for value, (position, store, macs, records), write, keys in zip(values, stores, writers, spelled, strict=True):
                    if value is not None:
                        new[position] = write(store(value, records[index], macs, keys))
            except InvalidEncoding as error:
                return done, self._failed(error, rows, len(done), position)
            except ValueRefused as error:
                if not self._copy.skips_errors:
                    return done, self._failed(error, rows, len(done), position)
                self._poison(new, values, position)
            try:
                whole = len(row) == self.columns
                new += [self._null if o is None else o[4](o[1](o[0], o[3][index], o[2])) for o in (added if whole else ())]
            except ValueRefused as error:
                return done, CopyFailure(error, self._context(self._codec.line(rows, len(done))))
            done.append(new)
        return done, failure

    def _poison(self, row: SentRow, values: Values, position: int) -> None:
        """Put what no bytea is into the place of a value that was refused, and of those behind it, which are not sealed either."""
        for value, (later, _, _) in zip(values, self._stores, strict=True):
            if value is not None and later >= position:
                row[later] = self._codec.poison()

    def _plain(self, rows: list[Row], begin: int) -> Plain:
        """Return the values to be sealed of each row up to the first that cannot be read, and why it cannot."""
        plain: list[Values] = []
        fields, columns = self._fields, self.columns
        self._bare = self._bare and {*map(len, rows)} == {columns}
        if self._bare and fields:
            return [*map(self._pick, rows[begin:])], None
        for index, row in enumerate(rows[begin:], begin):
            whole = row
            if len(row) != columns:
                if self._binary or row != _EMPTY_LINE:
                    return plain, self._wrong_count(rows, index)
                whole = [*row, *repeat(None, columns - 1)]
            try:
                plain.append(tuple([read(whole[position]) for position, read in fields]))
            except ValueRefused as error:
                return plain, CopyFailure(error, self._context(self._codec.line(rows, index)))
        return plain, None

    def _drawn(self, plain: Sequence[Values]) -> tuple[list[_Field], list[_Default]]:
        """Return how the fields of these rows are sealed; everything that may be missing is asked for before the first is drawn."""
        ciphers, columns = self._ciphers, [*self._protected, *self._added]
        macs = ciphers.macs(columns)
        defaults = [*self._computed, *(ciphers.default(column) for column in self._added[len(self._computed) :])]
        records = {scope: self._records(scope, plain, stored) for scope, stored in self._scopes}
        count = len(self._protected)
        fields = [(i, store, m, records[c.scope]) for (i, store, c), m in zip(self._stores, macs[:count], strict=True)]
        stores = zip(defaults, self._added_stores, self._added, macs[count:], self._added_writers, strict=True)
        added = [None if value is None else (value, store, m, records[c.scope], write) for value, store, c, m, write in stores]
        return fields, added

    def _records(self, scope: str, plain: Sequence[Values], stored: Callable[[Values], object] | None) -> dict[int, Record]:
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
        size = len(rows[index])
        binary = self._copy.form.format == "binary"
        text = f"row field count is {size}, expected {self.columns}" if binary else missing_or_extra(size, self._copy.columns)
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


def _of_client(copy: ProtectedCopy, computed: int) -> ProtectedCopy:
    """Return a COPY FROM as the client sends its data: without the last columns, whose values the proxy adds."""
    if not computed:
        return copy
    first = len(copy.columns) - computed
    added = [(name, reveal.column) for name, reveal in zip(copy.columns[first:], copy.reveals[first:], strict=True) if reveal]
    form = replace(copy.form, single=first == 1)
    return replace(copy, columns=copy.columns[:first], reveals=copy.reveals[:first], form=form, added=(*added, *copy.added))


def _utf8(value: bytes | None, column: ProtectedColumn, encoding: Encoding) -> bytes | None:
    """Return a value as it is computed in a session of this encoding."""
    return value if value is None or encoding is UTF8 else text_of_binary(value, column.type.sent_as, encoding.to_utf8)


class CopyOut:
    """One COPY TO STDOUT: opens what the server sends."""

    def __init__(
        self, copy: ProtectedCopy, ciphers: Ciphers, limit: int, encoding: Encoding = UTF8, styles: Styles = Styles.CANONICAL
    ) -> None:
        self._codec = codec_of(copy.form, limit, from_server=True)
        self._binary = binary = copy.form.format == "binary"
        self._encoding = _of_data(copy.form, encoding)
        self._header = copy.form.header != "no" and not binary
        self._look_at_clock, self.long_work = ciphers.look_at_clock, ciphers.long_work
        self._null: Raw = None if binary else copy.form.null
        self._openers = [
            (i, self._reader(i, r.column.form), *self._shown(copy, i, r, ciphers, styles))
            for i, r in enumerate(copy.reveals)
            if r is not None
        ]
        self._whom, self._note = RowSubjects(copy, self._codec, self._encoding, sealed=True), ciphers.note_subject
        self._rows: list[Row] | None = None

    def _reader(self, position: int, form: Form) -> Callable[[Raw], bytes | None]:
        """Return what takes a field out of a row: an envelope, or the text of a document in UTF-8."""
        read = self._codec.reader(position)
        if form == "jsonb" and self._binary:
            to_utf8 = self._encoding.to_utf8
            return lambda raw: None if (value := read(raw)) is None else to_utf8(of_binary(value))
        if form == "text" and self._binary:
            to_utf8 = self._encoding.to_utf8
            return lambda raw: None if (value := read(raw)) is None else to_utf8(value)
        if self._binary or form != "bytea":
            return read
        return lambda raw: None if (value := read(raw)) is None else bytea_from_text(value)

    def _shown(
        self, copy: ProtectedCopy, position: int, reveal: Reveal, ciphers: Ciphers, styles: Styles
    ) -> tuple[Shown, Callable[[bytes], bytes]]:
        """Return what opens a value, or makes its mask, and what spells it then."""
        opener, column, note = ciphers.shown_span(reveal.column), reveal.column, ciphers.note_subject
        output = next((o for o in outputs_of(copy.about) if o.position == position), None) if note is not None else None
        if output is not None and note is not None:
            opener = noting(output, note, opener, None)
        spell = self._writer(position, shown(reveal, int(self._binary), styles), reveal.type)
        if column.masked_whole is None:
            return opener, spell
        return shown_masked(ciphers, column, opener, None, ciphers.long_work, styles, noted=output is not None), spell

    def _writer(self, position: int, write: Callable[[bytes], bytes] | None, type_: DeclaredType) -> Callable[[bytes], bytes]:
        """Return what spells a value; in the data's encoding where that, as text, is not that of whole lines."""
        if self._binary:
            return shown_in(self._encoding, write, type_, 1) or bytes
        spell = self._codec.write
        return (lambda value: spell(value, position)) if write is None else (lambda value: spell(write(value), position))

    def feed(self, data: bytes, begin: int = 0, end: int | None = None) -> bytes:
        """Return what the client gets for the server's data between two places; SealError, or KeyNeeded: then feed the same again.

        What takes long is asked for from ``long_work``.
        """
        end = len(data) if end is None else end
        if end - begin > LONG_VALUE:
            rows = self.long_work.do(partial(self._read, data, begin, end))
            joined = self.long_work.do(partial(self._joined, self._opened(rows)))
        else:
            rows = self._rows = self._read(data, begin, end) if self._rows is None else self._rows
            joined = self._joined(self._opened(rows))
        self._header = self._header and not rows
        self._rows = None
        return joined

    def _read(self, data: bytes, begin: int, end: int) -> list[Row]:
        data = data[begin:end] if end - begin <= LONG_VALUE else copied(data, begin, end)
        rows = self._codec.feed(data if self._binary else self._encoding.to_utf8(data))
        if self._codec.error is not None:
            raise self._codec.error
        return rows

    def _opened(self, rows: list[Row]) -> list[Row]:
        begin, do = 1 if self._header and rows else 0, self.long_work.do
        shown = rows[:begin]
        self._look_at_clock()
        for row in rows[begin:]:
            new = row.copy()
            for position, read, open_span, write in self._openers:
                raw = row[position]
                value = read(raw) if raw is None or len(raw) <= LONG_VALUE else do(partial(read, raw))
                if value is not None:
                    plain = open_span(value, 0, len(value))
                    if plain is None:
                        new[position] = self._null
                    else:
                        new[position] = write(plain) if len(plain) <= LONG_VALUE else do(partial(write, plain))
            shown.append(new)
        if self._note is not None:
            for noted in self._whom.of(rows[begin:]):
                self._note(noted)
        return shown

    def _joined(self, shown: list[Row]) -> bytes:
        data = self._codec.join(shown)
        return data if self._binary else self._encoding.from_utf8(data)


def _let_go(rows: list[Row] | list[SentRow]) -> Steps[None]:
    """Let go of rows that nobody looks at any longer, of each long field in a step: giving back 100 MB takes some 10 ms."""
    for row in rows:
        for position in [n for n, value in enumerate(row) if isinstance(value, bytes) and len(value) > LONG_VALUE]:
            row[position] = None
            yield None


def _of_data(form: CopyFormat, of_client: Encoding) -> Encoding:
    """Return the encoding of the data: what ENCODING says, but in the binary format, where each value is the client's."""
    named = encoding_of(form.encoding) if form.encoding and form.format != "binary" else None
    return beside(named, of_client.of_database) if named else of_client


def _store(ciphers: Ciphers, column: ProtectedColumn, styles: Styles, *, binary: bool) -> RowStoreFunction:
    store = ciphers.row_store(column)
    if column.type.is_text:
        return store
    declared, code = column.type.underlying.unlimited, int(binary)
    read = scalar_reader(Store(column, 0), declared, ())

    def read_and_store(value: bytes, record: Record, macs: Macs, keys: RecordKeys | None = None, /) -> bytes:
        return store(read(value, code, styles), record, macs, keys)

    return read_and_store
