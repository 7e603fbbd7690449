"""Queries whose rows are each made of one row of the only source: what filters the one filters the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phiproxy.policy.view_rests import Rows
from phiproxy.sql.split.blocks import block
from phiproxy.sql.split.order_and_limit import changes_rows
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.statement import Whole

if TYPE_CHECKING:
    from phiproxy.sql.split.division import Division

_OTHERWISE = ("groupClause", "havingClause", "distinctClause", "windowClause", "withClause", "lockingClause")


def rows_of(whole: Whole, division: Division) -> Rows:
    """Return how the rows of a query are those of its source.

    ``SELECT id, upper(full_name) FROM patients WHERE city = 'x'`` has one of each, with ``WHERE full_name ILIKE '%x'`` of some;
    ``SELECT max(full_name) FROM patients`` has others.
    """
    body = whole.body
    taken = [*(one.source for one in division.own), *(one.source for one in division.joined)]
    if len(taken) != 1 or division.value_source or body.get("op", "SETOP_NONE") != "SETOP_NONE":
        return "other"
    (source,) = taken
    level = whole.verdict.levels.get(id(body))
    if level is None or source.waiting or any(key in body for key in _OTHERWISE):
        return "other"
    if any(table.rest is not None and table.rest.rows == "other" for table in whole.tables):
        return "other"
    if ({"limitCount", "limitOffset"} & body.keys()) and not source.behind:
        return "other"
    left = list(bodies(body, division.gone))
    if any("subLinkType" in message or "subquery" in message for message in left):
        return "other"
    computed = [body.get("targetList", []), body.get("sortClause", [])]
    if any(changes_rows(whole, message) for message in bodies(computed, ())):
        return "other"
    waits = not all(id(node) in division.gone for part in block(whole.spans, body, level).parts for node in part.nodes)
    return "some" if waits or any(table.rest is not None and table.rest.rows == "some" for table in whole.tables) else "each"
