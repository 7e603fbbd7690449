"""What is known of a statement before it runs: its text for the server, what becomes of each parameter, what each column is.

A plan holds positions and closures only; whoever runs it looks at no policy, OID or name again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

from phiproxy.errors import ValueRefused
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.columns import Columns, SealedAttributes
from phiproxy.plan.convert import MANY, SLICE, Given, Steps, at_once, convert, convert_steps, given
from phiproxy.plan.ends import Bounds, BoundsReader, bounds_reader, end_pair
from phiproxy.plan.quick import BindForm, Formed, Forms, Quick, compile_quick
from phiproxy.plan.reading import Reader, reader
from phiproxy.sql.finish import fixed_word
from phiproxy.sql.formula import Formula
from phiproxy.sql.meaning import (
    COUNT_STATE,
    MADE_TABLE,
    Absent,
    CopyMeaning,
    Effects,
    EndPair,
    Nullness,
    Occurrence,
    Plain,
    Search,
    Source,
    Store,
    Use,
    is_upper,
    sent_as_array,
)
from phiproxy.sql.render import Rendered, position_map
from phiproxy.types.styles import Styles
from phiproxy.wire.arrays import Array, bytea_array, spell_bytea_array

__all__ = [
    "COUNT_STATE", "MADE_TABLE",
    "Columns", "Effects", "ScriptPart", "ScriptPlan", "SealedAttributes", "StatementPlan", "convert", "map_position",
]  # fmt: skip


def read_literal(use: Use, literal: bytes | None, styles: Styles) -> Given:
    """Return a constant of the statement's text as its use takes it; ValueRefused."""
    read = reader(use)
    return given(use, literal) if read is None or literal is None else read(literal, 0, styles)


def _bare(use: Use) -> Use:
    return use if isinstance(use, Nullness | Plain | Absent) else replace(use, column=use.column.bare)


_NO_EFFECTS = (Effects(), Effects(transaction=True))


