"""Where PostgreSQL asks whether two expressions are equal: a subquery in both must be one in the rest too, over one source.

In GROUP BY and what is shown of the groups, in DISTINCT and ORDER BY, and in an aggregate with both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from phiproxy.sql.pg_errors.calls import is_aggregate
from phiproxy.sql.split.blocks import references
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.values import ServerValue
from phiproxy.sql.text.parse import Node, grouping_entries, only, strings, without_locations

_SHOWN = ("targetList", "havingClause", "sortClause", "distinctClause", "windowClause", "groupClause")


def check_equal(whole: Whole, gone: Collection[int], read: Mapping[int, object]) -> None:
    """Refuse two subqueries that may be equal for PostgreSQL, and read what is not one source in the rest; Impossible.

    ``read`` is what the rest reads, by the ids of its queries and tables.

    SELECT grouping((SELECT min(id) FROM visits TABLESAMPLE bernoulli (9))), max(upper(notes)) FROM patients
    GROUP BY (SELECT min(id) FROM visits TABLESAMPLE bernoulli (9))
    → refused 0A000
    """
    for body in bodies(whole.body, gone):
        for keys, beside in _compared(whole, body, gone):
            others = list(_subqueries(beside, gone))
            for key in _subqueries(keys, gone):
                if any(_read(one, gone, read) != _read(key, gone, read) and may_be_equal(whole, one, key) for one in others):
                    raise Impossible("two subqueries may be equal, and are over two sources")


def check_values(whole: Whole, gone: Collection[int], values: Sequence[ServerValue]) -> None:
    """Refuse what is shown of groups where a value of the server's is NULL in some: a subquery in its place is not; Impossible.

    But for an output that is what is grouped by, which is computed once: so of two keys that may be equal one has its output.

    SELECT CURRENT_DATE IS NULL, max(upper(notes)) FROM patients GROUP BY ROLLUP (CURRENT_DATE)
    → refused 0A000
    """
    for body in bodies(whole.body, gone) if values else ():
        if not any("GroupingSet" in node for node in body.get("groupClause", ())):
            continue
        keys = [_meant(body, node) for node in grouping_entries(body["groupClause"])]
        grouped = {value.key for key in keys for value in values if _has(key, value)}
        outputs = [only(node)[1]["val"] for node in body.get("targetList", ())]
        first = [key for n, key in enumerate(keys) if not any(may_be_equal(whole, key, other) for other in keys[:n])]
        for bare in [without_locations(key) for key in first]:
            same = next((output for output in outputs if without_locations(output) == bare), None)
            outputs = [output for output in outputs if output is not same]
        others = [*outputs, *(body[key] for key in ("havingClause", "sortClause") if key in body)]
        if any(value.key in grouped and _has(other, value) for other in others for value in values):
            raise Impossible("a value of the server's by which is grouped, and from which something is computed")


def _has(tree: Any, value: ServerValue) -> bool:
    """Tell whether an expression has a value of the server's: of ``age(x)`` that stands behind the bracket."""
    at = [place for message in bodies({"": tree}, ()) if (place := message.get("location", -1)) >= 0]
    return bool(at) and min(at) <= value.start <= max(at)


def _compared(whole: Whole, body: Node, gone: Collection[int]) -> Iterator[tuple[Any, Any]]:
    """Yield expressions of a query, or of an aggregate, each with others that may be equal."""
    shown = [body[key] for key in _SHOWN if key in body]
    if body.get("distinctClause") and "sortClause" in body:
        yield [body["distinctClause"], body["sortClause"]], shown
    if body.get("agg_distinct") and "agg_order" in body:
        yield body["agg_order"], body["args"]
    level = whole.verdict.levels.get(id(body))
    if not body.get("groupClause") or level is None:
        return
    keys = [_meant(body, node) for node in grouping_entries(body["groupClause"])]
    # Else each is the same for all rows: nothing tells whether it is grouped by one, or it is computed again.
    if (
        any("GroupingSet" in node for node in body["groupClause"])
        or any("GroupingFunc" in message for message in bodies({"": shown}, gone))
        or references(whole.verdict, list(_subqueries(keys, gone)), level, whole.protected).sources
    ):
        yield keys, shown


def _meant(body: Node, node: Node) -> Node:
    """Return the output that an entry of GROUP BY names, or it."""
    targets = [only(target)[1] for target in body.get("targetList", ())]
    kind, entry = only(node)
    if kind == "A_Const" and 1 <= (number := entry.get("ival", {}).get("ival", 0)) <= len(targets):
        node = targets[number - 1]["val"]
    names = strings(entry["fields"]) if kind == "ColumnRef" else []
    return next((target["val"] for target in targets if [target.get("name")] == names), node)


def _subqueries(tree: Any, gone: Collection[int]) -> Iterator[Node]:
    return (message["subselect"] for message in bodies({"": tree}, gone) if "subselect" in message)


def may_be_equal(whole: Whole, one: Node, other: Node) -> bool:
    """Tell whether two expressions may be equal for PostgreSQL, however they are written; where that is not sure, they may be.

    Not of other tables, columns, aggregates, parameters or integers: ``p.id = 1`` may be ``id IN (1)``, and never ``id = 2``.
    """
    return all(a is None or b is None or a == b for a, b in zip(_named_in(whole, one), _named_in(whole, other), strict=True))


def _named_in(whole: Whole, tree: Node) -> tuple[set[object] | None, ...]:
    """Return what is named in an expression, by kinds; None where it may also be named otherwise. No order of rows counts."""
    ordered = ("sortClause", "groupClause", "distinctClause")
    gone = {id(only(node)[1]) for message in bodies({"": tree}, ()) for key in ordered for node in message.get(key, ()) if node}
    found = list(bodies({"": tree}, gone))
    columns = [strings(message["fields"])[-1] for message in found if "fields" in message]
    aggregates: set[object] = {strings(m["funcname"])[-1] for m in found if "funcname" in m and is_aggregate(whole.verdict, m)}
    spelled = any(isinstance(message.get(kind), dict) for message in found for kind in ("sval", "fval"))
    named: tuple[set[object] | None, ...] = (
        {message["relname"] for message in found if "relname" in message},
        None if "*" in columns else set(columns),
        aggregates,
        {message["number"] for message in found if "number" in message},
        None if spelled else {message["ival"].get("ival", 0) for message in found if isinstance(message.get("ival"), dict)},
    )
    return named


def _read(query: Node, gone: Collection[int], read: Mapping[int, object]) -> list[object]:
    return [read[id(message)] for message in bodies(query, gone) if id(message) in read]
