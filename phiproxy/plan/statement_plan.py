"""What is known of a statement before it runs, in positions and closures: whoever runs it looks at no policy, OID or name again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import cast

from phiproxy.effects import Effects
from phiproxy.errors import KeyNeeded, ValueRefused
from phiproxy.long_values import LONG_VALUE, cut, hexlified, holds
from phiproxy.plan.column_ciphers import Ciphers, long_for
from phiproxy.plan.compiled_convert import BindForm, Conversion, Formed, Forms, compile_conversion
from phiproxy.plan.convert_values import MANY, SLICE, Given, Steps, at_once, convert_steps, given, let_go, size_of
from phiproxy.plan.document_ciphers import of_binary
from phiproxy.plan.range_tags import Bounds, BoundsReader, bound_pair, bounds_reader
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.statement_record import NOTHING, Touched
from phiproxy.plan.value_formats import Reader, reader
from phiproxy.policy.physical_documents import quoted
from phiproxy.sql.result import BoundPair, Occurrence, ProtectedCopy, Source
from phiproxy.sql.rewrite.apply_edits import Rendered, position_map
from phiproxy.sql.rewrite.references_and_markers import fixed_word, null_marker
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.uses import Absent, Nullness, Plain, Search, Store, Use, is_upper, sent_as_array, stored_form
from phiproxy.types.styles import Styles
from phiproxy.wire.arrays import Array, array_to_binary, array_to_text, bytea_array, spell_bytea_array
from phiproxy.wire.oids import JSONB_OID


def read_literal(use: Use, literal: bytes | None, styles: Styles) -> Given:
    """Return a constant of the statement's text as its use takes it; ValueRefused."""
    read = reader(use)
    return given(use, literal) if read is None or literal is None else read(literal, 0, styles)


def _bare(use: Use) -> Use:
    return use if isinstance(use, Nullness | Plain | Absent) else replace(use, column=use.column.bare)


_NO_EFFECTS = (Effects(), Effects(transaction=True))


