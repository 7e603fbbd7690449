"""The result columns of one statement: which are protected, what the client is told of them, and how a row is opened."""

from __future__ import annotations

import sys
from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Sequence
from dataclasses import field
from functools import partial

from phiproxy.errors import CatalogChanged, SealError
from phiproxy.frozen import dataclass
from phiproxy.long_values import LONG_JSON, LONG_VALUE, LongWork, copied, cut
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.document_ciphers import of_binary as of_jsonb
from phiproxy.plan.masked_values import shown_masked
from phiproxy.plan.sealed_rows import Sealed, compile_sealed_rows
from phiproxy.plan.subjects_of_execution import SubjectOutput, noting, outputs_of
from phiproxy.plan.value_formats import shown as shown_as
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.protection import Protection
from phiproxy.sql.result import Reveal, Subject
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.bytea_and_text import HEX, NOT_BYTEA, bytea_from_text
from phiproxy.wire.encodings import UTF8, Encoding, of_binary
from phiproxy.wire.fields import FieldFunction, FieldFunctionOrNull, RowsFunction, compile_rows
from phiproxy.wire.messages import Field, decode_row_description, encode_row_description

# Of one result: as a statement, and as portals in a few formats.
MAX_DESCRIPTIONS = 8
# The format codes are those that the server says: no codes that a client could ask for.
AS_THEY_COME = (-1,)