@dataclass(slots=True)
class StatementPlan:
    """One statement of the extended protocol.

    A statement that takes no parameters has its literals in ``inline`` instead; its ``sql`` then only shows where they stand.

    ``outputs`` has one (use, input, literal) per parameter of the server: the first ``inputs`` of them are the client's own
    parameters in their order, so that a parameter keeps its number; further occurrences, literals and formulas come behind.
    ``literals`` are the uses of constants that are read, and where in the text these start; ``typed``: what is not text is read or
    shown, as the session's styles say.

    Running ``quiet`` plans changes nothing that the session follows, unless it follows a change of the transaction; ``ordinary``
    ones, besides, touch nothing protected. Of ``swift`` ones nothing is said beforehand but what is in their Binds.
    """

    text: bytes
    sql: bytes
    identity: bool
    inputs: int = 0
    outputs: tuple[tuple[Use, int, Source], ...] = ()
    oids: tuple[int, ...] = ()
    described: tuple[int | None, ...] = ()
    columns: Columns | None = None
    touches: bool = False
    plain_select: bool = False
    effects: Effects = field(default_factory=Effects)
    edits: tuple[tuple[int, int, int], ...] = ()
    literals: tuple[tuple[Use, int, bytes], ...] = ()
    copy: CopyMeaning | None = None
    inline: Rendered | None = None
    bound: bool = False
    prepared: tuple[StatementPlan, tuple[int, ...]] | None = None
    cursor: Columns | None = None
    typed: bool = field(init=False)
    _readers: tuple[Reader | None, ...] = field(init=False, repr=False, compare=False)
    _ranges: tuple[BoundsReader | None, ...] = field(init=False, repr=False, compare=False)
    quiet: bool = field(init=False)
    ordinary: bool = field(init=False)
    swift: bool = field(init=False)
    formed: dict[Forms, Formed] = field(default_factory=dict, init=False, compare=False, repr=False)
    bind_forms: list[BindForm] = field(default_factory=list, init=False, compare=False, repr=False)
    _quick: tuple[Ciphers, Quick | None] | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.quiet = not self.bound and self.copy is None and self.effects in _NO_EFFECTS
        plain = self.identity and not self.touches and self.columns is None and self.inline is None
        self.ordinary = self.quiet and plain and bool(self.text)
        self.swift = self.quiet and self.inline is None and bool(self.text) and len(self.outputs) < MANY
        self._readers = tuple(reader(use) for use, _, _ in self.outputs)
        self._ranges = tuple(bounds_reader(source) if isinstance(source, EndPair) else None for _, _, source in self.outputs)
        literals = self.inline.occurrences if self.inline is not None else ()
        written = any(self._readers) or any(reader(o.use) for o in literals)
        copied = self.copy is not None and self.copy.typed
        self.typed = written or copied or (self.columns is not None and self.columns.typed)

    def same(self, other: StatementPlan) -> bool:
        """Tell whether the server is told the same by both plans, and its answer is read the same way.

        Constraints and defaults of columns are for values that are still to come, but for literals: these are in the text.
        """
        mine, others = ((p.sql, p.oids, p.described, p.inline and p.inline.occurrences) for p in (self, other))
        return mine == others and self._uses_told == other._uses_told

    @property
    def _uses_told(self) -> tuple[object, ...]:
        reveals = self.columns.reveals if self.columns is not None else None
        shown = reveals and [reveal and replace(reveal, column=reveal.column.bare) for reveal in reveals]
        return shown, [(_bare(use), number, literal) for use, number, literal in self.outputs]

    @property
    def stores_inline(self) -> bool:
        """Tell whether a literal of its text was sealed when it was parsed."""
        return self.inline is not None and any(isinstance(o.use, Store) for o in self.inline.occurrences)

    def spell(self, ciphers: Ciphers, styles: Styles = Styles.CANONICAL) -> tuple[bytes, tuple[tuple[int, int, int], ...]]:
        """Return the text to prepare, with literals inline where the statement takes no parameters; the byte edits made."""
        if self.inline is None:
            return self.sql, self.edits
        text, edits = spell_literals(self.inline, ciphers, styles)
        return text, tuple(edits)

    def parameters(
        self,
        ciphers: Ciphers,
        values: Sequence[bytes | None],
        formats: Sequence[int] = (),
        styles: Styles = Styles.CANONICAL,
    ) -> list[bytes | None]:
        """Return the server's parameter values from the client's, in the formats of ``formats``; raises ValueRefused, KeyNeeded."""
        if self._quick is None or self._quick[0] is not ciphers:
            self._quick = ciphers, compile_quick(self.outputs, ciphers)
        quick = self._quick[1]
        found = quick(values) if quick is not None else None
        return found if found is not None else at_once(self.parameter_steps(ciphers, values, formats, styles))

    def parameter_steps(
        self,
        ciphers: Ciphers,
        values: Sequence[bytes | None],
        formats: Sequence[int] = (),
        styles: Styles = Styles.CANONICAL,
    ) -> Steps[list[bytes | None]]:
        """Do what ``parameters`` does, in slices."""
        uses: list[tuple[Use, Given]] = []
        for i, ((use, n, literal), read, ends) in enumerate(zip(self.outputs, self._readers, self._ranges, strict=True), start=1):
            if not i % SLICE:
                yield None
            code = 0
            if ends is not None:
                uses.append((use, ends(values, formats, styles)))
                continue
            assert not isinstance(literal, EndPair)
            if literal is None:
                value, code = values[n], formats[n] if formats else 0
            else:
                value = literal.evaluate(values) if isinstance(literal, Formula) else literal
            if value is None or read is None:
                uses.append((use, given(use, value, code, self.described[n] if literal is None else None)))
            else:
                uses.append((use, read(value, code, styles)))
        converted = yield from convert_steps(ciphers, uses)
        return [_sent(value) for value in converted]

    def sent_as(self, number: int) -> int:
        """Return the OID of a built-in type in whose form a parameter, from 0, comes (``DeclaredType.sent_as``)."""
        read = (use.given for use, n, made in self.outputs if n == number and made is None and isinstance(use, Store | Search))
        declared = next((given.type for given in read if given is not None and given.type is not None), None)
        return declared.sent_as if declared is not None and (declared.element or declared).schema else self.described[number] or 0

    def read_inputs(self) -> frozenset[int]:
        """Return the client's parameters, from 0, that do not go on as they came."""
        read = {n for use, n, literal in self.outputs if literal is None and not isinstance(use, Plain | Absent)}
        formulas = (literal for _, _, literal in self.outputs if isinstance(literal, Formula))
        ends = {n for _, _, literal in self.outputs if isinstance(literal, EndPair) for n in literal.numbers()}
        return frozenset(read | ends | {p.number - 1 for formula in formulas for p in formula.parameters()})

    def check_literals(self, styles: Styles) -> None:
        """Read every constant once, as the server does when it parses; ValueRefused with its position."""
        for use, start, literal in self.literals:
            with placed(self.text, start):
                read_literal(use, literal, styles)

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
    typed: bool = False


