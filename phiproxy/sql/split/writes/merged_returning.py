"""RETURNING of a MERGE that must be computed: the MERGE is the source, and the engine computes over the rows that it returns."""

from __future__ import annotations

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split, Waiting
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.composed_select import described_of
from phiproxy.sql.split.writes.computed_returning import split_over
from phiproxy.sql.split.writes.described_merge import described_merge
from phiproxy.sql.split.writes.merge_clauses import Merge, merge_of
from phiproxy.sql.split.writes.parts_seen_together import answered, check_apart, check_none_waits, check_whatever_is_given
from phiproxy.sql.split.writes.returned import merge_returned
from phiproxy.sql.split.writes.targets import target_of
from phiproxy.sql.text.token_spans import Spans


def computed_merge_returning(
    a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused, waiting: Waiting | None = None
) -> Split:
    """Split a MERGE of which only RETURNING must be computed; Impossible for any other.

    MERGE INTO members m USING visits v ON v.mrn = m.mrn WHEN MATCHED THEN DELETE RETURNING merge_action(), upper(m.email)
    → source: MERGE INTO members m USING visits v ON v.mrn = m.mrn WHEN MATCHED THEN DELETE
      RETURNING m.email, merge_action()
    """
    merge: Merge = merge_of(a.statement, spans, target_of(a, a.statement.body["relation"]))
    if merge.returning is None:
        raise Impossible("nothing that is returned is computed")
    result = merge_returned(a, spans, merge)
    source = result.write
    merged_first = answered(a, source.text, source.parameters)
    check_whatever_is_given(merged_first)
    check_none_waits(merged_first, source.waiting(waiting))
    check_apart(a, [merged_first], result.rest)
    told = described_of(a, described_merge(a, spans, merge))
    return split_over(a, result, told, refusal, kind="write", waiting=waiting)
