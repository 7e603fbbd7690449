"""Whether a row of a result may show what is of another row: for the audit log, which says whom each row is about."""

from collections.abc import Iterator
from typing import Any

from phiproxy.sql.context import Analysis
from phiproxy.sql.text.parse import PARTS, Node, messages

# Where these are, not all rows that a window function has seen are rows of the result.
_CUTS = frozenset({"limitCount", "limitOffset", "distinctClause"})


def mixes_rows(a: Analysis, *, of_view: bool = False) -> bool:
    """Tell whether a row of a statement's result may show what is of a row that is not in the result.

    So it may be with grouping sets, and with window functions of columns, unless all rows that such a function has seen are
    shown: ``lag(city) OVER (…)`` in the SELECT list of the statement itself, without LIMIT or DISTINCT. ``row_number()``,
    ``rank()`` and ``count(*)`` say nothing of another row.
    Of the query of a view not all rows need be shown. The statement stays as it is:

    SELECT id, ssn, lag(city) OVER (ORDER BY id) FROM public.patients
    → unchanged
    """
    if "GroupingSet" in a.keys:
        return True
    if "over" not in a.keys:
        return False
    body = a.statement.body
    of_columns = {id(call) for call in a.whole() if "over" in call and _of_columns(call)}
    if of_view or a.statement.kind != "SelectStmt" or not _CUTS.isdisjoint(body):
        return bool(of_columns)
    return not of_columns <= {id(call) for call in _own(body.get("targetList", []))}


def _of_columns(call: Node) -> bool:
    return any("fields" in message for part in ("args", "agg_filter") for message in messages(call.get(part, [])))


def _own(tree: Any) -> Iterator[Node]:
    """Yield the messages of a query's own expressions, without those of subqueries."""
    pending: list[Any] = [tree]
    while pending:
        value: Any = pending.pop()
        if isinstance(value, dict):
            yield value
            value = [part for key, part in value.items() if key != "SubLink"]
        pending += [part for part in value if isinstance(part, PARTS)]
