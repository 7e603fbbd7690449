"""The result columns of one statement: which are protected, what the client is told of them, and how a row is opened."""

from __future__ import annotations

from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from phiproxy.errors import CatalogChanged, SealError
from phiproxy.longvalues import LONG_VALUE, cut
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.reading import shown as shown_as
from phiproxy.sql.meaning import Reveal
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import UTF8, Encoding, of_binary
from phiproxy.wire.fields import FieldFunction, RowsFunction, SpanFunction, compile_rows
from phiproxy.wire.messages import Field, decode_row_description, encode_row_description
from phiproxy.wire.values import BYTEA_OID, HEX, NOT_BYTEA, bytea_from_text

# Of one result: as a statement, and as portals in a few formats.
MAX_DESCRIPTIONS = 8
# The format codes are those that the server says: no codes that a client could ask for.
_AS_THEY_COME = (-1,)


@dataclass(frozen=True, slots=True)
class Columns:
    """The result columns of one statement: which are protected, and as what they are shown.

    ``protected`` is (position, Reveal) of the protected ones. Raises NotAuthentic for a column that is ``distrusted``.
    """

    reveals: tuple[Reveal | None, ...]
    protected: tuple[tuple[int, Reveal], ...] = field(init=False, compare=False)
    typed: bool = field(init=False, compare=False)
    _rows: dict[object, tuple[Ciphers, RowsFunction]] = field(default_factory=dict, init=False, compare=False, repr=False)

    _descriptions: dict[tuple[bytes, Sequence[int] | None], tuple[SealedAttributes, tuple[bytes, tuple[int, ...]]]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "protected", tuple((i, r) for i, r in enumerate(self.reveals) if r is not None))
        for _, reveal in self.protected:
            reveal.column.refuse_distrusted()
        object.__setattr__(self, "typed", any(r.typed for _, r in self.protected))

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
            if column.type_oid != BYTEA_OID:
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

    def description(self, frame: bytes, formats: Sequence[int] | None, sealed: SealedAttributes) -> bytes:
        """Return ``describe`` of a whole RowDescription, encoded; the server says the same each time, so it is made once."""
        return self._described(frame, formats, sealed)[0]

    def description_of_query(self, frame: bytes, sealed: SealedAttributes) -> tuple[bytes, tuple[int, ...]]:
        """Return that of a simple query's, in the formats that the server says, and these."""
        return self._described(frame, _AS_THEY_COME, sealed)

    def _described(self, frame: bytes, formats: Sequence[int] | None, sealed: SealedAttributes) -> tuple[bytes, tuple[int, ...]]:
        key = (frame, formats)
        made = self._descriptions.get(key)
        if made is None or made[0] is not sealed:
            fields = decode_row_description(frame, 5, len(frame))
            codes = tuple(f.format for f in fields)
            shown = encode_row_description(self.describe(fields, codes if formats is _AS_THEY_COME else formats, sealed))
            if len(self._descriptions) >= MAX_DESCRIPTIONS:
                self._descriptions.clear()
            made = self._descriptions[key] = sealed, (shown, codes)
        return made[1]

    def rows(
        self,
        ciphers: Ciphers,
        *,
        binary: bool,
        formats: Sequence[int] | None = None,
        styles: Styles = Styles.CANONICAL,
        encoding: Encoding = UTF8,
    ) -> RowsFunction:
        """Return the function that opens DataRows whose protected fields are bytea in binary or text form.

        ``formats`` are the codes in which the client wants the columns: text, where they are None.
        """
        key = (binary, encoding.name, formats, styles) if self.typed else (binary, encoding.name)
        made = self._rows.get(key)
        if made is None or made[0] is not ciphers:
            ops = []
            for i, r in self.protected:
                code = formats[i] if formats is not None else 0
                write = shown_in(encoding, shown_as(r, code, styles), r.type, code)
                ops.append((i, _written(_opener(ciphers, r, binary=binary), write)))
            if len(self._rows) >= MAX_DESCRIPTIONS:
                self._rows.clear()
            made = self._rows[key] = ciphers, compile_rows(ops, len(self.reveals))
        return made[1]


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


def _opener(ciphers: Ciphers, reveal: Reveal, *, binary: bool) -> SpanFunction:
    if binary:
        return ciphers.open_span(reveal.column)
    opener = ciphers.open_span(reveal.column)

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


def _unhexlified(data: bytes, begin: int, end: int) -> bytes:
    """Return the bytes that are spelled in hex between two places, in pieces; SealError. For any thread."""
    try:
        return b"".join([unhexlify(piece) for piece in cut(data, begin, end)])
    except HexError:
        raise SealError(NOT_BYTEA) from None


def _written(opener: SpanFunction, write: FieldFunction | None) -> SpanFunction:
    return opener if write is None else lambda data, begin, end: write(opener(data, begin, end))
