"""From answers to plans: occurrences become the server's parameters or constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from phiproxy.errors import StatementRefused, UndefinedOperator
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.parameter_types import deduced
from phiproxy.plan.range_tags import bound_pair, is_read_pair, read_bounds_as, without_number
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.rewritten_text import rendered_of
from phiproxy.plan.statement_plan import ScriptPart, ScriptPlan, StatementPlan, spell_literals
from phiproxy.plan.statement_record import touched_by
from phiproxy.policy.column_types import array_of, by_oid
from phiproxy.sql.expressions.error_positions import at_parameter
from phiproxy.sql.result import Answered, BoundPair, Edit, Occurrence, Source
from phiproxy.sql.rewrite.apply_edits import Rendered
from phiproxy.sql.rewrite.references_and_markers import marker
from phiproxy.sql.text.parse import char_position
from phiproxy.sql.values.accepted_types import read_as
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.uses import (
    ABSENT,
    PLAIN,
    Absent,
    Nullness,
    Plain,
    Search,
    Store,
    Use,
    is_upper,
    of_elements,
    sent_as_array,
    stored_form,
)
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.oids import (
    BYTEA_ARRAY_OID,
    BYTEA_OID,
    JSONB_ARRAY_OID,
    JSONB_OID,
    TEXT_ARRAY_LIKE,
    TEXT_ARRAY_OID,
    TEXT_LIKE,
    TEXT_OID,
    UNKNOWN_OID,
    VARCHAR_ARRAY_OID,
    VARCHAR_OID,
)

# Bind counts parameters in 16 bits (manual 55.7).
MAX_PARAMETERS = 65535


class UndefinedParameter(StatementRefused, sqlstate="42P02"):
    """A simple query names a parameter (42P02)."""


class IndeterminateDatatype(StatementRefused, sqlstate="42P18"):
    """Nothing says of what type a parameter is, since the statement does not use it (42P18)."""


def _columns(answer: Answered) -> Columns | None:
    if answer.outputs is None or not answer.touches:
        return None
    columns = answer.shared.get("columns")
    if columns is None or columns.reveals is not answer.outputs:
        columns = answer.shared["columns"] = Columns(answer.outputs, answer.subjects)
    assert isinstance(columns, Columns)
    return columns


def _cursor(answer: Answered) -> Columns | None:
    return None if answer.cursor is None else Columns(answer.cursor, answer.subjects)


def _prepared(answer: Answered) -> tuple[StatementPlan, tuple[int, ...]] | None:
    if answer.prepared is None:
        return None
    plan, oids = answer.prepared
    assert isinstance(plan, StatementPlan)
    return plan, oids


def compile_script(text: bytes, answers: Sequence[Answered], rendered: Rendered | None) -> ScriptPlan:
    """Return the plan of a simple Query whose answers were proved; ``rendered`` is its rewrite."""
    parts = tuple(_part(text, m) for m in answers)
    parameter = next((o for m in answers for o in m.occurrences if o.numbers), None)
    if parameter is not None and rendered is not None and len(answers) == 1 and answers[0].generic:
        rendered = _without_values(text, answers[0], rendered)
    elif parameter is not None:
        raise UndefinedParameter(
            f"there is no parameter ${min(parameter.numbers)}",
            hint="A simple query has no parameters. Use the extended protocol to pass them.",
            position=char_position(text, parameter.start),
        )
    return ScriptPlan(text, rendered is None, parts, rendered)


def _without_values(text: bytes, answer: Answered, rendered: Rendered) -> Rendered:
    """Return the rewrite of a statement whose parameters have no values: they, and the literals, are parameters of the server's."""
    layout = _Layout([PLAIN] * max(answer.numbers))
    spelled = _numbered(layout, rendered.occurrences)
    edits = [Edit(o.start, o.end, o.lead + s + o.trail) for o, s in zip(rendered.occurrences, spelled, strict=True)]
    return Rendered(text, [*answer.edits, *edits], [])


