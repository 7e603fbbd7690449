"""SELECT: target lists, the clauses that refer to outputs, set operations, VALUES, CTEs and subqueries.

``select`` answers the output columns as (name, Value); a name is None where the server would make one up that is not modelled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from phiproxy.errors import DuplicateAlias
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.computed import compared_sink
from phiproxy.sql.ctes import with_clause
from phiproxy.sql.dependent import Selected
from phiproxy.sql.expressions import clear, expression, listed_value, one_value
from phiproxy.sql.grouping import distinct, distinct_on, group_by, grouped_scope, label, window
from phiproxy.sql.hidden import list_star
from phiproxy.sql.mismatch import condition
from phiproxy.sql.names import output_name
from phiproxy.sql.parse import Node, location, only, strings
from phiproxy.sql.respell import spelled_node
from phiproxy.sql.rowfields import name_fields
from phiproxy.sql.rules import FROM_ITEMS, QUERIES
from phiproxy.sql.scope import (
    CLEAR,
    Clear,
    Joined,
    ListColumn,
    ListGroup,
    Output,
    Protected,
    Scope,
    SourceColumn,
    Value,
    find_source,
    group_key,
    star_of,
)
from phiproxy.sql.setops import set_operation
from phiproxy.sql.sinks import as_sink
from phiproxy.sql.sorting import sort_key, sorted_by
from phiproxy.sql.unnest import unnested

_EXPRESSIONS = ("targetList", "whereClause", "groupClause", "havingClause", "sortClause", "windowClause", "distinctClause")


class Stores(Protocol):
    """Where a SELECT's outputs go, when they go into columns."""

    stored: set[int]

    def store(self, a: Analysis, node: Node, scope: Scope, position: int) -> Protected | None:
        """Store the expression at a position of the target list, or return None: its value is then an output like any other."""


def select(a: Analysis, body: Node, outer: Scope, *, stores: Stores | None = None) -> list[Output]:
    """Analyse a SelectStmt body inside ``outer`` and return its outputs."""
    if "intoClause" in body:
        raise a.refuse(
            "SELECT INTO inside of another query, beside a protected table, is not in this version",
            only(body["targetList"][0])[1] if "targetList" in body else body["intoClause"]["rel"],
            hint="Write CREATE TABLE … AS SELECT ….",
        )
    a.ctes.append({})
    try:
        with_clause(a, body.get("withClause"), outer)
        if "valuesLists" in body:
            return _values(a, body, outer)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            return _set_operation(a, body, outer)
        return _plain_select(a, body, outer, stores)
    finally:
        a.ctes.pop()


