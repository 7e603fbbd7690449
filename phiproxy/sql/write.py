"""INSERT, UPDATE and DELETE: what is stored where, and RETURNING.

A protected column takes a parameter, a string literal, NULL, DEFAULT, or a column of the same identity (the envelope is copied);
values that the server would compute are refused, and so is a protected value on its way into an unprotected column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phiproxy.errors import StatementRefused, UndefinedColumn
from phiproxy.policy.catalog import Relation
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.expressions import clear, clear_all, expression, listed_value
from phiproxy.sql.parse import Node, location, only
from phiproxy.sql.rules import QUERIES
from phiproxy.sql.scope import Joined, ListColumn, Output, Protected, Scope, Source, Value
from phiproxy.sql.select import Stores, from_clause, select, targets, with_clause
from phiproxy.sql.sinks import as_sink, peel

Target = tuple[str, ProtectedColumn | None]


def _columns(a: Analysis, relation: Relation) -> Mapping[str, ProtectedColumn]:
    table = a.protected(relation)
    return table.columns if table is not None else {}


def _target(a: Analysis, relation: Relation, body: Node) -> Target:
    name = body["name"]
    if relation.oid and relation.column(name) is None:
        raise UndefinedColumn(f'column "{name}" of relation "{relation.name}" does not exist', position=a.position(body))
    column = _columns(a, relation).get(name)
    if column is not None and body.get("indirection"):
        raise a.refuse(f"assignment into a part of {column.label} is not supported", body)
    return name, column


def insert(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse an InsertStmt body and return the outputs of RETURNING."""
    a.ctes.append({})
    try:
        with_clause(a, body.get("withClause"), outer)
        relation, source = a.target(body["relation"])
        if "cols" in body:
            wanted = [_target(a, relation, only(n)[1]) for n in body["cols"]]
        elif relation.oid:
            wanted = [(c.name, _columns(a, relation).get(c.name)) for c in relation.columns]
        else:
            raise a.refuse(
                "INSERT without a column list into a table just made, beside a protected table, is not in this version",
                body["relation"],
            )
        if "selectStmt" in body:
            _insert_source(a, only(body["selectStmt"])[1], wanted, outer)
        if "onConflictClause" in body:
            _on_conflict(a, body["onConflictClause"], relation, source, outer)
        return _returning(a, body, Joined([source], [(c.name, c.value) for c in source.columns]), outer)
    finally:
        a.ctes.pop()


def _insert_source(a: Analysis, body: Node, wanted: Sequence[Target], outer: Scope) -> None:
    protected = {i: column for i, (_, column) in enumerate(wanted) if column is not None}
    simple = {"valuesLists", "limitOption", "op"}
    if "valuesLists" in body and not set(body) - simple:
        for row in body["valuesLists"]:
            _values_row(a, only(row)[1]["items"], wanted, outer)
        return
    if "valuesLists" in body and protected:
        raise a.refuse("VALUES with WITH, ORDER BY or LIMIT into a protected table is not in this version", body)
    stores = Stores(protected, a.new_row())
    outputs = select(a, body, outer, stores=stores)
    if len(outputs) > len(wanted):
        raise _too_many(a, body)
    for position, (_, value) in enumerate(outputs):
        if position not in stores.stored:
            _flow(a, value, wanted[position][1], body)


def _too_many(a: Analysis, body: Node) -> StatementRefused:
    return a.refuse("INSERT has more expressions than target columns", body, hint="Give one value for each column.")


def _values_row(a: Analysis, items: list[Node], wanted: Sequence[Target], outer: Scope) -> None:
    if len(items) > len(wanted):
        raise _too_many(a, only(items[len(wanted)])[1])
    row = a.new_row()
    for item in items:
        listed_value(a, item)
    for item, (_, column) in zip(items, wanted, strict=False):
        _assign(a, item, column, outer, row)


def _assign(a: Analysis, node: Node, column: ProtectedColumn | None, scope: Scope, row: int) -> None:
    """Analyse one value on its way into one column."""
    if only(node)[0] == "SetToDefault":
        return
    if column is None:
        value = expression(a, node, scope)
        _flow(a, value, None, only(node)[1])
        return
    sink = as_sink(node)
    if sink is not None:
        a.store(sink, column, row)
        return
    inner, casts = peel(node)
    if only(inner)[0] == "ColumnRef":
        value = expression(a, inner, scope)
        a.stripped.extend(casts)
        _flow(a, value, column, only(inner)[1])
        return
    raise _computed(a, column, _body_with_place(node))