@dataclass(frozen=True, slots=True)
class Columns:
    """The result columns of one statement: which are protected, and as what they are shown.

    ``about`` says how it is known whom a row is about, ``protected`` is (position, Reveal) of the protected ones, ``subjects`` are
    those that say whom a row is about. ``longest``: more of rows may take long, since documents are opened leaf by leaf.
    Raises NotAuthentic for a column that is ``distrusted``, ColumnMasked for one that is denied.
    """

    reveals: tuple[Reveal | None, ...]
    about: tuple[Subject, ...] = field(default=(), compare=False)
    subjects: tuple[SubjectOutput, ...] = field(init=False, compare=False)
    protected: tuple[tuple[int, Reveal], ...] = field(init=False, compare=False)
    typed: bool = field(init=False, compare=False)
    longest: int = field(init=False, compare=False)
    _rows: dict[object, tuple[Ciphers, RowsFunction]] = field(default_factory=dict, init=False, compare=False, repr=False)

    _descriptions: dict[tuple[bytes, Sequence[int] | None], tuple[SealedAttributes, tuple[bytes, tuple[int, ...]]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "subjects", outputs_of(self.about))
        object.__setattr__(self, "protected", tuple((i, r) for i, r in enumerate(self.reveals) if r is not None))
        for _, reveal in self.protected:
            reveal.column.refuse_distrusted()
            if reveal.column.masked is not None and reveal.column.masked.show.denies:
                reveal.column.refuse_masked()
        object.__setattr__(self, "typed", any(r.typed for _, r in self.protected))
        documents = any(r.column.form != "bytea" for _, r in self.protected)
        object.__setattr__(self, "longest", LONG_JSON if documents else sys.maxsize)

    @property
    def by_the_clock(self) -> bool:
        """Tell whether a mask shows a moment that depends on the time zone of the session, which a year or month begins by."""
        masks = ((r.column.masked_whole, r.column.type.underlying.family) for _, r in self.protected)
        return any(mask is not None and mask.show.needs_value and family == "timestamptz" for mask, family in masks)

    def describe(self, fields: Sequence[Field], formats: Sequence[int] | None, sealed: SealedAttributes) -> list[Field]:
        """Return RowDescription's fields as the client must see them.

        ``formats`` are the codes that the client asked for, None for a statement (0). Raises CatalogChanged when the
        server describes other columns than were planned: what was analysed is not what runs.
        """
        if len(fields) != len(self.reveals):
            raise CatalogChanged("the server describes another number of columns than was analysed")
        shown = []
        for i, (column, reveal) in enumerate(zip(fields, self.reveals, strict=True)):
            if reveal is None:
                if (column.table_oid, column.attnum) in sealed:
                    raise CatalogChanged("the server describes a protected column where none was analysed")
                shown.append(column)
                continue
            if column.type_oid != reveal.column.stored_oid:
                raise CatalogChanged("the server describes an unprotected column where a protected one was analysed")
            code = formats[i] if formats is not None else 0
            if reveal.cast:
                column = column._replace(table_oid=0, attnum=0)  # noqa: PLW2901 - an expression belongs to no table
            elif reveal.origin is not None:
                column = column._replace(table_oid=reveal.origin[0], attnum=reveal.origin[1])  # noqa: PLW2901 - of its group
            type_ = reveal.planned if reveal.planned is not None and formats is not None else reveal.type
            told = type_.underlying  # a domain is described as what it is over
            shown.append(column._replace(type_oid=told.oid, type_size=told.size, typmod=told.typmod, format=code))
        return shown

    def description(self, frame: bytes, formats: Sequence[int] | None, sealed: SealedAttributes) -> tuple[bytes, tuple[int, ...]]:
        """Return ``describe`` of a whole RowDescription, encoded, and the formats that the server says.

        In these, where ``formats`` are AS_THEY_COME. The server says the same each time, so it is made once.
        """
        key = (frame, formats)
        described = self._descriptions.get(key)
        if described is None or described[0] is not sealed:
            fields = decode_row_description(frame, 5, len(frame))
            codes = tuple(f.format for f in fields)
            shown = encode_row_description(self.describe(fields, codes if formats is AS_THEY_COME else formats, sealed))
            if len(self._descriptions) >= MAX_DESCRIPTIONS:
                self._descriptions.clear()
            described = self._descriptions[key] = sealed, (shown, codes)
        return described[1]

    def rows(
        self,
        ciphers: Ciphers,
        *,
        binary: bool,
        formats: Sequence[int] | None = None,
        styles: Styles = Styles.CANONICAL,
        encoding: Encoding = UTF8,
    ) -> RowsFunction:
        """Return what opens DataRows with protected fields as bytea, binary or text; ``formats``: the client's, None for text."""
        noted = ciphers.note_subject is not None and bool(self.subjects)
        key = (binary, encoding.name, formats, styles) if self.typed or noted else (binary, encoding.name)
        compiled = self._rows.get(key)
        if compiled is None or compiled[0] is not ciphers:
            ops: list[tuple[int, FieldFunctionOrNull]] = [*self._notes(ciphers, formats, encoding)]
            sealed = list[Sealed]()
            about = {output.position for output in self.subjects} if noted else set()
            for i, r in self.protected:
                code = formats[i] if formats is not None else 0
                write = shown_in(encoding, shown_as(r, code, styles), r.type, code)
                opener = self._noting(ciphers, i, _opener(ciphers, r, encoding, binary=binary))
                if r.column.masked_whole is not None:
                    ops.append((i, shown_masked(ciphers, r.column, opener, write, ciphers.long_work, styles, noted=i in about)))
                else:
                    ops.append((i, _written(opener, write, ciphers.long_work)))
                    known = ciphers.known_by(opener)
                    sealed += [(i, known, write)] if known is not None else []
            if len(self._rows) >= MAX_DESCRIPTIONS:
                self._rows.clear()
            tally = ciphers.counts.opened(r.column.label for _, r in self.protected)
            count, at_once = len(self.reveals), bool(sealed) and len(sealed) == len(ops)
            rows = (
                compile_sealed_rows(sealed, count, tally, compile_rows(ops, count)) if at_once else compile_rows(ops, count, tally)
            )
            compiled = self._rows[key] = ciphers, rows
        return compiled[1]

    def _notes(self, ciphers: Ciphers, formats: Sequence[int] | None, encoding: Encoding) -> list[tuple[int, FieldFunctionOrNull]]:
        """Return what notes the subjects that are not protected."""
        note = ciphers.note_subject
        if note is None:
            return []
        clear = [output for output in self.subjects if self.reveals[output.position] is None]
        codes = [formats[output.position] if formats is not None else 0 for output in clear]
        return [
            (output.position, noting(output, note, None, None if code == 1 and output.kind != "text" else encoding))
            for output, code in zip(clear, codes, strict=True)
        ]

    def _noting(self, ciphers: Ciphers, position: int, opener: FieldFunctionOrNull) -> FieldFunctionOrNull:
        """Return an opener that notes what it has opened, where that says whom a row is about."""
        note = ciphers.note_subject
        output = next((output for output in self.subjects if output.position == position), None)
        return opener if note is None or output is None else noting(output, note, opener, None)


def shown_in(encoding: Encoding, write: FieldFunction | None, type_: DeclaredType, code: int) -> FieldFunction | None:
    """Return what writes an opened value in the client's encoding too; ``write`` writes it in UTF-8, None: it is so already."""
    if encoding is UTF8:
        return write
    if code == 1:
        return then(write, lambda value: of_binary(value, type_.sent_as, encoding.from_utf8))
    return then(write, encoding.from_utf8)


def then(first: FieldFunction | None, second: FieldFunction) -> FieldFunction:
    """Return one function after the other, where there is another."""
    return second if first is None else lambda field: second(first(field))


SealedAttributes = frozenset[tuple[int, int]]


def sealed_attributes(protection: Protection, catalog: Catalog) -> SealedAttributes:
    """Return the protected columns of the tables that are there: (table OID, attnum)."""
    sealed = set()
    for table in protection.tables:
        relation = catalog.by_name.get((table.schema, table.name))
        if relation is not None:
            sealed |= {(relation.oid, c.attnum) for c in relation.columns if c.name in table.columns}
    return frozenset(sealed)


def _opener(ciphers: Ciphers, reveal: Reveal, encoding: Encoding, *, binary: bool) -> FieldFunctionOrNull:
    if reveal.column.form != "bytea":
        opened = ciphers.shown_span(reveal.column)
        return _text_opener(opened, encoding, ciphers.long_work, versioned=binary and reveal.column.form == "jsonb")
    opener = ciphers.open_span(reveal.column)
    if binary:
        return opener

    def from_text(data: bytes, begin: int, end: int) -> bytes:
        if data[begin : begin + 2] != HEX:
            envelope = bytea_from_text(data[begin:end])
        elif end - begin > LONG_VALUE:
            envelope = ciphers.long_work.do(partial(_unhexlified, data, begin + 2, end))
        else:  # the same, by hand: it is the hot path
            try:
                envelope = unhexlify(data[begin + 2 : end])
            except HexError:
                raise SealError(NOT_BYTEA) from None
        return opener(envelope, 0, len(envelope))

    return from_text


def _text_opener(opener: FieldFunctionOrNull, encoding: Encoding, long_work: LongWork, *, versioned: bool) -> FieldFunctionOrNull:
    """Return what opens a document, or a part of one, that the server shows in an encoding; ``versioned``: as binary jsonb."""

    def from_server(data: bytes, begin: int, end: int) -> bytes | None:
        if versioned:
            of_jsonb(data[begin : min(begin + 1, end)])
            begin += 1
        if encoding is UTF8:
            return opener(data, begin, end)
        if end - begin <= LONG_VALUE:
            text = encoding.to_utf8(data[begin:end])
        else:
            text = long_work.do(lambda: encoding.to_utf8(copied(data, begin, end)))
        return opener(text, 0, len(text))

    return from_server


def _unhexlified(data: bytes, begin: int, end: int) -> bytes:
    """Return the bytes that are spelled in hex between two offsets, in pieces; SealError. For any thread."""
    try:
        return b"".join([unhexlify(piece) for piece in cut(data, begin, end)])
    except HexError:
        raise SealError(NOT_BYTEA) from None


def _written(opener: FieldFunctionOrNull, write: FieldFunction | None, long_work: LongWork) -> FieldFunctionOrNull:
    if write is None:
        return opener

    def written(data: bytes, begin: int, end: int) -> bytes | None:
        value = opener(data, begin, end)
        if value is None:
            return None
        return write(value) if len(value) <= LONG_VALUE else long_work.do(partial(write, value))

    return written