def _numbered(layout: _Layout, occurrences: Sequence[Occurrence]) -> list[bytes]:
    numbers = [layout.number(o) for o in occurrences]
    return [b"$%d" % n if n else without_number(o) for n, o in zip(numbers, occurrences, strict=True)]


def _part(text: bytes, m: Answered) -> ScriptPart:
    columns = _columns(m)
    typed = (columns is not None and columns.typed) or (m.copy is not None and m.copy.typed) or any(map(_is_read, m.occurrences))
    touched = touched_by(text, m)
    return ScriptPart(columns, m.touches, m.plain_select, m.effects, m.copy, _prepared(m), _cursor(m), typed, touched, m.computed)


def _is_read(occurrence: Occurrence) -> bool:
    return isinstance(occurrence.use, Store | Search) and occurrence.use.given is not None


def compile_statement(text: bytes, answer: Answered, rendered: Rendered | None, declared: Sequence[int]) -> StatementPlan:
    """Return the plan of one Parse whose answer was proved, with its rewrite; ``declared`` are the client's parameter type OIDs.

    0 is an unspecified type, and there may be fewer than are used. Raises UndefinedOperator or StatementRefused for a protected
    parameter that is declared as another type than text.
    """
    absent = [answer.touches and n not in answer.numbers for n in range(1, len(declared) + 1)]
    if rendered is None and not any(absent):
        return _plan(text, answer, text, declared, identity=True)
    rendered = rendered or Rendered(text, [], [])
    if not answer.takes_parameters:
        return _inline(text, answer, rendered, declared)
    inputs = max((*answer.numbers, len(declared)), default=0)
    oids = [*(0 if oid == UNKNOWN_OID else oid for oid in declared), *(0 for _ in range(inputs - len(declared)))]
    layout = _Layout([ABSENT if n < len(absent) and absent[n] else PLAIN for n in range(inputs)])
    spelled = _numbered(layout, rendered.occurrences)
    layout.consume(rendered.occurrences)
    layout.check_covers(rendered.occurrences)
    if len(layout.outputs) > MAX_PARAMETERS:
        raise StatementRefused(
            f"the statement has more than {MAX_PARAMETERS} parameters and literals for protected columns",
            hint="Use the simple protocol, COPY, or fewer rows per statement.",
            position=char_position(text, rendered.occurrences[-1].start),
        )
    given = deduced(text, rendered.occurrences, oids)
    described = []
    for n, use in enumerate(layout.uses()):
        with at_parameter(text, rendered.occurrences, n + 1):
            described.append(_described(use, oids[n], given.get(n + 1, TEXT_OID)))
    uses = layout.uses_of()
    numbered = ((n, _type_of(oid, uses.get(n, []))) for n, oid in enumerate(described, start=1) if oid is not None)
    types = {n: declared_type for n, declared_type in numbered if declared_type is not None}
    layout.read_as(types, partial(at_parameter, text, rendered.occurrences))
    oids = [TEXT_OID if n in layout.consumed else oid for n, oid in enumerate(oids, start=1)]
    sql = rendered.fill(lambda i, _o: spelled[i])
    edits = [*rendered.spans]
    edits += [(o.start, o.end, len(s)) for o, s in zip(rendered.occurrences, spelled, strict=True)]
    sent = [oids[n] if isinstance(use, Plain | Absent) else _server_type(use) for use, n, _ in layout.outputs]
    return _plan(
        text,
        answer,
        sql,
        sent,
        inputs=inputs,
        outputs=tuple(layout.outputs),
        described=tuple(described),
        edits=tuple(edits),
        literals=tuple((o.use, o.start, o.literal) for o in rendered.occurrences if o.literal is not None and _is_read(o)),
    )


def _plan(
    text: bytes, answer: Answered, sql: bytes, oids: Sequence[int], *, identity: bool = False, **others: Any
) -> StatementPlan:
    return StatementPlan(
        text,
        sql,
        identity,
        oids=tuple(oids),
        columns=_columns(answer),
        touches=answer.touches,
        plain_select=answer.plain_select,
        effects=answer.effects,
        copy=answer.copy,
        bound=answer.bound,
        prepared=_prepared(answer),
        cursor=_cursor(answer),
        computed_view=answer.computed,
        touched=touched_by(text, answer),
        **others,
    )


