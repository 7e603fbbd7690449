"""Queries whose rows are each made of one row of the only source: what filters the one filters the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from phiproxy.policy.view_rests import Rows
from phiproxy.sql.split.blocks import block
from phiproxy.sql.split.order_and_limit import changes_rows
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.sources import Source
from phiproxy.sql.split.statement import Whole

_OTHERWISE = ("groupClause", "havingClause", "distinctClause", "windowClause", "withClause", "lockingClause")


def rows_of(whole: Whole, tables: Sequence[Source], gone: Collection[int]) -> Rows:
    """Return how the rows of a query are those of its source, of which there must be one, of tables.

    ``gone`` are the ids of the nodes that the source has, and no longer the rest.

    ``SELECT id, upper(full_name) FROM patients WHERE city = 'x'`` has one of each, with ``WHERE full_name ILIKE '%x'`` of some;
    ``SELECT max(full_name) FROM patients`` has others.
    """
    body = whole.body
    if len(tables) != 1 or body.get("op", "SETOP_NONE") != "SETOP_NONE":
        return "other"
    (source,) = tables
    level = whole.verdict.levels.get(id(body))
    if level is None or source.waiting or any(key in body for key in _OTHERWISE):
        return "other"
    if any(table.rest is not None and table.rest.rows == "other" for table in whole.tables):
        return "other"
    if ({"limitCount", "limitOffset"} & body.keys()) and not source.behind:
        return "other"
    left = list(bodies(body, gone))
    if any("subLinkType" in message or "subquery" in message for message in left):
        return "other"
    computed = [body.get("targetList", []), body.get("sortClause", [])]
    if any(changes_rows(whole, message) for message in bodies(computed, ())):
        return "other"
    waits = not all(id(node) in gone for part in block(whole.spans, body, level).parts for node in part.nodes)
    return "some" if waits or any(table.rest is not None and table.rest.rows == "some" for table in whole.tables) else "each"
