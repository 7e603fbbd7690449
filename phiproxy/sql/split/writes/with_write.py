"""Writes in WITH that need the plaintext, or one over whose rows the rest of the statement does.

What is around them reads nothing but what they return. So the statement is of one snapshot, as it is in PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.source_and_rest import split_over_writes
from phiproxy.sql.split.writes.assigned_values import Given
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composed_select import described_of
from phiproxy.sql.split.writes.composition import Parts, Stored, composition_or_apart
from phiproxy.sql.split.writes.computed_returning import split_over
from phiproxy.sql.split.writes.described import described_around
from phiproxy.sql.split.writes.inner_write import InnerWrite, all_writes, inner_write, inner_writes, kept_queries
from phiproxy.sql.split.writes.parts_seen_together import answered, check_apart, check_whatever_is_given
from phiproxy.sql.split.writes.returned import over_returned
from phiproxy.sql.split.writes.returned_beside import returned_beside
from phiproxy.sql.split.writes.targets import cast_as
from phiproxy.sql.split.writes.updated_and_deleted_rows import add_chosen, add_write, clear_of, stored_of, values_of_rows
from phiproxy.sql.text.token_spans import Spans


def computed_over_write(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a SELECT that computes over what a write in its WITH returns; Impossible for any other.

    WITH x AS (UPDATE patients SET city = 'x' RETURNING id, notes) SELECT id, upper(notes) FROM x
    → source: UPDATE patients SET city = 'x' RETURNING patients.id, patients.notes
    → rest: WITH x AS (SELECT id, notes FROM (SELECT s.c1, s.c2 FROM {} AS s) AS patients (id, notes))
      SELECT id, upper(notes) FROM x
    """
    if a.statement.kind != "SelectStmt":
        raise Impossible("it is no SELECT")
    inner = inner_write(a, spans)
    result = over_returned(inner.a, inner.spans, inner.write, inner.over_rows(a, spans), one=False)
    source = answered(inner.a, result.write.text, result.write.parameters)
    check_whatever_is_given(source)
    check_apart(a, [source], result.rest)
    told = described_of(a, described_around(a, spans, all_writes(a, spans)))
    return split_over(a, result, told, refusal, kind="other")


def computed_around_writes(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a SELECT that computes over what writes in its WITH return, and over tables beside them; Impossible for any other.

    WITH x AS (UPDATE visits SET room = 'r' RETURNING patient_id) SELECT upper(p.ssn) FROM x JOIN patients p ON p.id = x.patient_id
    → source: WITH x AS (UPDATE visits SET room = 'r' RETURNING patient_id)
      SELECT p.ssn FROM x JOIN patients p ON p.id = x.patient_id
    """
    if a.statement.kind != "SelectStmt":
        raise Impossible("it is no SELECT")
    result = split_over_writes(a, kept_queries(a), described_of(a, described_around(a, spans, all_writes(a, spans))), refusal)
    source = answered(a, result.source, result.source_parameters)
    check_whatever_is_given(source)
    check_apart(a, [source], result.rest)
    return result


def computed_write(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a statement with UPDATEs and DELETEs in WITH that need the plaintext; Impossible for any other.

    WITH x AS (DELETE FROM visits WHERE diagnosis ILIKE '%flu%' RETURNING mrn ) INSERT INTO members (mrn) SELECT mrn FROM x
    → source: SELECT visits.diagnosis, visits.ctid, visits.tableoid FROM visits FOR UPDATE OF visits
    → write: WITH x AS (DELETE FROM visits USING ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]))
      AS phi_write (phi_1, phi_2) WHERE visits.ctid = phi_write.phi_1::tid AND visits.tableoid = phi_write.phi_2::oid
      RETURNING mrn ) INSERT INTO members (mrn) SELECT mrn FROM x
    """
    if a.statement.kind not in ("InsertStmt", "SelectStmt"):
        raise Impossible("what is around the write changes rows")
    inner = inner_writes(a, spans)
    if any(returned_beside(one.a, one.spans, one.write) for one in inner):
        raise Impossible("a name that the write does not have")
    given_to = [values_of_rows(one.a, one.write) for one in inner]
    stored = [stored_of(a, one.write, values) for one, values in zip(inner, given_to, strict=True)]
    select = _chosen(a, spans, inner, given_to, stored)
    columns = [column for of_one in stored for column in of_one]
    outputs: list[Given | None] = []
    for values, of_one in zip(given_to, stored, strict=True):
        outputs += [*[None] * (len(of_one) - len(values)), *values]
    changed, at, first = Composed(a.text, spans), a.statement.start, 1
    for one, values, of_one in zip(inner, given_to, stored, strict=True):
        changed.add((at, one.span[0]))
        own = range(first, first + len(of_one))
        add_write(one.a, changed, one.spans, one.write, columns, values, one_of=own).add(" ")
        at, first = one.span[1], own.stop
    changed.add((at, a.statement.end))
    return composition_or_apart(
        a,
        Parts(
            select,
            columns,
            changed,
            described_around(a, spans, all_writes(a, spans)),
            [one.write.target for one in inner],
            many=True,
            returns=a.statement.kind == "SelectStmt" or "returningClause" in a.statement.body,
            clear=clear_of(a, select, outputs),
        ),
        refusal,
    )


def _chosen(
    a: Analysis, spans: Spans, inner: Sequence[InnerWrite], given_to: Sequence[list[Given]], stored: Sequence[list[Stored]]
) -> Composed:
    """Return the SELECT that chooses and locks the rows of all writes: of several a UNION ALL, each in parentheses.

    A row of one of them has NULL in the columns that are for the others.
    """
    if len(inner) == 1:
        return add_chosen(inner[0].a, Composed(a.text, inner[0].spans), inner[0].write, given_to[0])
    select, first = Composed(a.text, spans), 0
    columns = [f"NULL::{cast_as(one.type)}" for of_one in stored for one in of_one]
    for number, (one, values, of_one) in enumerate(zip(inner, given_to, stored, strict=True)):
        behind = first + len(of_one)
        if one.write.clauses.before is not None:
            raise Impossible("several writes, of which one has queries of WITH of its own")
        select.add(" UNION ALL (" if number else "(")
        add_chosen(one.a, select, one.write, values, columns[:first], columns[behind:]).add(")")
        first = behind
    return select
