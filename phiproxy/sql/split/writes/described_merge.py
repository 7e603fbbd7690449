"""What is described of a split MERGE: a SELECT with the columns of RETURNING, and every parameter where the client has it."""

from __future__ import annotations

from phiproxy.sql.context import Analysis
from phiproxy.sql.split.writes.assigned_values import ALIAS
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.described import add_given, has_parameter
from phiproxy.sql.split.writes.drawn import called_by_server
from phiproxy.sql.split.writes.merge_clauses import Merge
from phiproxy.sql.text.parse import Node, location, messages, strings
from phiproxy.sql.text.token_spans import OPEN, Spans


def described_merge(a: Analysis, spans: Spans, merge: Merge) -> Composed:
    """Return a SELECT with the columns of RETURNING, in which every parameter stands where the client has it."""
    composed = Composed(a.text, spans, called_by_server(a, spans, merge.body))
    if merge.before is not None:
        composed.add(merge.before, " ")
    composed.add("SELECT ")
    if merge.returning is not None:
        _add_returned(composed, spans, merge, merge.returning)
    all_columns = merge.returning is not None and shows_all(merge.body)
    items = (merge.source, merge.relation) if all_columns else (merge.relation, merge.source)
    # Of chosen rows it is over system columns, beside which there may not be all columns.
    given = merge.body["sourceRelation"].get("RangeFunction", {}).get("alias", {}).get("aliasname") == ALIAS
    condition = "true" if given and not has_parameter(spans, merge.condition) else merge.condition
    composed.add(" FROM ", items[0], ", ", items[1])
    if merge.returning is not None and composed.shares_parameter(*merge.returning):
        # RETURNING is read behind ON, and before what is done: so each says the types of parameters.
        composed.add(", LATERAL (SELECT WHERE (", condition, ")) AS phi_described WHERE true")
    else:
        composed.add(" WHERE (", condition, ")")
    for when in merge.whens:
        if when.condition is not None and has_parameter(spans, when.condition):
            composed.add(" AND (", when.condition, ")")
        for value in when.values:
            if has_parameter(spans, value.span):
                add_given(composed, " AND EXISTS (SELECT ", value, merge.target)
                composed.add(")")
    return composed


def _add_returned(composed: Composed, spans: Spans, merge: Merge, returning: Span) -> None:
    """Add what RETURNING shows; ``merge_action()``, which only a MERGE may call, is a text of that name."""
    at, tokens = returning[0], spans.tokens
    calls = (m["MergeSupportFunc"] for m in messages(merge.body["returningClause"]) if "MergeSupportFunc" in m)
    for start in sorted(map(location, calls)):
        first = spans.at(start)
        composed.add((at, start), "(SELECT NULL::text AS merge_action)")
        at = tokens[spans.partner(spans.next(first, OPEN))].end
    composed.add((at, returning[1]))


def shows_all(body: Node) -> bool:
    """Tell whether RETURNING of a MERGE has a star for all columns of the source and the target."""
    fields = (m["fields"] for m in messages(body["returningClause"]) if isinstance(m.get("fields"), list))
    return any(strings(names) == ["*"] for names in fields)