def _values(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    rows = [only(row)[1]["items"] for row in body["valuesLists"]]
    width = len(rows[0])
    group = ListGroup()
    columns = [ListColumn([], [], group=group, of_values=True, seen=len(a.uses)) for _ in range(width)]
    for row in rows:
        number = a.new_row()
        for column, item in zip(columns, row, strict=False):
            sink = as_sink(item) or compared_sink(a, item)
            if sink is None:
                listed_value(a, item)
                clear(a, item, outer)
            column.entries.append(sink)
            column.rows.append(number)
    a.lists.extend(columns)
    if "sortClause" in body:
        for column in columns:
            column.users.append(None)
    _limits(a, body, outer)
    return [(f"column{i + 1}", column) for i, column in enumerate(columns)]


def _set_operation(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    outputs = set_operation(a, body, lambda operand: select(a, operand, outer))
    for node in body.get("sortClause", ()):
        _output_reference(a, only(node)[1]["node"], outputs, Scope((), outer))
    _limits(a, body, outer)
    return outputs


def _limits(a: Analysis, body: Node, outer: Scope) -> None:
    for part in ("limitOffset", "limitCount"):
        if part in body:
            clear(a, body[part], outer)


def _plain_select(a: Analysis, body: Node, outer: Scope, stores: Stores | None) -> list[Output]:
    joined = from_clause(a, body.get("fromClause"), outer)
    if _is_table(body):
        joined = replace(joined, table=location(only(body["fromClause"][0])[1]))
    inside = joined.scope(outer)
    name_fields(a, [body.get(part) for part in _EXPRESSIONS], inside)
    scope = grouped_scope(a, body, inside)
    nodes: list[Node | None] = []
    outputs = targets(a, body.get("targetList", []), joined, scope, stores, nodes)
    for part, seen, what in (("whereClause", inside, "WHERE"), ("havingClause", scope, "HAVING")):
        if part in body:
            condition(a, body[part], seen, what)
    group_by(a, body, outputs, inside)
    for node in body.get("sortClause", ()):
        _output_reference(a, only(node)[1]["node"], outputs, scope)
    for definition in body.get("windowClause", ()):
        window(a, only(definition)[1], scope)
    _distinct(a, body, outputs, nodes, scope)
    if stores is not None and stores.stored and ("distinctClause" in body or "groupClause" in body):
        raise a.refuse(
            "DISTINCT or GROUP BY over values for protected columns is not in this version",
            only(body["targetList"][0])[1],
            hint="Group or de-duplicate in a subquery, or before the values are sent.",
        )
    _limits(a, body, scope)
    if "groupClause" not in body and "lockingClause" not in body:
        a.selected[id(body)] = Selected(outputs, nodes, scope)
    return outputs


def _is_table(body: Node) -> bool:
    """Tell whether a query was written as ``TABLE relation``."""
    first = only(body["targetList"][0])[1].get("val", {}) if body.get("targetList") else {}
    return "ColumnRef" in first and first["ColumnRef"].get("location", -1) < 0 and bool(body.get("fromClause"))


def _distinct(a: Analysis, body: Node, outputs: list[Output], nodes: list[Node | None], scope: Scope) -> None:
    clause = body.get("distinctClause")
    if clause is None:
        return
    expressions = [n for n in clause if n]
    for node in expressions:
        if not distinct_on(a, node, outputs, nodes, scope):
            _output_reference(a, node, outputs, scope)
    if not expressions:
        distinct(a, body, outputs, nodes, scope)


def _output_reference(a: Analysis, node: Node, outputs: list[Output], scope: Scope) -> None:
    """Analyse an entry of ORDER BY or DISTINCT ON, which may name an output by number or name (manual 7.5)."""
    kind, body = only(node)
    named: list[Value] = []
    if kind == "A_Const" and "ival" in body:
        index = body["ival"].get("ival", 0)
        named = [outputs[index - 1][1]] if 1 <= index <= len(outputs) else []
    elif kind == "ColumnRef" and len(names := strings(body["fields"])) == 1:
        named = [value for name, value in outputs if name == names[0]]
        if not named:
            sort_key(a, node, scope)
    else:
        sort_key(a, node, scope)
    for value in named:
        sorted_by(a, value, node)


def targets(
    a: Analysis,
    nodes: list[Node],
    joined: Joined,
    scope: Scope,
    stores: Stores | None = None,
    expressions: list[Node | None] | None = None,
) -> list[Output]:
    """Analyse a target list (of SELECT or RETURNING) and return its outputs, ``*`` expanded as the server does.

    ``expressions`` is given the expression of each output, None where there is none to be referred to.
    """
    outputs: list[Output] = []
    made: list[Node | None] = expressions if expressions is not None else []
    group, row = ListGroup(), a.new_row()
    for node in nodes:
        target = only(node)[1]
        value = target["val"]
        kind, body = only(value)
        if kind == "ColumnRef" and strings(body["fields"])[-1] == "*":
            star = _star(a, nodes, node, joined, scope)
            outputs.extend((None if c.name == "\0" else c.name, c.value) for c in star)
            made.extend(_referring(column) for column in star)
            continue
        one_value(a, value)
        made.append(value)
        position = len(outputs)
        name = target.get("name") or output_name(value)
        stored = stores.store(a, value, scope, position) if stores is not None else None
        if stored is not None:
            # ORDER BY would see the envelopes, and with it the order in which a sequence numbers the rows.
            outputs.append((name, stored))
            continue
        found = _given(a, value, group, row) or expression(a, value, scope)
        label(a, target, found, name)
        outputs.append((name, Clear(computed=True) if found is CLEAR and kind != "ColumnRef" else found))
    return outputs


def _referring(column: SourceColumn) -> Node | None:
    """Return a reference to a column that ``*`` gave."""
    if isinstance(column.value, Clear) or any("\0" in pair for pair in column.spelled):
        return None
    return spelled_node(column.spelled)


def _given(a: Analysis, node: Node, group: ListGroup, row: int) -> ListColumn | None:
    """Return a parameter or literal of a target list as a column of one given value, whose use is decided outside."""
    sink = as_sink(node)
    if sink is None:
        return unnested(a, node, group, row)
    column = ListColumn([sink], [row], group=group, seen=len(a.uses))
    a.lists.append(column)
    return column


def _star(a: Analysis, nodes: list[Node], node: Node, joined: Joined, scope: Scope) -> list[SourceColumn]:
    body = only(only(node)[1]["val"])[1]
    names = strings(body["fields"])
    if len(names) == 1:
        star, sources, listed = joined.star, joined.sources, joined.listed
    else:
        source = find_source(scope, names[-2], names[-3] if len(names) > 2 else None, a.position(body))
        star, sources, listed = star_of(source), [source], any(c.spelled for c in source.columns)
    if any(s.opaque for s in sources):
        raise a.refuse(
            "* over a function or a table just made, beside a protected table, is not in this version",
            body,
            hint="List the columns.",
        )
    if listed or any(source.hidden for source in sources) or any(group_key(c.value) in scope.grouped for c in star):
        list_star(a, nodes, node, star, scope, joined.table)
    return star


def from_clause(a: Analysis, nodes: list[Node] | None, outer: Scope) -> Joined:
    """Analyse a FROM (or USING) list; items to the left are visible to LATERAL ones."""
    result = Joined([], [])
    for node in nodes or ():
        kind, body = only(node)
        item = from_item(a, kind, body, outer, result)
        result = Joined(
            [*result.sources, *item.sources],
            [*result.star, *item.star],
            (*result.merged, *item.merged),
            result.listed or item.listed,
        )
        _check_aliases(a, result, body)
    return result


def _check_aliases(a: Analysis, joined: Joined, place: Node) -> None:
    """Refuse a name of two sources that are not tables of two schemas (parse_relation.c, checkNameSpaceConflicts)."""
    named: dict[str, set[str | None]] = {}
    for source in joined.sources:
        schemas = named.setdefault(source.alias, set())
        if source.alias != "\0" and schemas and (source.schema is None or schemas & {source.schema, None}):
            why = f'table name "{source.alias}" specified more than once'
            raise a.refuse(why, place, hint="Give each an alias.", error=DuplicateAlias)
        schemas.add(source.schema)


def from_item(a: Analysis, kind: str, body: Node, outer: Scope, left: Joined) -> Joined:
    """Analyse one entry of FROM or one side of a JOIN; ``left`` is what LATERAL sees."""
    rule = FROM_ITEMS.get(kind)
    if rule is None:
        name, hint = _NOT_IN_FROM.get(kind, (kind, "Put it into a statement of its own, and pass what it gives as parameters."))
        raise a.refuse(f"{name} in FROM beside a protected table is not in this version", body, hint=hint)
    return rule(a, body, outer, left)


_JOINED_IN_CLIENT = "Select what it is made of, and take it apart in the client."
_NOT_IN_FROM = {
    "RangeTableFunc": ("XMLTABLE", _JOINED_IN_CLIENT),
    "JsonTable": ("JSON_TABLE", _JOINED_IN_CLIENT),
}

QUERIES["SelectStmt"] = select
