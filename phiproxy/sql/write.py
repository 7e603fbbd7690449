"""INSERT, UPDATE and DELETE: which parts they have, in which order these are looked at, and RETURNING."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.policy.catalog import Relation
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.assign import Place, Target, assign, assign_query, assignments, columns_of, target, too_many
from phiproxy.sql.conflict import on_conflict
from phiproxy.sql.ctes import with_clause
from phiproxy.sql.defaults import Given, default_values, fill_rows, fill_select, left_out
from phiproxy.sql.expressions import listed_value
from phiproxy.sql.hidden import list_columns, visible_columns
from phiproxy.sql.mismatch import condition
from phiproxy.sql.parse import Node, only
from phiproxy.sql.rowfields import name_fields
from phiproxy.sql.rules import QUERIES
from phiproxy.sql.scope import Joined, Output, Scope, Source, joined_of, star_of
from phiproxy.sql.select import from_clause, targets
from phiproxy.sql.views import write_target

# RETURNING old.c, new.c came with PostgreSQL 18.
_OLD_AND_NEW = 180000


def insert(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse an InsertStmt body and return the outputs of RETURNING."""
    a.ctes.append({})
    try:
        with_clause(a, body.get("withClause"), outer)
        relation, source = write_target(a, body["relation"])
        wanted = wanted_columns(a, body.get("cols"), relation, body["relation"])
        if "selectStmt" in body:
            _insert_source(a, body, relation, wanted, outer)
        else:
            default_values(a, relation, body)
        if "onConflictClause" in body:
            on_conflict(a, body["onConflictClause"], relation, source, outer)
        return returning(a, body, source, joined_of(source), outer)
    finally:
        a.ctes.pop()


def wanted_columns(a: Analysis, nodes: Sequence[Node] | None, relation: Relation, body: Node) -> list[Target]:
    """Return the columns that an INSERT's list names, or those of the table in their order."""
    if nodes:
        return [target(a, relation, only(node)[1]) for node in nodes]
    if relation.oid:
        return [(c.name, columns_of(a, relation).get(c.name)) for c in visible_columns(relation)]
    raise a.refuse(
        "INSERT without a column list into a table just made, beside a protected table, is not in this version",
        body,
        hint="List the columns.",
    )


def _insert_source(a: Analysis, insertion: Node, relation: Relation, wanted: Sequence[Target], outer: Scope) -> None:
    """Analyse what is inserted, and give it the list of columns and the defaults that the client means."""
    _, body = only(insertion["selectStmt"])
    simple = {"valuesLists", "limitOption", "op"}
    number = a.new_row()
    rows = [(only(row)[1]["items"], number) for row in body.get("valuesLists", ())]
    if not rows or set(body) - simple:
        count = assign_query(a, insertion["selectStmt"], wanted, outer, Place(number, number))
    else:
        count = len(rows[0][0])
        rows = [(row, a.new_row()) for row, _ in rows]
        for row, own in rows:
            _values_row(a, row, wanted, outer, Place(number, own, certain=True))
    given = Given(insertion, "cols", count)
    if not left_out(a, relation, wanted if insertion.get("cols") else wanted[:count]):
        list_columns(a, insertion, relation, count)
    elif rows:
        fill_rows(a, relation, given, wanted, rows)
    else:
        fill_select(a, relation, given, wanted, body, number)


def _values_row(a: Analysis, items: list[Node], wanted: Sequence[Target], outer: Scope, place: Place) -> None:
    if len(items) > len(wanted):
        raise too_many(a, only(items[len(wanted)])[1])
    for item in items:
        listed_value(a, item)
    for item, (_, column) in zip(items, wanted, strict=False):
        assign(a, item, column, outer, place)


def returning(a: Analysis, body: Node, target_source: Source, joined: Joined, outer: Scope) -> list[Output]:
    """Analyse RETURNING; from PostgreSQL 18 it knows the row before and after as ``old`` and ``new``, or as WITH names them."""
    clause = body.get("returningClause", {})
    scope = Scope((*joined.sources, *_versions(a, clause, target_source, joined)), outer, joined.merged)
    name_fields(a, [clause.get("exprs")], scope)
    return targets(a, clause.get("exprs", []), joined, scope)


def _versions(a: Analysis, clause: Node, source: Source, joined: Joined) -> list[Source]:
    if a.context.catalog.server_version < _OLD_AND_NEW:
        return []
    names = {"RETURNING_OPTION_OLD": "old", "RETURNING_OPTION_NEW": "new"}
    for node in clause.get("options", ()):
        option = only(node)[1]
        names[option["option"]] = option["value"]
    # An alias of the statement's own hides the default names, as in PostgreSQL.
    given = {only(node)[1]["value"] for node in clause.get("options", ())}
    taken = {s.alias for s in joined.sources} - given
    return [Source(name, source.columns, bare=False, hidden=source.hidden) for name in names.values() if name not in taken]


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
        relation, source = write_target(a, body["relation"])
        rest = from_clause(a, body.get(others), outer)
        joined = Joined([source, *rest.sources], [*star_of(source), *rest.star], rest.merged, rest.listed)
        scope = joined.scope(outer)
        name_fields(a, [body.get("whereClause"), body.get("targetList")], scope)
        if "whereClause" in body:
            condition(a, body["whereClause"], scope, "WHERE")
        outputs = returning(a, body, source, joined, outer)
        # Last, as in PostgreSQL: what WHERE says of a parameter's type comes first.
        assignments(a, body.get("targetList", []), relation, scope)
        return outputs
    finally:
        a.ctes.pop()


QUERIES.update({"InsertStmt": insert, "UpdateStmt": update, "DeleteStmt": delete})
