"""Computed values that depend on no row: the engine computes them once, and the write is the client's with parameters for them."""

from __future__ import annotations

from bisect import bisect_right

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.same_answers import VOLATILE
from phiproxy.sql.split.writes.checks import answered, check_whatever_is_given
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composition import Parts, Stored, composition
from phiproxy.sql.split.writes.described import described
from phiproxy.sql.split.writes.written import Given, Written
from phiproxy.sql.text.parse import messages, strings
from phiproxy.sql.text.token_spans import Spans

_ASKED_FIRST = "Ask for it first, as SELECT nextval('…'), in the same transaction, and give what it answers as a parameter."


def computed_values(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an INSERT … VALUES, or an UPDATE to values that are the same for every row; Impossible for any other.

    What ON CONFLICT sets to something of a row (``SET ssn = excluded.ssn``) stays as it is.

    INSERT INTO patients (ssn, city) VALUES (initcap($1), $2)
    → rest: SELECT q.q1 FROM (SELECT initcap($1)) AS q (q1)
    → write: INSERT INTO patients (ssn, city) VALUES ($1, $2)
    """
    computed = [given for given in write.values if given.computed]
    computed += [given for given in write.conflict if given.computed and not given.of_row]
    if any(given.picks[1] for given in computed):
        raise Impossible("a query that gives several values")
    if not computed or (write.kind == "UpdateStmt" and any(given.of_row for given in computed)):
        raise Impossible("nothing is computed that is the same for every row")
    _check_volatile(a, computed)
    if len({_key(a, given) for given in computed}) < len(computed):
        try:
            return _split(a, spans, write, computed, refusal, together=True)
        except Impossible:  # one that each row has its own of, as of gen_random_uuid()
            pass
    return _split(a, spans, write, computed, refusal, together=False)


def _check_volatile(a: Analysis, computed: list[Given]) -> None:
    """Go on where no value is of a function that tells by its result how often it was called; RefusedWithHint.

    INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers'))
    → refused 0A000
    """
    signatures = a.context.catalog.signatures
    names = {strings(m["funcname"])[-1] for given in computed for m in messages(given.node) if "funcname" in m} - VOLATILE
    if signatures is not None and any(f.volatile == "v" for name in names for f in signatures.functions(name)):
        raise RefusedWithHint("a volatile function in a value that is computed beside the server", _ASKED_FIRST)


def _key(a: Analysis, given: Given) -> object:
    """Return what the value of a default is told from others by; of any other value where it stands."""
    spans = a.context.default_spans
    i = bisect_right(spans, (given.span[0], len(a.text)))
    is_default = i > 0 and given.span[1] <= spans[i - 1][1]
    return (given.column, a.text[slice(*given.span)]) if is_default else given.span


def _split(
    a: Analysis,
    spans: Spans,
    write: Written,
    computed: list[Given],
    refusal: StatementRefused | ValueRefused,
    *,
    together: bool,
) -> Split:
    """``together``: the default of a column is computed once for all rows."""
    select, changed = Composed(a.text, spans), Composed(a.text, spans)
    if write.clauses.before is not None:
        select.add(write.clauses.before, " ")
    select.add("SELECT ")
    at, numbers = a.statement.start, dict[object, int]()
    stored = list[Stored]()
    for given in computed:
        key = _key(a, given) if together else given.span
        if key not in numbers:
            numbers[key] = len(numbers) + 1
            select.add(", " if len(numbers) > 1 else "", *given.as_select)
            stored.append(Stored(write.target.type(a.context.catalog, given.column)))
        changed.add((at, given.span[0]), changed.parameter(-numbers[key]))
        at = given.span[1]
    changed.add((at, a.statement.end))
    check_whatever_is_given(
        answered(a, changed.text, changed.parameters, [0 if n > 0 else stored[-n - 1].type.oid for n in changed.parameters])
    )
    return composition(
        a,
        Parts(
            select,
            stored,
            changed,
            described(a.text, spans, write),
            [write.target],
            returns=write.clauses.returning is not None,
            waiting=write.waiting,
            once=not together
            and write.kind == "InsertStmt"
            and len(computed) == len([given for given in write.values if given.computed]),
        ),
        refusal,
    )