def _type_of(oid: int, uses: Sequence[Store | Search]) -> DeclaredType | None:
    """Return a parameter's type: a built-in one, that of a column which it meets, or of a cast around it."""
    named = (t for use in uses for one in (use.type, *(use.given.casts if use.given else ())) for t in _named(one))
    declared = by_oid(oid) or next((t for t in named if t.oid == oid), None)
    if declared is None and any(use.given is not None for use in uses):
        raise UndefinedOperator(
            f"a parameter of type OID {oid} meets a protected column", hint="Declare it as the column's type, or not at all."
        )
    return declared


def _named(declared: DeclaredType) -> Iterator[DeclaredType]:
    yield declared
    yield array_of(declared)
    if declared.base is not None:
        yield from _named(declared.base)


def _inline(text: bytes, answer: Answered, rendered: Rendered, declared: Sequence[int]) -> StatementPlan:
    """Return the plan of a statement that takes no parameters: its literals are sealed when it is parsed."""
    parameter = next((o for o in rendered.occurrences if o.numbers), None)
    if parameter is not None:
        raise StatementRefused(
            "a statement of this kind takes no parameters",
            hint="Write the value as a literal.",
            position=char_position(text, parameter.start),
        )
    return _plan(text, answer, rendered.fill(lambda _i, o: marker(o)), declared, inline=rendered)


def compile_definition(
    text: bytes, answer: Answered, declared: Sequence[int], ciphers: Ciphers, styles: Styles = Styles.CANONICAL
) -> StatementPlan:
    """Return the plan of one Parse of DDL: it has no parameters, so its values are sealed into the text. KeyNeeded."""
    rendered = rendered_of(text, [answer])
    if rendered is None:
        return _plan(text, answer, text, declared, identity=True)
    sql, edits = spell_literals(rendered, ciphers, styles)
    return _plan(text, answer, sql, declared, edits=tuple(sorted(edits)))


