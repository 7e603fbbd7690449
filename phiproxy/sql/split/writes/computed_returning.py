"""RETURNING of what is computed: the write is the source, and the engine computes over the rows that it returns."""

from __future__ import annotations

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Kind, Split, Waiting
from phiproxy.sql.split.source_and_rest import Described
from phiproxy.sql.split.writes.assigned_values import Written
from phiproxy.sql.split.writes.composed_select import described_of
from phiproxy.sql.split.writes.described import described, described_around
from phiproxy.sql.split.writes.inner_write import all_writes, writes_in_with
from phiproxy.sql.split.writes.parts_seen_together import answered, check_apart, check_none_waits, check_whatever_is_given
from phiproxy.sql.split.writes.returned import Returned, returned
from phiproxy.sql.statements.utility import effects
from phiproxy.sql.text.token_spans import Spans


def computed_returning(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a write of which only RETURNING must be computed; Impossible for any other.

    INSERT INTO patients (ssn) VALUES ('x') RETURNING id, upper(ssn)
    → source: INSERT INTO patients (ssn) VALUES ('x') RETURNING patients.id, patients.ssn
    → rest: SELECT id, upper(ssn) FROM (SELECT s.c1, s.c2 FROM {} AS s) AS patients (id, ssn)
    """
    result = returned(a, spans, write)
    source = result.write
    written_first = answered(a, source.text, source.parameters)
    check_whatever_is_given(written_first)
    check_none_waits(written_first, source.waiting(write.waiting))
    check_apart(a, [written_first], result.rest)
    inner = all_writes(a, spans) if writes_in_with(a) else []
    told = described_of(a, described_around(a, spans, inner) if inner else described(a.text, spans, write))
    return split_over(a, result, told, refusal, kind="write", waiting=write.waiting)


def split_over(
    a: Analysis,
    result: Returned,
    told: Described,
    refusal: StatementRefused | ValueRefused,
    *,
    kind: Kind,
    waiting: Waiting | None = None,
) -> Split:
    """Return the split whose source is a write that returns rows, and whose rest computes over them."""
    statement, source = a.statement, result.write
    return Split(
        kind=kind,
        start=statement.start,
        end=statement.end,
        source=source.text,
        source_parameters=tuple(source.parameters),
        source_spans=tuple(source.origins),
        columns=result.columns,
        rest=result.rest,
        described=told.rest,
        described_columns=told.columns,
        origins=told.origins,
        row_types=result.row_types | told.row_types,
        orders=told.orders,
        effects=effects(statement.kind, statement.body, a.whole(), a.context.catalog.setters),
        numbers=a.parameter_numbers,
        plain_select=False,
        locks=True,
        refusal=refusal,
        waiting=waiting,
    )
