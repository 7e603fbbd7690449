"""What is known of a statement before it runs: its text for the server, what becomes of each parameter, what each column is.

A plan holds positions and closures only; whoever runs it looks at no policy, OID or name again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from phiproxy.crypto.seal import Record
from phiproxy.errors import CatalogChanged
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.quick import Quick, compile_quick
from phiproxy.sql.formula import Formula
from phiproxy.sql.meaning import (
    Absent,
    CopyMeaning,
    Define,
    Effects,
    Nullness,
    Plain,
    Renew,
    Reveal,
    Search,
    Store,
    Use,
    of_elements,
)
from phiproxy.sql.render import Rendered, position_map
from phiproxy.wire.arrays import TEXT_ARRAY_OID, Array, array_from_binary, array_from_text, bytea_array, spell_bytea_array
from phiproxy.wire.encodings import UTF8, Encoding
from phiproxy.wire.fields import FieldFunction, RowFunction, compile_row
from phiproxy.wire.messages import Field, decode_row_description, encode_row_description
from phiproxy.wire.values import BYTEA_OID, bytea_from_text, check_text, cut_text

__all__ = ["Columns", "Effects", "ScriptPart", "ScriptPlan", "SealedAttributes", "StatementPlan", "convert", "map_position"]

NULL_TEST_VALUE = b"\x01"
# What no tag is equal to: another index answers the pattern.
NO_TAG = b"\x00"
# Of one result: as a statement, and as portals in a few formats.
MAX_DESCRIPTIONS = 8

# What a use is given and what it makes of it: an array for a use of elements.
Given = bytes | Array | None
# A row that a statement stores: (its number, and of an array's elements which).
RowKey = tuple[int, int]


def given(use: Use, value: bytes | None, code: int = 0, oid: int | None = None) -> Given:
    """Return a value of format ``code`` and type ``oid`` as its use reads it; ValueRefused for what is no array."""
    if value is None or not of_elements(use):
        return value
    return array_from_binary(value, oid or TEXT_ARRAY_OID) if code else array_from_text(value)


def convert(ciphers: Ciphers, uses: Sequence[tuple[Use, Given]]) -> list[Given]:
    """Return what the server gets for each (use, value): envelopes, tags, constants, NULL for NULL.

    One record is drawn per (row, scope) that stores a value. Raises KeyNeeded before anything is drawn where a lease is short.
    """
    rows: dict[tuple[str, RowKey], Record] = {}
    wanted = _wanted(uses)
    if wanted:
        stored = {u.column for u, v in uses if isinstance(u, Store | Renew) and v is not None}
        ciphers.need_keys(stored, {u.column for u, _ in uses if isinstance(u, Renew)})
    for scope, numbers in wanted.items():
        draw = ciphers.reserve(scope, len(numbers))
        for number in numbers:
            rows[scope, number] = draw()
    result: list[Given] = []
    for use, value in uses:
        if value is None or isinstance(use, Plain):
            result.append(value)
        elif isinstance(use, Absent):
            result.append(None)
        elif isinstance(use, Store | Define | Renew):
            result.append(_sealed(ciphers, use, value, rows))
        elif isinstance(use, Search):
            result.append(_tag(ciphers, use, value))
        else:
            assert isinstance(use, Nullness)
            result.append(NULL_TEST_VALUE)
    return result


def _tag(ciphers: Ciphers, use: Search, value: bytes | Array) -> bytes | Array:
    search = ciphers.search(use.column, use.slot)
    if isinstance(value, Array):
        return value.map(search)
    if use.like is None:
        return search(value)
    subject = use.like.subject(check_text(value))
    return NO_TAG if subject is None else search(subject)


def _wanted(uses: Sequence[tuple[Use, Given]]) -> dict[str, set[RowKey]]:
    """Return the rows per scope for which something is sealed; an array without elements is none."""
    wanted: dict[str, set[RowKey]] = {}
    for use, value in uses:
        rows = _rows(use, value) if isinstance(use, Store | Define | Renew) and value is not None else []
        if isinstance(use, Store | Define | Renew) and rows:
            wanted.setdefault(use.column.scope, set()).update(rows)
    return wanted


def _rows(use: Store | Define | Renew, value: bytes | Array) -> list[RowKey]:
    if isinstance(value, Array):
        return [(use.row, i) for i, element in enumerate(value.elements) if element is not None]
    return [(use.row, -1)]


def _sealed(
    ciphers: Ciphers, use: Store | Define | Renew, value: bytes | Array, rows: Mapping[tuple[str, RowKey], Record]
) -> bytes | Array:
    store, scope = ciphers.store(use.column), use.column.scope
    if isinstance(use, Renew):
        return store(ciphers.default(use.column), rows[scope, (use.row, -1)])
    if isinstance(use, Define):
        assert isinstance(value, bytes)
        return ciphers.define(use.column, value, rows[scope, (use.row, -1)])
    if use.limit is not None:
        value = value.map(partial(cut_text, limit=use.limit)) if isinstance(value, Array) else cut_text(value, use.limit)
    if isinstance(value, bytes):
        return store(value, rows[scope, (use.row, -1)])
    elements = (None if e is None else store(e, rows[scope, (use.row, i)]) for i, e in enumerate(value.elements))
    return Array(value.bounds, tuple(elements))


@dataclass(frozen=True, slots=True)
class Columns:
    """The result columns of one statement: which are protected, and as what they are shown.

    ``protected`` is (position, Reveal) of the protected ones.
    """

    reveals: tuple[Reveal | None, ...]
    protected: tuple[tuple[int, Reveal], ...] = field(init=False, compare=False)
    _rows: dict[tuple[bool, str], tuple[Ciphers, RowFunction]] = field(default_factory=dict, init=False, compare=False, repr=False)

    _descriptions: dict[tuple[bytes, Sequence[int] | None], tuple[SealedAttributes, bytes]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "protected", tuple((i, r) for i, r in enumerate(self.reveals) if r is not None))

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
            shown.append(column._replace(type_oid=type_.oid, type_size=-1, typmod=type_.typmod, format=code))
        return shown

    def description(self, frame: bytes, formats: Sequence[int] | None, sealed: SealedAttributes) -> bytes:
        """Return ``describe`` of a whole RowDescription, encoded; the server says the same each time, so it is made once."""
        key = (frame, formats)
        made = self._descriptions.get(key)
        if made is None or made[0] is not sealed:
            shown = encode_row_description(self.describe(decode_row_description(frame, 5, len(frame)), formats, sealed))
            if len(self._descriptions) >= MAX_DESCRIPTIONS:
                self._descriptions.clear()
            made = self._descriptions[key] = sealed, shown
        return made[1]

    def row(self, ciphers: Ciphers, *, binary: bool, encoding: Encoding = UTF8) -> RowFunction:
        """Return the function that opens a DataRow whose protected fields are bytea in binary or text form."""
        made = self._rows.get((binary, encoding.name))
        if made is None or made[0] is not ciphers:
            ops = [(i, shown_in(encoding, _opener(ciphers.open(r.column), binary=binary))) for i, r in self.protected]
            made = self._rows[binary, encoding.name] = ciphers, compile_row(ops, len(self.reveals))
        return made[1]


SealedAttributes = frozenset[tuple[int, int]]


def shown_in(encoding: Encoding, opener: FieldFunction) -> FieldFunction:
    """Return an opener whose texts are in the client's encoding."""
    return opener if encoding is UTF8 else lambda field: encoding.from_utf8(opener(field))


