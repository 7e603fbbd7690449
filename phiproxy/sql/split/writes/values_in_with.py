"""Writes in WITH, and one around them, that store values which depend on no row: the engine computes these once, before.

The write is the client's statement with parameters in their place. So it is of one snapshot, whatever it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.signatures import Function, Signatures
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.same_answers import VOLATILE
from phiproxy.sql.split.statement import NO_CALLS, Calls
from phiproxy.sql.split.writes.checks import answered, check_whatever_is_given
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composition import Parts, Stored, composition
from phiproxy.sql.split.writes.described import described_around
from phiproxy.sql.split.writes.inner_write import all_writes
from phiproxy.sql.split.writes.targets import Target
from phiproxy.sql.split.writes.written import Given, Written, written
from phiproxy.sql.text.parse import messages, strings
from phiproxy.sql.text.token_spans import Spans


def computed_values_in_with(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a statement with writes in WITH that store values which are the same for every row; Impossible for any other.

    WITH p AS (INSERT INTO patients (ssn) VALUES (reverse($1)) RETURNING id) INSERT INTO visits (patient_id) SELECT id FROM p
    → rest: SELECT q.q1 FROM (SELECT reverse($1)) AS q (q1)
    → write: WITH p AS (INSERT INTO patients (ssn) VALUES ($1) RETURNING id) INSERT INTO visits (patient_id) SELECT id FROM p
    """
    inner = all_writes(a, spans)
    writes = [one.write for one in inner]
    signatures = a.context.catalog.signatures
    assert signatures is not None
    if a.statement.kind != "SelectStmt":
        writes.append(written(a, spans))
    computed = sorted(((given, write) for write in writes for given in _computed(write, signatures)), key=lambda one: one[0].span)
    if not computed:
        raise Impossible("nothing is computed that is the same for every row")
    select, changed, at = Composed(a.text, spans).add("SELECT "), Composed(a.text, spans), a.statement.start
    for number, (given, _) in enumerate(computed, start=1):
        select.add(", " if number > 1 else "", *given.as_select)
        changed.add((at, given.span[0]), changed.parameter(-number))
        at = given.span[1]
    changed.add((at, a.statement.end))
    stored = [Stored(write.target.type(a.context.catalog, given.column)) for given, write in computed]
    types = [0 if n > 0 else stored[-n - 1].type.oid for n in changed.parameters]
    check_whatever_is_given(answered(a, changed.text, changed.parameters, types))
    targets: list[Target] = [write.target for write in writes]
    once = all(any(given is one for one in write.values) and write.kind == "InsertStmt" for given, write in computed)
    calls = Calls(once=VOLATILE) if once else NO_CALLS
    returns = a.statement.kind == "SelectStmt" or "returningClause" in a.statement.body
    parts = Parts(select, stored, changed, described_around(a, spans, inner), targets, returns=returns, calls=calls)
    return composition(a, parts, refusal)


def _computed(write: Written, signatures: Signatures) -> Iterator[Given]:
    """Yield the values of a write that are computed, and depend on no row; Impossible for one that reads a table.

    Those that a query gives are computed for each of its rows, so what is volatile may not be in them, nor an aggregate.
    """
    for given in write.query:
        names = [strings(m["funcname"])[-1] for m in messages(given.node) if "funcname" in m]
        if given.computed and not all(is_settled(signatures.functions(name)) for name in names):
            raise Impossible("a value that may be another one for each row of a query")
    for given in (*write.values, *write.query, *write.conflict):
        if given.computed and not given.of_row:
            if given.picks[1] or any("SubLink" in m for m in messages(given.node)):
                raise Impossible("a value that a query gives, of another snapshot than the write")
            yield given


def is_settled(functions: Sequence[Function]) -> bool:
    """Tell whether functions of one name give one value, and the same each time."""
    return bool(functions) and all(f.kind == "f" and not f.rows and f.volatile != "v" for f in functions)