@dataclass(slots=True)
class StatementPlan:
    """One statement of the extended protocol."""

    text: bytes
    """The client's text."""
    sql: bytes
    """The server's; where the statement takes no parameters (``inline``) it only shows where the literals stand."""
    identity: bool
    """Whether the two are the same, whatever the values are."""
    inputs: int = 0
    """How many parameters the client has."""
    outputs: tuple[tuple[Use, int, Source], ...] = ()
    """The parameters of the server: what each is used for, the client's parameter that it is, from 0, or what else it comes from.

    The first ``inputs`` are the client's own in their order, so that a parameter keeps its number; further occurrences, literals
    and formulas come behind.
    """
    oids: tuple[int, ...] = ()
    """The type OIDs that the server is told of its parameters."""
    described: tuple[int | None, ...] = ()
    """The type OIDs that the client is told of its parameters; None for those that the server tells."""
    columns: Columns | None = None
    """Its result columns, where something protected may be among them."""
    touches: bool = False
    """Whether anything protected is read, searched or written."""
    plain_select: bool = False
    """Whether running it changes nothing."""
    effects: Effects = field(default_factory=Effects)
    """What it does to the session."""
    edits: tuple[tuple[int, int, int], ...] = ()
    """What makes ``sql`` of ``text``: start and end in the text, and the length of what is there instead."""
    literals: tuple[tuple[Use, int, bytes], ...] = ()
    """The constants that are read, what for, and where in the text they begin."""
    copy: ProtectedCopy | None = None
    """The data of a COPY."""
    inline: Rendered | None = None
    """The rewrite of a statement that takes no parameters: its literals are sealed into the text when it is parsed."""
    bound: bool = False
    """Whether the plan is right in this session and at this moment only."""
    prepared: tuple[StatementPlan, tuple[int, ...]] | None = None
    """The plan of what PREPARE prepares, with its declared types."""
    cursor: Columns | None = None
    """The columns of what DECLARE declares."""
    computed_view: bytes = b""
    """The query of a view that only the engine computes: it says whether PostgreSQL would store it."""
    touched: Touched = field(default=NOTHING, compare=False, repr=False)
    """What a record says of it."""
    typed: bool = field(init=False)
    """Whether what is not text is read or shown, as the session's styles say."""
    quiet: bool = field(init=False)
    """Whether running it changes nothing that the session follows, unless it follows a change of the transaction."""
    ordinary: bool = field(init=False)
    """Whether, besides, it touches nothing protected."""
    longest: int = field(init=False)
    """How long a parameter is at most that is not read, and sealed, by another thread."""
    bind_says_all: bool = field(init=False)
    """Whether, of a quiet one, nothing is said beforehand but what is in its Binds."""
    formed: dict[Forms, Formed] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What becomes of parameters in certain formats, by the formats."""
    bind_forms: list[BindForm] = field(default_factory=list, init=False, compare=False, repr=False)
    """The forms of the Binds that it was last run by."""
    _readers: tuple[Reader | None, ...] = field(init=False, repr=False, compare=False)
    _ranges: tuple[BoundsReader | None, ...] = field(init=False, repr=False, compare=False)
    _compiled: tuple[Ciphers, Conversion | None] | None = field(default=None, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.quiet = not self.bound and self.copy is None and self.effects in _NO_EFFECTS
        plain = self.identity and not self.touches and self.columns is None and self.inline is None
        self.ordinary = self.quiet and plain and bool(self.text)
        self.bind_says_all = self.quiet and self.inline is None and bool(self.text) and len(self.outputs) < MANY
        self.longest = min((longest(use) for use, _, _ in self.outputs), default=LONG_VALUE)
        self._readers = tuple(reader(use) for use, _, _ in self.outputs)
        self._ranges = tuple(bounds_reader(source) if isinstance(source, BoundPair) else None for _, _, source in self.outputs)
        literals = self.inline.occurrences if self.inline is not None else ()
        written = any(self._readers) or any(reader(o.use) for o in literals)
        copied = self.copy is not None and self.copy.typed
        self.typed = written or copied or (self.columns is not None and self.columns.typed)

    @property
    def computed(self) -> bool:
        """Tell whether the engine has a part in it (``plan.split_plan``)."""
        return False

    def same(self, other: StatementPlan) -> bool:
        """Tell whether the server is told the same by both plans, and its answer is read the same way.

        Constraints and defaults of columns are for values that are still to come, but for literals: these are in the text.
        """
        mine, others = ((p.sql, p.oids, p.described, p.inline and p.inline.occurrences) for p in (self, other))
        return mine == others and self._uses_told == other._uses_told

    def may_follow(self, other: StatementPlan) -> bool:
        """Tell whether a client that was told of the other plan is told nothing else by this one: its columns have the same types.

        What of them is sealed may differ: that, the client is never told.
        """
        described = zip(self.described, other.described, strict=False)
        return not self.returns_otherwise(other) and all(one is None or two is None or one == two for one, two in described)

    def returns_otherwise(self, other: StatementPlan) -> bool:
        """Tell whether its result has another number of columns than the other plan's, or protected ones of other types.

        The server, which is told of it anew, would not notice: PostgreSQL says that the result type must not change.
        """
        if self.columns is None or other.columns is None:
            return False
        mine, others = self.columns.reveals, other.columns.reveals
        return len(mine) != len(others) or any(
            one is not None and two is not None and one.type != two.type for one, two in zip(mine, others, strict=True)
        )

    @property
    def _uses_told(self) -> tuple[object, ...]:
        reveals = self.columns.reveals if self.columns is not None else None
        shown = reveals and [reveal and replace(reveal, column=reveal.column.bare) for reveal in reveals]
        return shown, [(_bare(use), number, literal) for use, number, literal in self.outputs]

    @property
    def stores_inline(self) -> bool:
        """Tell whether a literal of its text was sealed when it was parsed."""
        return self.inline is not None and any(isinstance(o.use, Store) for o in self.inline.occurrences)

    def parameters(
        self,
        ciphers: Ciphers,
        values: Sequence[bytes | None],
        formats: Sequence[int] = (),
        styles: Styles = Styles.CANONICAL,
    ) -> list[bytes | None]:
        """Return the server's parameter values from the client's, in the formats of ``formats``; raises ValueRefused, KeyNeeded."""
        if self._compiled is None or self._compiled[0] is not ciphers:
            self._compiled = ciphers, compile_conversion(self.outputs, ciphers)
        compiled = self._compiled[1]
        try:
            parameters = compiled(values) if compiled is not None else None
        except KeyNeeded:  # of one value; in steps that is said of all of them
            parameters = None
        return parameters if parameters is not None else at_once(self.parameter_steps(ciphers, values, formats, styles))

    def parameter_steps(
        self,
        ciphers: Ciphers,
        values: Sequence[bytes | None],
        formats: Sequence[int] = (),
        styles: Styles = Styles.CANONICAL,
    ) -> Steps[list[bytes | None]]:
        """Do what ``parameters`` does, in slices."""
        uses: list[tuple[Use, Given]] = []
        for i in range(len(self.outputs)):
            if not (i + 1) % SLICE:
                yield None
            source, reading = self.outputs[i][2], partial(self.read, i, values, formats, styles)
            value = values[self.outputs[i][1]] if source is None else None
            long = value is not None and len(value) > self.longest
            uses.append(cast("tuple[Use, Given]", (yield reading)) if long else reading())
        converted = yield from convert_steps(ciphers, uses)
        yield from let_go(uses)
        return [_sent(use, value) for (use, _, _), value in zip(self.outputs, converted, strict=True)]

    def read(self, i: int, values: Sequence[bytes | None], formats: Sequence[int], styles: Styles) -> tuple[Use, Given]:
        """Return what the server's parameter number ``i`` is used for, and what is read for it; ValueRefused."""
        (use, n, source), read, bounds = self.outputs[i], self._readers[i], self._ranges[i]
        if bounds is not None:
            return use, bounds(values, formats, styles)
        assert not isinstance(source, BoundPair)
        code = 0
        if source is None:
            value, code = values[n], formats[n] if formats else 0
        else:
            value = source.evaluate(values) if isinstance(source, Formula) else source
        if value is None or read is None:
            return use, given(use, value, code, self.described[n] if source is None else None)
        return use, read(value, code, styles)

    def sent_as(self, number: int) -> int:
        """Return the OID of a built-in type in whose form a parameter, from 0, comes (``DeclaredType.sent_as``)."""
        read = (use.given for use, n, source in self.outputs if n == number and source is None and isinstance(use, Store | Search))
        declared = next((given.type for given in read if given is not None and given.type is not None), None)
        return declared.sent_as if declared is not None and (declared.element or declared).schema else self.described[number] or 0

    def read_inputs(self) -> frozenset[int]:
        """Return the client's parameters, from 0, that do not go on as they came."""
        read = {n for use, n, literal in self.outputs if literal is None and not isinstance(use, Plain | Absent)}
        formulas = (literal for _, _, literal in self.outputs if isinstance(literal, Formula))
        bounds = {n for _, _, literal in self.outputs if isinstance(literal, BoundPair) for n in literal.numbers()}
        return frozenset(read | bounds | {p.number - 1 for formula in formulas for p in formula.parameters()})

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
    copy: ProtectedCopy | None = None
    prepared: tuple[StatementPlan, tuple[int, ...]] | None = None
    cursor: Columns | None = None
    typed: bool = False
    touched: Touched = field(default=NOTHING, compare=False, repr=False)
    computed_view: bytes = b""


