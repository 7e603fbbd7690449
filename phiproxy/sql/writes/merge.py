"""MERGE: the source, the condition, and what each WHEN clause sees and does (manual, MERGE)."""

from phiproxy.policy.catalog import Relation
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.conditions import condition
from phiproxy.sql.expressions.expression import listed_value
from phiproxy.sql.queries.ctes import ctes_of
from phiproxy.sql.queries.generated_columns import in_between
from phiproxy.sql.queries.select import from_clause
from phiproxy.sql.queries.views import write_target
from phiproxy.sql.resolve.protected_values import Output
from phiproxy.sql.resolve.scope import Scope, Source, beside, joined_of
from phiproxy.sql.text.parse import Node, only
from phiproxy.sql.writes.assignment import Destination, assign, assignments, too_many
from phiproxy.sql.writes.column_defaults import Given, fill_rows, left_out
from phiproxy.sql.writes.insert_update_delete import reaches_children, returning, wanted_columns


def merge(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse a MergeStmt body and return the outputs of RETURNING.

    MERGE INTO patients p USING visits v ON p.mrn = v.mrn WHEN MATCHED THEN UPDATE SET ssn = 'x' WHEN NOT MATCHED THEN
      INSERT (mrn, ssn) VALUES (v.mrn, $1)
    → MERGE INTO patients p USING visits v ON tag(p.mrn) = tag(v.mrn) WHEN MATCHED THEN UPDATE SET ssn = envelope('x') WHEN
      NOT MATCHED THEN INSERT (mrn, ssn) VALUES (v.mrn, envelope($1))
    """
    with ctes_of(a, body, outer):
        relation, source = write_target(a, body["relation"])
        rest = from_clause(a, [body["sourceRelation"]], outer)
        # In the order of RETURNING *: the source's columns stand first.
        joined = beside(rest, joined_of(source))
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
            _when(a, clause, relation, source, seen[clause["matchKind"]], number, children=reaches_children(body, relation))
        return returning(a, body, source, joined, outer)


def _when(a: Analysis, clause: Node, relation: Relation, source: Source, scope: Scope, number: int, *, children: bool) -> None:
    if "condition" in clause:
        condition(a, clause["condition"], scope, "WHEN")
    command = clause["commandType"]
    if command == "CMD_UPDATE":
        assignments(a, clause["targetList"], relation, scope, number, children=children)
    elif command == "CMD_INSERT" and "values" not in clause:
        left_out(a, relation, ())
    elif command == "CMD_INSERT":
        values = clause["values"]
        wanted = wanted_columns(a, clause.get("targetList"), relation, clause)
        if len(values) > len(wanted):
            raise too_many(a, only(values[len(wanted)])[1])
        if not clause.get("targetList") and in_between(relation, len(values)):
            raise a.refuse("INSERT without a column list beside hidden columns", only(values[0])[1], hint="List the columns.")
        destination = Destination(number, a.new_row())
        for value, (_, column) in zip(values, wanted, strict=False):
            listed_value(a, value)
            assign(a, value, column, scope, destination)
        fill_rows(a, relation, Given(clause, "targetList", len(values)), wanted, [(values, destination.row)])
