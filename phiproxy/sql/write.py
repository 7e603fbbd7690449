"""INSERT, UPDATE and DELETE: which parts they have, in which order these are looked at, and RETURNING."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.assign import Place, Target, assign, assign_query, assignments, columns_of, target, too_many
from phiproxy.sql.conflict import on_conflict
from phiproxy.sql.expressions import clear_all, listed_value
from phiproxy.sql.parse import Node, only
from phiproxy.sql.rules import QUERIES
from phiproxy.sql.scope import Joined, Output, Scope
from phiproxy.sql.select import from_clause, targets, with_clause


def insert(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse an InsertStmt body and return the outputs of RETURNING."""
    a.ctes.append({})
    try:
        with_clause(a, body.get("withClause"), outer)
        relation, source = a.target(body["relation"])
        if "cols" in body:
            wanted = [target(a, relation, only(n)[1]) for n in body["cols"]]
        elif relation.oid:
            wanted = [(c.name, columns_of(a, relation).get(c.name)) for c in relation.columns]
        else:
            raise a.refuse(
                "INSERT without a column list into a table just made, beside a protected table, is not in this version",
                body["relation"],
            )
        if "selectStmt" in body:
            _insert_source(a, body["selectStmt"], wanted, outer)
        if "onConflictClause" in body:
            on_conflict(a, body["onConflictClause"], relation, source, outer)
        return _returning(a, body, Joined([source], [(c.name, c.value) for c in source.columns]), outer)
    finally:
        a.ctes.pop()


def _insert_source(a: Analysis, node: Node, wanted: Sequence[Target], outer: Scope) -> None:
    _, body = only(node)
    simple = {"valuesLists", "limitOption", "op"}
    if "valuesLists" in body and not set(body) - simple:
        number = a.new_row()
        for row in body["valuesLists"]:
            _values_row(a, only(row)[1]["items"], wanted, outer, Place(number, a.new_row()))
        return
    number = a.new_row()
    assign_query(a, node, wanted, outer, Place(number, number))


def _values_row(a: Analysis, items: list[Node], wanted: Sequence[Target], outer: Scope, place: Place) -> None:
    if len(items) > len(wanted):
        raise too_many(a, only(items[len(wanted)])[1])
    for item in items:
        listed_value(a, item)
    for item, (_, column) in zip(items, wanted, strict=False):
        assign(a, item, column, outer, place)


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
        assignments(a, body.get("targetList", []), relation, scope)
        return outputs
    finally:
        a.ctes.pop()


QUERIES.update({"InsertStmt": insert, "UpdateStmt": update, "DeleteStmt": delete})