def _opener(opener: FieldFunction, *, binary: bool) -> FieldFunction:
    return opener if binary else lambda field: opener(bytea_from_text(field))


Outcome = Literal["forwarded", "rewritten"]

# What a Bind says of formats: of parameters, how many of these there are, of results.
Forms = tuple[tuple[int, ...], int, tuple[int, ...]]


class Formed(NamedTuple):
    """What follows: the client's formats, one for each parameter and result (None where they do not matter), and the server's."""

    parameters: tuple[int, ...]
    results: tuple[int, ...] | None
    server_parameters: tuple[int, ...]
    server_results: tuple[int, ...]


_NO_EFFECTS = (Effects(), Effects(transaction=True))


@dataclass(slots=True)
class StatementPlan:
    """One statement of the extended protocol.

    A statement that takes no parameters has its literals in ``inline`` instead; its ``sql`` then only shows where they stand.

    ``outputs`` has one (use, input, literal) per parameter of the server: the first ``inputs`` of them are the client's own
    parameters in their order, so that a parameter keeps its number; further occurrences, literals and formulas come behind.

    Running ``quiet`` plans changes nothing that the session follows, unless it follows a change of the transaction; ``ordinary``
    ones, besides, touch nothing protected.
    """

    text: bytes
    sql: bytes
    identity: bool
    inputs: int = 0
    outputs: tuple[tuple[Use, int, bytes | Formula | None], ...] = ()
    oids: tuple[int, ...] = ()
    described: tuple[int | None, ...] = ()
    columns: Columns | None = None
    touches: bool = False
    plain_select: bool = False
    effects: Effects = field(default_factory=Effects)
    edits: tuple[tuple[int, int, int], ...] = ()
    copy: CopyMeaning | None = None
    inline: Rendered | None = None
    bound: bool = False
    prepared: tuple[StatementPlan, tuple[int, ...]] | None = None
    cursor: Columns | None = None
    quiet: bool = field(init=False)
    ordinary: bool = field(init=False)
    formed: dict[Forms, Formed] = field(default_factory=dict, init=False, compare=False, repr=False)
    _quick: tuple[Ciphers, Quick | None] | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.quiet = not self.bound and self.copy is None and self.effects in _NO_EFFECTS
        plain = self.identity and not self.touches and self.columns is None and self.inline is None
        self.ordinary = self.quiet and plain and bool(self.text)

    def same(self, other: StatementPlan) -> bool:
        """Tell whether the server is told the same by both plans, and its answer is read the same way."""
        mine, others = ((p.sql, p.oids, p.columns, p.inline and p.inline.occurrences) for p in (self, other))
        return mine == others

    @property
    def stores_inline(self) -> bool:
        """Tell whether a literal of its text was sealed when it was parsed."""
        return self.inline is not None and any(isinstance(o.use, Store) for o in self.inline.occurrences)

    def spell(self, ciphers: Ciphers) -> tuple[bytes, tuple[tuple[int, int, int], ...]]:
        """Return the text to prepare, with literals inline where the statement takes no parameters; the byte edits made."""
        if self.inline is None:
            return self.sql, self.edits
        text, edits = spell_literals(self.inline, ciphers)
        return text, tuple(edits)

    def parameters(self, ciphers: Ciphers, values: Sequence[bytes | None], formats: Sequence[int] = ()) -> list[bytes | None]:
        """Return the server's parameter values from the client's, in the formats of ``formats``; raises ValueRefused, KeyNeeded."""
        if self._quick is None or self._quick[0] is not ciphers:
            self._quick = ciphers, compile_quick(self.outputs, ciphers)
        quick = self._quick[1]
        found = quick(values) if quick is not None else None
        if found is not None:
            return found
        uses = [
            (
                use,
                given(use, values[n], formats[n] if formats else 0, self.described[n])
                if literal is None
                else given(use, literal.evaluate(values) if isinstance(literal, Formula) else literal),
            )
            for use, n, literal in self.outputs
        ]
        return [bytea_array(v) if isinstance(v, Array) else v for v in convert(ciphers, uses)]

    def read_inputs(self) -> frozenset[int]:
        """Return the client's parameters, from 0, that do not go on as they came."""
        read = {n for use, n, literal in self.outputs if literal is None and not isinstance(use, Plain | Absent)}
        formulas = (literal for _, _, literal in self.outputs if isinstance(literal, Formula))
        return frozenset(read | {p.number - 1 for formula in formulas for p in formula.parameters()})

    def formats(self, formats: Sequence[int]) -> tuple[int, ...]:
        """Return the server's parameter format codes from the client's (expanded): protected ones are binary."""
        return tuple(formats[n] if isinstance(use, Plain) else 1 for use, n, _ in self.outputs)

    def unsupported(self, formats: Sequence[int]) -> int | None:
        """Return the first format code of a protected parameter that is none, or None; others are the server's to judge."""
        if not any(code > 1 for code in formats):
            return None
        protected = (formats[n] for use, n, literal in self.outputs if literal is None and not isinstance(use, Plain))
        return next((code for code in protected if code not in (0, 1)), None)

    def describe_parameters(self, oids: Sequence[int]) -> list[int]:
        """Return the client's ParameterDescription from the server's."""
        return [oids[i] if own is None else own for i, own in enumerate(self.described)]

    def client_position(self, position: int) -> int:
        """Map a 1-based character position in the server's text to one in the client's (field P of an error)."""
        return map_position(self.sql, self.text, self.edits, position)