class _Layout:
    """The server's parameters: the client's own keep their numbers, every further use gets a new one behind them."""

    def __init__(self, first: list[Use]) -> None:
        self.outputs: list[tuple[Use, int, Source]] = [(use, n, None) for n, use in enumerate(first)]
        self.first = first
        self.consumed: dict[int, Use] = {}
        self._shared: dict[tuple[object, ...], int] = {}
        self._ranges: dict[BoundPair, int] = {}

    def number(self, occurrence: Occurrence) -> int:
        """Return the server's parameter number for one occurrence; 0 for a NULL, which stays in the text, or an upper end."""
        use, number, literal = occurrence.use, occurrence.number, occurrence.formula or occurrence.literal
        if is_upper(use):
            return 0
        if is_read_pair(occurrence):
            return self._range(use, bound_pair(occurrence))
        if occurrence.null:
            return 0
        key = (number, literal, _share(use)) if not isinstance(use, Store) else (id(occurrence),)
        if key not in self._shared:
            self._shared[key] = self._add(use, number, literal)
        return self._shared[key]

    def _range(self, use: Use, bounds: BoundPair) -> int:
        if bounds not in self._ranges:
            self.outputs.append((use, -1, bounds))
            self._ranges[bounds] = len(self.outputs)
        return self._ranges[bounds]

    def uses(self) -> list[Use]:
        """Return what each of the client's parameters is used for first."""
        return [self.consumed.get(number, use) for number, use in enumerate(self.first, start=1)]

    def consume(self, occurrences: Sequence[Occurrence]) -> None:
        """Let no parameter be sent that stands in formulas only: the server gets what these give."""
        for occurrence in occurrences:
            for number in occurrence.numbers:
                if isinstance(self.first[number - 1], Plain):
                    self.consumed[number] = occurrence.use
                    self.outputs[number - 1] = (ABSENT, number - 1, None)

    def _add(self, use: Use, number: int, literal: bytes | Formula | None) -> int:
        if number and isinstance(self.first[number - 1], Plain):
            self.first[number - 1] = use
            self.outputs[number - 1] = (use, number - 1, None)
            return number
        self.outputs.append((use, number - 1, literal))
        return len(self.outputs)

    def uses_of(self) -> dict[int, list[Store | Search]]:
        """Return, by the client's parameters, the uses in which they become something."""
        uses: dict[int, list[Store | Search]] = {}
        for use, n, source in self.outputs:
            if source is None and isinstance(use, Store | Search):
                uses.setdefault(n + 1, []).append(use)
        pairs = (source for _, _, source in self.outputs if isinstance(source, BoundPair))
        for bound in (bound for pair in pairs for bound in (pair.lower, pair.upper)):
            uses.setdefault(bound.number + 1, []).append(bound.use)
        return uses

    def read_as(self, types: Mapping[int, DeclaredType], at: Callable[[int], AbstractContextManager[None]]) -> None:
        """Decide how parameters are read, whose types are known now; refuses what PostgreSQL would not take."""
        for i, (use, n, source) in enumerate(self.outputs):
            if source is None and isinstance(use, Store | Search) and n + 1 in types:
                with at(n + 1):
                    self.outputs[i] = (read_as(use, types[n + 1]), n, source)
            elif isinstance(source, BoundPair):
                bounds = read_bounds_as(source, types, at)
                self.outputs[i] = (bounds.lower.use, n, bounds)

    def check_covers(self, occurrences: Sequence[Occurrence]) -> None:
        """Post-condition: each occurrence feeds an output of its own use (spec/sql 2.3)."""
        fed = {(_own(use), n if literal is None else None, literal) for use, n, literal in self.outputs}
        for o in occurrences:
            if is_read_pair(o):
                assert bound_pair(o) in self._ranges
            elif not o.null and not is_upper(o.use):
                assert (_own(o.use), o.number - 1 if o.number else None, o.formula or o.literal) in fed


def _share(use: Use) -> object:
    """Return what two occurrences must have in common to be one parameter of the server."""
    if not isinstance(use, Search):
        return use
    return use.column.identity, use.slot.number, use.elements, use.chosen, use.type, use.given


def _own(use: Use) -> object:
    """Return the same of a use that is an occurrence's own: each value that is stored is a parameter by itself."""
    return id(use) if isinstance(use, Store) else _share(use)


def _server_type(use: Use) -> int:
    if stored_form(use) == "jsonb":
        return JSONB_ARRAY_OID if sent_as_array(use) else JSONB_OID
    return BYTEA_ARRAY_OID if sent_as_array(use) else BYTEA_OID


def _described(use: Use, declared: int, deduced: int) -> int | None:
    """Return the type OID that the client sees for its parameter, or None for the server's own."""
    if not isinstance(use, Store | Search | Nullness):
        return None
    said = declared if declared not in (0, UNKNOWN_OID) else deduced
    if isinstance(use, Nullness) or not use.type.is_text or use.given is not None or (isinstance(use, Store) and by_oid(said)):
        return said
    accepted = TEXT_ARRAY_LIKE if of_elements(use) or deduced in (TEXT_ARRAY_OID, VARCHAR_ARRAY_OID) else TEXT_LIKE
    if declared not in accepted:
        if isinstance(use, Store):
            raise StatementRefused(
                f"a parameter for {use.column.label} is declared as type OID {declared}", hint="Declare it as text, or not at all."
            )
        builtin = by_oid(declared)
        # There is an operator for char(n), name and perhaps for types of the user's own.
        raise (UndefinedOperator if builtin is not None and builtin.family != "bpchar" else StatementRefused)(
            f"a parameter compared with a protected text column is declared as type OID {declared}",
            hint="No operator matches the given name and argument types. Declare it as text (after ANY or ALL as text[]),"
            " or not at all.",
        )
    if declared in (TEXT_OID, VARCHAR_OID, TEXT_ARRAY_OID, VARCHAR_ARRAY_OID):
        return declared
    return deduced
