"""SELECT: target lists, the clauses that refer to outputs, set operations, VALUES, CTEs and subqueries.

``select`` answers the output columns as (name, Value); a name is None where the server would make one up that is not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from phiproxy.sql.analysis import Analysis, rename
from phiproxy.sql.expressions import clear, clear_all, expression, listed_value, one_value, unsupported
from phiproxy.sql.names import output_name
from phiproxy.sql.parse import Node, children, only, strings
from phiproxy.sql.rules import EXPRESSIONS, FROM_ITEMS, QUERIES, query
from phiproxy.sql.scope import (
    CLEAR,
    Clear,
    Joined,
    ListColumn,
    ListGroup,
    Output,
    Protected,
    Scope,
    Source,
    SourceColumn,
    Value,
    find_source,
    list_groups,
)
from phiproxy.sql.sinks import as_sink
from phiproxy.sql.unnest import unnested


class Stores(Protocol):
    """Where a SELECT's outputs go, when they go into columns."""

    stored: set[int]

    def store(self, a: Analysis, node: Node, scope: Scope, position: int) -> Protected | None:
        """Store the expression at a position of the target list, or return None: its value is then an output like any other."""


def select(a: Analysis, body: Node, outer: Scope, *, stores: Stores | None = None) -> list[Output]:
    """Analyse a SelectStmt body inside ``outer`` and return its outputs."""
    if "intoClause" in body:
        raise a.refuse("SELECT INTO of or beside a protected table is not in this version", body)
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


def with_clause(a: Analysis, clause: Node | None, outer: Scope) -> None:
    """Analyse WITH: each CTE becomes a source of the innermost CTE level (manual 7.8)."""
    if clause is None:
        return
    if clause.get("recursive"):
        raise a.refuse("WITH RECURSIVE beside a protected table is not in this version", clause)
    for node in clause["ctes"]:
        _, cte = only(node)
        if "search_clause" in cte or "cycle_clause" in cte:
            raise a.refuse("SEARCH and CYCLE beside a protected table are not in this version", cte)
        outputs = query(a, *only(cte["ctequery"]), Scope((), outer))
        for group in list_groups(value for _, value in outputs):
            group.references -= 1  # only who names the CTE uses it
        names = [only(n)[1].get("sval", "") for n in cte.get("aliascolnames", ())]
        a.ctes[-1][cte["ctename"]] = rename(
            source_of(cte["ctename"], outputs), {"colnames": cte.get("aliascolnames", ())} if names else {}
        )


def source_of(alias: str, outputs: list[Output]) -> Source:
    """Return a subquery's outputs as a source; a column whose name is not known makes it opaque."""
    columns = tuple(SourceColumn(name if name is not None else "\0", value) for name, value in outputs)
    unknown_protected = any(name is None and not isinstance(value, Clear) for name, value in outputs)
    assert not unknown_protected
    return Source(alias, columns, None, opaque=any(name is None for name, _ in outputs), system=False)