def _body_with_place(node: Node) -> Node:
    _, body = only(node)
    return body if location(body) >= 0 else {}


def _computed(a: Analysis, column: ProtectedColumn, body: Node) -> StatementRefused:
    return a.refuse(
        f"the server would compute a value for {column.label}, which is protected",
        body,
        hint="Give a text parameter, a text literal, NULL or DEFAULT.",
    )


def _flow(a: Analysis, value: Value, column: ProtectedColumn | None, body: Node) -> None:
    """Check a value that the server copies into a column."""
    if isinstance(value, Protected):
        if column is None:
            raise a.refuse(f"{value.column.label} would flow into an unprotected column", body)
        if value.column.identity != column.identity:
            raise a.refuse(
                f"{value.column.label} and {column.label} have different identities",
                body,
                hint="Columns that are copied into each other share a domain in the policy.",
            )
        if column.type.max_length is not None and column.type != value.type:
            raise a.refuse(f"{column.label} has a length that the copied value may exceed", body)
        return
    if column is not None:
        raise _computed(a, column, body)
    if isinstance(value, ListColumn):
        value.users.append(None)


def _on_conflict(a: Analysis, body: Node, relation: Relation, source: Source, outer: Scope) -> None:
    infer = body.get("infer", {})
    columns = _columns(a, relation)
    inside = Scope((source,), outer)
    for node in infer.get("indexElems", ()):
        element = only(node)[1]
        column = columns.get(element.get("name", ""))
        if column is not None:
            raise a.refuse(f"ON CONFLICT on {column.label} is not in this version", infer)
        if "expr" in element:
            clear(a, element["expr"], inside)
    excluded = Source("excluded", source.columns, None)
    scope = Scope((source, excluded), outer)
    if "whereClause" in infer:
        clear(a, infer["whereClause"], inside)
    _assignments(a, body.get("targetList", []), relation, scope)
    if "whereClause" in body:
        clear(a, body["whereClause"], scope)


def _assignments(a: Analysis, nodes: list[Node], relation: Relation, scope: Scope) -> None:
    row = a.new_row()
    for node in nodes:
        body = only(node)[1]
        _, column = _target(a, relation, body)
        value = body["val"]
        kind, multi = only(value)
        if kind == "MultiAssignRef":
            if column is not None:
                raise a.refuse(f"assignment of {column.label} in a list is not in this version", body, hint="Write column = value.")
            clear(a, multi["source"], scope)
            continue
        _assign(a, value, column, scope, row)


def _returning(a: Analysis, body: Node, joined: Joined, outer: Scope) -> list[Output]:
    clause = body.get("returningClause", {})
    nodes = clause.get("exprs", [])
    if clause.get("options"):
        raise a.refuse("RETURNING WITH is not in this version", body["relation"])
    scope = Scope(tuple(joined.sources), outer, joined.merged)
    return targets(a, nodes, joined, scope)


def update(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse an UpdateStmt body and return the outputs of RETURNING."""
    return _update_or_delete(a, body, outer, "fromClause")


def delete(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse a DeleteStmt body and return the outputs of RETURNING."""
    return _update_or_delete(a, body, outer, "usingClause")


def _update_or_delete(a: Analysis, body: Node, outer: Scope, others: str) -> list[Output]:
    a.ctes.append({})
    try:
        with_clause(a, body.get("withClause"), outer)
        relation, source = a.target(body["relation"])
        rest = from_clause(a, body.get(others), outer)
        joined = Joined([source, *rest.sources], [*((c.name, c.value) for c in source.columns), *rest.star], rest.merged)
        scope = Scope(tuple(joined.sources), outer, joined.merged)
        clear_all(a, [body["whereClause"]] if "whereClause" in body else [], scope)
        outputs = _returning(a, body, joined, outer)
        # Last, as in PostgreSQL: what WHERE says of a parameter's type comes first.
        _assignments(a, body.get("targetList", []), relation, scope)
        return outputs
    finally:
        a.ctes.pop()


QUERIES.update({"InsertStmt": insert, "UpdateStmt": update, "DeleteStmt": delete})