def map_position(server: bytes, client: bytes, edits: Sequence[tuple[int, int, int]], position: int) -> int:
    """Map a 1-based character position in ``server`` to one in ``client``, given the byte edits between them."""
    offset = len(server.decode("utf-8", "replace")[: position - 1].encode("utf-8"))
    return len(client[: position_map(edits)(offset)].decode("utf-8", "ignore")) + 1


@dataclass(frozen=True, slots=True)
class ScriptPart:
    """One statement of a simple Query."""

    columns: Columns | None
    touches: bool
    plain_select: bool
    effects: Effects
    copy: CopyMeaning | None = None
    prepared: tuple[StatementPlan, tuple[int, ...]] | None = None
    cursor: Columns | None = None


@dataclass(slots=True)
class ScriptPlan:
    """All statements of one simple Query. ``parts`` is None where nothing was parsed: any number of unprotected statements."""

    text: bytes
    identity: bool
    parts: tuple[ScriptPart, ...] | None = None
    rendered: Rendered | None = None

    def render(self, ciphers: Ciphers) -> tuple[bytes, list[tuple[int, int, int]]]:
        """Return the server's text with every literal sealed or tagged afresh, and the byte edits made; KeyNeeded, ValueRefused."""
        if self.rendered is None:
            return self.text, []
        return spell_literals(self.rendered, ciphers)


def spell_literals(rendered: Rendered, ciphers: Ciphers) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Return a text with every literal sealed or tagged afresh, and the byte edits made; KeyNeeded, ValueRefused."""
    occurrences = rendered.occurrences
    values = convert(ciphers, [(o.use, given(o.use, o.literal)) for o in occurrences])
    spelled = [
        spell_bytea(v) if isinstance(v, bytes) else spell_bytea_array(v) if v or of_elements(o.use) else spell_bytea(None)
        for o, v in zip(occurrences, values, strict=True)
    ]
    edits = [*rendered.spans]
    edits += [(o.start, o.end, len(s)) for o, s in zip(occurrences, spelled, strict=True)]
    return rendered.fill(lambda i, _o: spelled[i]), edits


def spell_bytea(value: bytes | None) -> bytes:
    """Return a bytea constant in hex form, or a typed NULL; right under standard_conforming_strings = on, which is enforced."""
    return b"NULL::bytea" if value is None else b"'\\x" + value.hex().encode() + b"'::bytea"