def _values(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    rows = [only(row)[1]["items"] for row in body["valuesLists"]]
    width = len(rows[0])
    group = ListGroup()
    columns = [ListColumn([], [], group=group) for _ in range(width)]
    for row in rows:
        number = a.new_row()
        for column, item in zip(columns, row, strict=False):
            sink = as_sink(item)
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
    left = select(a, body["larg"], outer)
    right = select(a, body["rarg"], outer)
    all_rows = body["op"] == "SETOP_UNION" and body.get("all", False) and "sortClause" not in body
    outputs: list[Output] = []
    for i, (name, value) in enumerate(left):
        other = right[i][1] if i < len(right) else CLEAR
        if all_rows and isinstance(value, ListColumn) and isinstance(other, ListColumn):
            united = ListColumn([], [], parts=(value, other))
            a.lists.append(united)
            outputs.append((name, united))
            continue
        for one in (value, other):
            _no_set_operation(a, one, body)
        outputs.append((name, CLEAR))
    _limits(a, body, outer)
    return outputs


def _no_set_operation(a: Analysis, value: Value, body: Node) -> None:
    if isinstance(value, Protected):
        raise a.refuse(
            f"{value.column.label} in UNION, INTERSECT or EXCEPT is not in this version",
            body,
            hint="Run the selects one by one.",
        )
    if isinstance(value, ListColumn):
        value.users.append(None)


def _limits(a: Analysis, body: Node, outer: Scope) -> None:
    for part in ("limitOffset", "limitCount"):
        if part in body:
            clear(a, body[part], outer)


def _plain_select(a: Analysis, body: Node, outer: Scope, stores: Stores | None) -> list[Output]:
    joined = from_clause(a, body.get("fromClause"), outer)
    scope = Scope(tuple(joined.sources), outer, joined.merged)
    outputs = targets(a, body.get("targetList", []), joined, scope, stores)
    for part in ("whereClause", "havingClause"):
        if part in body:
            clear(a, body[part], scope)
    for node in body.get("groupClause", ()):
        _output_reference(a, node, outputs, scope, outputs_first=False)
    for node in body.get("sortClause", ()):
        sort = only(node)[1]
        _output_reference(a, sort["node"], outputs, scope, outputs_first=True)
    for window in body.get("windowClause", ()):
        clear_all(a, list(children(only(window)[1])), scope)
    _distinct(a, body, outputs, scope)
    if stores is not None and stores.stored and ("distinctClause" in body or "groupClause" in body):
        raise a.refuse("DISTINCT or GROUP BY over values for protected columns is not in this version", body)
    _limits(a, body, scope)
    return outputs


def _distinct(a: Analysis, body: Node, outputs: list[Output], scope: Scope) -> None:
    clause = body.get("distinctClause")
    if clause is None:
        return
    expressions = [n for n in clause if n]
    for node in expressions:
        _output_reference(a, node, outputs, scope, outputs_first=True)
    if expressions:
        return
    for _, value in outputs:
        if isinstance(value, Protected):
            raise a.refuse(f"DISTINCT over {value.column.label} is not in this version", body)
        if isinstance(value, ListColumn):
            value.users.append(None)


def _output_reference(a: Analysis, node: Node, outputs: list[Output], scope: Scope, *, outputs_first: bool) -> None:
    """Analyse an entry of ORDER BY, GROUP BY or DISTINCT ON, which may name an output by number or name (manual 7.5)."""
    kind, body = only(node)
    if not outputs_first and (kind == "GroupingSet" or (kind == "RowExpr" and body.get("row_format") == "COERCE_IMPLICIT_CAST")):
        # In GROUP BY also what stands inside ROLLUP (…), GROUPING SETS (…) and (…, …) may be a number or a name of an output.
        for inner in (*body.get("content", ()), *body.get("args", ())):
            _output_reference(a, inner, outputs, scope, outputs_first=False)
        return
    named: list[Value] = []
    if kind == "A_Const" and "ival" in body:
        index = body["ival"].get("ival", 0)
        named = [outputs[index - 1][1]] if 1 <= index <= len(outputs) else []
    elif kind == "ColumnRef" and len(names := strings(body["fields"])) == 1:
        named = [value for name, value in outputs if name == names[0]]
        owned = any(source.owns(names[0]) for source in scope.sources)
        if not outputs_first and owned:
            named = []
        if not named:
            clear(a, node, scope)
    else:
        clear(a, node, scope)
    for value in named:
        if isinstance(value, Protected):
            raise unsupported(a, value.column, node)
        if isinstance(value, ListColumn):
            value.users.append(None)


def targets(a: Analysis, nodes: list[Node], joined: Joined, scope: Scope, stores: Stores | None = None) -> list[Output]:
    """Analyse a target list (of SELECT or RETURNING) and return its outputs, ``*`` expanded as the server does."""
    outputs: list[Output] = []
    group, row = ListGroup(), a.new_row()
    for node in nodes:
        target = only(node)[1]
        value = target["val"]
        kind, body = only(value)
        if kind == "ColumnRef" and strings(body["fields"])[-1] == "*":
            outputs.extend(_star(a, body, joined, scope))
            continue
        one_value(a, value)
        position = len(outputs)
        name = target.get("name") or output_name(value)
        stored = stores.store(a, value, scope, position) if stores is not None else None
        if stored is not None:
            # ORDER BY would see the envelopes, and with it the order in which a sequence numbers the rows.
            outputs.append((name, stored))
            continue
        outputs.append((name, _given(a, value, group, row) or expression(a, value, scope)))
    return outputs


def _given(a: Analysis, node: Node, group: ListGroup, row: int) -> ListColumn | None:
    """Return a parameter or literal of a target list as a column of one given value, whose use is decided outside."""
    sink = as_sink(node)
    if sink is None:
        return unnested(a, node, group, row)
    column = ListColumn([sink], [row], group=group)
    a.lists.append(column)
    return column


def _star(a: Analysis, body: Node, joined: Joined, scope: Scope) -> list[Output]:
    names = strings(body["fields"])
    if len(names) == 1:
        star, opaque = joined.star, any(s.opaque for s in joined.sources)
    else:
        source = find_source(scope, names[-2], names[-3] if len(names) > 2 else None, a.position(body))
        star, opaque = [(c.name, c.value) for c in source.columns], source.opaque
    if opaque:
        raise a.refuse(
            "* over a function or a table just made, beside a protected table, is not in this version",
            body,
            hint="List the columns.",
        )
    return [(None if name == "\0" else name, value) for name, value in star]


def from_clause(a: Analysis, nodes: list[Node] | None, outer: Scope) -> Joined:
    """Analyse a FROM (or USING) list; items to the left are visible to LATERAL ones."""
    result = Joined([], [])
    for node in nodes or ():
        kind, body = only(node)
        item = from_item(a, kind, body, outer, result.sources)
        result.sources += item.sources
        result.star += item.star
        result.merged |= item.merged
    return result


def from_item(a: Analysis, kind: str, body: Node, outer: Scope, left: Sequence[Source]) -> Joined:
    """Analyse one entry of FROM or one side of a JOIN; ``left`` is what LATERAL sees."""
    rule = FROM_ITEMS.get(kind)
    if rule is None:
        raise a.refuse(f"{kind} in FROM beside a protected table is not in this version", body)
    return rule(a, body, outer, left)


def _sublink(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    if "testexpr" in body:
        clear(a, body["testexpr"], scope)
    for _, value in query(a, *only(body["subselect"]), scope):
        if isinstance(value, Protected) and body["subLinkType"] != "EXISTS_SUBLINK":
            raise a.refuse(f"{value.column.label} as the result of a subquery expression is not in this version", body)
        if isinstance(value, ListColumn):
            value.users.append(None)
    return CLEAR


EXPRESSIONS["SubLink"] = _sublink
QUERIES["SelectStmt"] = select