@dataclass(slots=True)
class ScriptPlan:
    """All statements of one simple Query. ``parts`` is None where nothing was parsed: any number of unprotected statements."""

    text: bytes
    identity: bool
    parts: tuple[ScriptPart, ...] | None = None
    rendered: Rendered | None = None
    pipeline: tuple[bytes, ...] = ()
    """Its statements where one of them is split: it is run as a pipeline of these, whatever ``rendered`` says."""
    ahead: StatementPlan | None = None
    """The plan of its only statement, where that is split."""

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
    text, edits = at_once(spell_steps(rendered, ciphers, styles))
    return text, edits_of(edits)


def edits_of(numbers: array[int]) -> list[tuple[int, int, int]]:
    """Return the byte edits of ``spell_steps``."""
    each = iter(numbers)
    return [*zip(each, each, each, strict=True)]


def spell_steps(rendered: Rendered, ciphers: Ciphers, styles: Styles) -> Steps[tuple[bytes, array[int]]]:
    """Do what ``spell_literals`` does, in slices. Of the edits only the numbers: so many tuples would end at once."""
    occurrences = rendered.occurrences
    uses: list[tuple[Use, Given]] = []
    for i, o in enumerate(occurrences, start=1):
        if not i % SLICE:
            yield None
        long = isinstance(o.literal, bytes) and len(o.literal) > longest(o.use)
        read = partial(_read_placed, rendered.client, o, styles)
        uses.append((o.use, cast("Given", (yield read)) if long else read()))
    values = yield from convert_steps(ciphers, uses)
    triples = zip(occurrences, values, rendered.pieces[1:], strict=True)
    edits, filled = array("q"), [rendered.pieces[0]]
    for span in rendered.spans:
        edits.extend(span)
    while part := [*islice(triples, SLICE)]:
        for o, value, piece in part:
            long = isinstance(value, bytes | Array) and size_of(value) > LONG_VALUE
            spelled = cast("bytes", (yield partial(_spelled, o, value))) if long else _spelled(o, value)
            filled += (spelled, piece)
            edits.extend((o.start, o.end, len(spelled)))
        yield None
    text = cast("bytes", (yield partial(b"".join, filled)))
    yield from let_go(uses, values, filled)
    return text, edits