@dataclass(slots=True)
class ScriptPlan:
    """All statements of one simple Query. ``parts`` is None where nothing was parsed: any number of unprotected statements."""

    text: bytes
    identity: bool
    parts: tuple[ScriptPart, ...] | None = None
    rendered: Rendered | None = None

    def render(self, ciphers: Ciphers, styles: Styles = Styles.CANONICAL) -> tuple[bytes, list[tuple[int, int, int]]]:
        """Return the server's text with every literal sealed or tagged afresh, and the byte edits made; KeyNeeded, ValueRefused."""
        if self.rendered is None:
            return self.text, []
        return spell_literals(self.rendered, ciphers, styles)


@contextmanager
def placed(text: bytes, start: int) -> Iterator[None]:
    """Give a refused value the position of the constant that starts at this byte."""
    try:
        yield None
    except ValueRefused as refused:
        refused.position = refused.position or len(text[:start].decode("utf-8", "ignore")) + 1
        raise


def spell_literals(
    rendered: Rendered, ciphers: Ciphers, styles: Styles = Styles.CANONICAL
) -> tuple[bytes, list[tuple[int, int, int]]]:
    """Return a text with every literal sealed or tagged afresh, and the byte edits made; KeyNeeded, ValueRefused."""
    return at_once(spell_steps(rendered, ciphers, styles))


def spell_steps(rendered: Rendered, ciphers: Ciphers, styles: Styles) -> Steps[tuple[bytes, list[tuple[int, int, int]]]]:
    """Do what ``spell_literals`` does, in slices."""
    occurrences = rendered.occurrences
    uses: list[tuple[Use, Given]] = []
    for i, o in enumerate(occurrences, start=1):
        if not i % SLICE:
            yield None
        with placed(rendered.client, o.start):
            uses.append((o.use, _read_occurrence(o, styles)))
    values = yield from convert_steps(ciphers, uses)
    triples = zip(occurrences, values, rendered.pieces[1:], strict=True)
    edits, filled = [*rendered.spans], [rendered.pieces[0]]
    while part := [(o, _spelled(o, v), piece) for o, v, piece in islice(triples, MANY)]:
        filled.append(b"".join(text for _, spelled, piece in part for text in (spelled, piece)))
        edits += [(o.start, o.end, len(spelled)) for o, spelled, _ in part]
        if len(part) == MANY:
            yield None
    return b"".join(filled), edits


def _sent(value: Given) -> bytes | None:
    assert not isinstance(value, Bounds)
    return bytea_array(value) if isinstance(value, Array) else value


def _read_occurrence(occurrence: Occurrence, styles: Styles) -> Given:
    if is_upper(occurrence.use):
        return None
    if occurrence.other is not None:
        return bounds_reader(end_pair(occurrence))((), (), styles)
    return read_literal(occurrence.use, occurrence.literal, styles)


def _spelled(occurrence: Occurrence, value: Given) -> bytes:
    word = fixed_word(occurrence.use)
    if word is not None:
        return word
    if isinstance(value, bytes):
        return spell_bytea(value)
    assert not isinstance(value, Bounds)
    return spell_bytea_array(value) if value or sent_as_array(occurrence.use) else spell_bytea(None)


def spell_bytea(value: bytes | None) -> bytes:
    """Return a bytea constant in hex form, or a typed NULL; right under standard_conforming_strings = on."""
    return b"NULL::bytea" if value is None else b"'\\x" + value.hex().encode() + b"'::bytea"
