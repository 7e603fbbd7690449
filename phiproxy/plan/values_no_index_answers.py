"""Values that are refused since no index answers them: those of a statement that was refused for one, to be split (``Waiting``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.convert_values import Given, at_once, convert_steps
from phiproxy.plan.range_tags import bound_pair
from phiproxy.plan.statement_plan import StatementPlan, read_literal, read_occurrence
from phiproxy.sql.result import BoundPair, Occurrence, Source, Waiting
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.uses import Search, Use
from phiproxy.types.styles import Styles


class Unanswered(Waiting):
    """What ``sql`` calls so, for ``session``, which knows nothing of it."""


def perhaps_unanswered(refused: ValueRefused) -> bool:
    """Tell whether a value is refused that PostgreSQL might take: no index answers it, or it is not read here."""
    return refused.sqlstate == StatementRefused.sqlstate


def unanswered_inputs(
    plan: StatementPlan, ciphers: Ciphers, values: Sequence[bytes | None], formats: Sequence[int], styles: Styles
) -> Unanswered:
    """Return what of a Bind no index answers; raises what ``StatementPlan.parameters`` raises for any other reason."""
    waiting = Unanswered()
    for i, (use, n, source) in enumerate(plan.outputs):
        if isinstance(use, Search) and not _answers(ciphers, partial(plan.read, i, values, formats, styles)):
            waiting = waiting.both(_values_of(n, source))
    return waiting


def unanswered_constants(plan: StatementPlan, ciphers: Ciphers, styles: Styles) -> Unanswered:
    """Return what of the constants no index answers that are looked at when a statement is parsed."""
    waiting = unanswered(plan.inline.occurrences, ciphers, styles) if plan.inline is not None else Unanswered()
    for use, _, literal in plan.literals:
        if isinstance(use, Search) and not _answers(ciphers, partial(_literal, use, literal, styles)):
            waiting = waiting.both(Unanswered(constants=frozenset((literal,))))
    return waiting


def unanswered(occurrences: Sequence[Occurrence], ciphers: Ciphers, styles: Styles) -> Unanswered:
    """Return what of the constants no index answers that are spelled into a text; raises what ``spell_literals`` raises else."""
    waiting = Unanswered()
    for o in occurrences:
        if isinstance(o.use, Search) and not _answers(ciphers, partial(_occurrence, o, o.use, styles)):
            waiting = waiting.both(_values_of(-1, bound_pair(o) if o.other is not None else o.computed or o.literal))
    return waiting


def _literal(use: Search, literal: bytes, styles: Styles) -> tuple[Search, Given]:
    return use, read_literal(use, literal, styles)


def _occurrence(occurrence: Occurrence, use: Search, styles: Styles) -> tuple[Search, Given]:
    return use, read_occurrence(occurrence, styles)


def _answers(ciphers: Ciphers, read: Callable[[], tuple[Use, Given]]) -> bool:
    try:
        at_once(convert_steps(ciphers, [read()]))
    except ValueRefused as refused:
        if not perhaps_unanswered(refused):
            raise
        return False
    return True


def _values_of(number: int, source: Source) -> Unanswered:
    """Return what a parameter of the server's comes from: the client's parameter ``number``, from 0, or something else."""
    if isinstance(source, BoundPair):
        ends = (source.lower, source.upper)
        constants = frozenset(end.literal for end in ends if end.literal is not None)
        return Unanswered(frozenset(n + 1 for n in source.numbers()), constants)
    if isinstance(source, Formula):
        return Unanswered(frozenset(p.number for p in source.parameters()), frozenset(source.constants()))
    return Unanswered(frozenset((number + 1,))) if source is None else Unanswered(constants=frozenset((source,)))