def _read_placed(text: bytes, occurrence: Occurrence, styles: Styles) -> Given:
    with placed(text, occurrence.start):
        return read_occurrence(occurrence, styles)


def longest(use: Use) -> int:
    """Return how long a value of a use is at most that is not read, and sealed, by another thread."""
    return long_for(use.column) if isinstance(use, Store | Search) else LONG_VALUE


def _sent(use: Use, value: Given) -> bytes | None:
    assert not isinstance(value, Bounds)
    if not isinstance(value, Array):
        return value
    return bytea_array(value) if stored_form(use) == "bytea" else array_to_binary(value, JSONB_OID)


def read_occurrence(occurrence: Occurrence, styles: Styles) -> Given:
    """Return a constant that is spelled into a text as its use takes it, of a range both ends; ValueRefused."""
    if is_upper(occurrence.use):
        return None
    if occurrence.other is not None:
        return bounds_reader(bound_pair(occurrence))((), (), styles)
    return read_literal(occurrence.use, occurrence.literal, styles)


def _spelled(occurrence: Occurrence, value: Given) -> bytes:
    word = fixed_word(occurrence.use)
    if word is not None:
        return word
    if stored_form(occurrence.use) == "jsonb":
        assert not isinstance(value, Bounds)
        return null_marker(occurrence.use) if value is None else spell_jsonb(value)
    if isinstance(value, bytes):
        return spell_bytea(value)
    assert not isinstance(value, Bounds)
    return spell_bytea_array(value) if value or sent_as_array(occurrence.use) else spell_bytea(None)


def spell_jsonb(value: bytes | Array) -> bytes:
    """Return a constant of a jsonb or jsonb[] given in binary form, in ASCII; right whatever standard_conforming_strings is."""
    if isinstance(value, Array):
        return quoted(array_to_text(value.map(of_binary)).decode("ascii")).encode() + b"::jsonb[]"
    of_binary(value[:1])
    escape = holds(value, b"\\")
    pieces = (piece.replace(b"'", b"''") for piece in cut(value, 1, len(value)))
    spelled = [piece.replace(b"\\", b"\\\\") for piece in pieces] if escape else [*pieces]
    return b"".join([b"E'" if escape else b"'", *spelled, b"'::jsonb"])


def spell_bytea(value: bytes | None) -> bytes:
    """Return a bytea constant in hex form, or a typed NULL; right under standard_conforming_strings = on."""
    if value is None:
        return b"NULL::bytea"
    return b"".join([b"'\\x", hexlified(value), b"'::bytea"])
