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
from phiproxy.sql.split.same_answers import AT_EACH_CALL, VOLATILE
from phiproxy.sql.split.statement import Calls
from phiproxy.sql.split.writes.assigned_values import Given, Written, written
from phiproxy.sql.split.writes.clear_values import clear_outputs
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composition import Parts, composition
from phiproxy.sql.split.writes.computed_values import AskedValue, asked_values, draws, edits
from phiproxy.sql.split.writes.described import described_around
from phiproxy.sql.split.writes.drawn import is_changing
from phiproxy.sql.split.writes.drawn_in_with import check_drawn_in_with
from phiproxy.sql.split.writes.inner_write import all_writes
from phiproxy.sql.split.writes.parts_seen_together import answered, check_whatever_is_given
from phiproxy.sql.text.parse import messages, strings
from phiproxy.sql.text.token_spans import Spans


def computed_values_in_with(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a statement with writes in WITH that store values which are the same for every row; Impossible for any other.

    WITH p AS (INSERT INTO patients (ssn) VALUES (reverse($1)) RETURNING id) INSERT INTO visits (patient_id) SELECT id FROM p
    → rest: SELECT q.q1 FROM (SELECT reverse($1)) AS q (q1)
    → write: WITH p AS (INSERT INTO patients (ssn) VALUES ($1) RETURNING id) INSERT INTO visits (patient_id) SELECT id FROM p

    What is drawn, by one of them, is drawn before as well:

    WITH p AS (INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers')) RETURNING id)
      INSERT INTO visits (patient_id) SELECT id FROM p
    → source: SELECT pg_catalog.nextval('public.patients_id_seq'), nextval('numbers')
    → write: WITH p AS (INSERT INTO patients (mrn, id) VALUES ($1, $2) RETURNING id)
      INSERT INTO visits (patient_id) SELECT id FROM p
    """
    inner = all_writes(a, spans)
    writes = [(one.write, one.spans) for one in inner]
    signatures = a.context.catalog.signatures
    assert signatures is not None
    if a.statement.kind != "SelectStmt":
        writes.append((written(a, spans), spans))
    asked = [_asked(a, write, signatures) for write, _ in writes]
    values = [value._replace(key=n) for n, value in enumerate((value for of in asked for value in of), start=1)]
    if not values:
        raise Impossible("nothing is computed that is the same for every row")
    drawing = [write for write, _ in writes if draws(write)]
    check_drawn_in_with(a, drawing, [write for write, _ in writes if not draws(write)])
    select, changed, at = Composed(a.text, spans).add("SELECT "), Composed(a.text, spans), a.statement.start
    for number, value in enumerate(values, start=1):
        select.add(", " if number > 1 else "", *value.asked)
    for (start, end), before, number in sorted(_edits(writes, asked, values)):
        changed.add((at, start), before + (changed.parameter(-number) if number else ""))
        at = end
    changed.add((at, a.statement.end))
    stored = [value.stored for value in values]
    types = [0 if n > 0 else stored[-n - 1].type.oid for n in changed.parameters]
    check_whatever_is_given(answered(a, changed.text, changed.parameters, types))
    clear = [n for n, one in enumerate(stored) if not one.computed]
    parts = Parts(
        select,
        stored,
        changed,
        described_around(a, spans, inner),
        [write.target for write, _ in writes],
        returns=a.statement.kind == "SelectStmt" or "returningClause" in a.statement.body,
        calls=Calls(once=AT_EACH_CALL if drawing else VOLATILE),
        clear=clear_outputs(a, select, clear) if clear else (),
    )
    return composition(a, parts, refusal)


def _asked(a: Analysis, write: Written, signatures: Signatures) -> list[AskedValue]:
    """Return what is asked for of a write: what it computes that depends on no row, and what is drawn for it."""
    computed = list(_computed(write, signatures))
    of_rows = {id(given) for given in write.values} if write.kind == "InsertStmt" else set()
    if any(is_changing(given.node) for given in computed if id(given) not in of_rows):
        raise Impossible("a value that each row has its own of, or that not every row has")
    of_conflict = {id(given) for given in write.conflict}
    given = [one for one in computed if id(one) not in of_conflict]
    return asked_values(a, write, given, [one for one in computed if id(one) in of_conflict])


def _edits(
    writes: Sequence[tuple[Written, Spans]], asked: Sequence[Sequence[AskedValue]], values: Sequence[AskedValue]
) -> Iterator[tuple[Span, str, int]]:
    """Yield what is put where in the client's text: the parameters of the values, in the write that each is of."""
    first = 0
    for (write, spans), of_one in zip(writes, asked, strict=True):
        own = values[first : first + len(of_one)]
        first += len(of_one)
        yield from edits(write, spans, own, {value.key: number for number, value in enumerate(own, start=first - len(own) + 1)})


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
