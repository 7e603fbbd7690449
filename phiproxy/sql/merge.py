"""MERGE: the source, the condition, and what each WHEN clause sees and does (manual, MERGE)."""

from __future__ import annotations

from phiproxy.policy.catalog import Relation
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.assign import Place, assign, assignments, too_many
from phiproxy.sql.ctes import with_clause
from phiproxy.sql.defaults import Given, fill_rows
from phiproxy.sql.expressions import listed_value
from phiproxy.sql.hidden import in_between
from phiproxy.sql.mismatch import condition
from phiproxy.sql.parse import Node, only
from phiproxy.sql.rules import QUERIES
from phiproxy.sql.scope import Joined, Output, Scope, Source, star_of
from phiproxy.sql.select import from_clause
from phiproxy.sql.views import write_target
from phiproxy.sql.write import returning, wanted_columns


def merge(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse a MergeStmt body and return the outputs of RETURNING."""
    a.ctes.append({})
    try:
        with_clause(a, body.get("withClause"), outer)
        relation, source = write_target(a, body["relation"])
        rest = from_clause(a, [body["sourceRelation"]], outer)
        # In the order of RETURNING *: the source's columns stand first.
        joined = Joined([*rest.sources, source], [*rest.star, *star_of(source)], rest.merged, rest.listed)
        both = joined.scope(outer)
        condition(a, body["joinCondition"], both, "JOIN/ON")
        seen = {
            "MERGE_WHEN_MATCHED": both,
            "MERGE_WHEN_NOT_MATCHED_BY_SOURCE": Scope((source,), outer),
            "MERGE_WHEN_NOT_MATCHED_BY_TARGET": rest.scope(outer),
        }
        number = a.new_row()
        for node in body["mergeWhenClauses"]:
            clause = only(node)[1]
            _when(a, clause, relation, source, seen[clause["matchKind"]], number)
        return returning(a, body, source, joined, outer)
    finally:
        a.ctes.pop()


def _when(a: Analysis, clause: Node, relation: Relation, source: Source, scope: Scope, number: int) -> None:
    if "condition" in clause:
        condition(a, clause["condition"], scope, "WHEN")
    command = clause["commandType"]
    if command == "CMD_UPDATE":
        assignments(a, clause["targetList"], relation, scope, number)
    elif command == "CMD_INSERT" and "values" in clause:
        values = clause["values"]
        wanted = wanted_columns(a, clause.get("targetList"), relation, clause)
        if len(values) > len(wanted):
            raise too_many(a, only(values[len(wanted)])[1])
        if not clause.get("targetList") and in_between(relation, len(values)):
            raise a.refuse("INSERT without a column list beside hidden columns", only(values[0])[1], hint="List the columns.")
        place = Place(number, a.new_row())
        for value, (_, column) in zip(values, wanted, strict=False):
            listed_value(a, value)
            assign(a, value, column, scope, place)
        fill_rows(a, relation, Given(clause, "targetList", len(values)), wanted, [(values, place.row)])


QUERIES["MergeStmt"] = merge
