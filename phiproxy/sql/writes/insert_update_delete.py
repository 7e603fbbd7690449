"""INSERT, UPDATE and DELETE: the order in which their parts are analysed, and RETURNING."""

from collections.abc import Sequence

from phiproxy.policy.catalog import Relation
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.conditions import condition
from phiproxy.sql.expressions.expression import listed_value
from phiproxy.sql.queries.ctes import ctes_of
from phiproxy.sql.queries.generated_columns import list_columns
from phiproxy.sql.queries.row_fields import name_fields
from phiproxy.sql.queries.select import from_clause, targets
from phiproxy.sql.queries.views import write_target
from phiproxy.sql.resolve.protected_values import Output
from phiproxy.sql.resolve.scope import Joined, Scope, Source, beside, joined_of
from phiproxy.sql.text.parse import Node, only
from phiproxy.sql.writes.assignment import Destination, Target, assign, assign_query, assignments, columns_of, target, too_many
from phiproxy.sql.writes.column_defaults import Given, default_values, fill_rows, fill_select, left_out
from phiproxy.sql.writes.on_conflict import on_conflict

# RETURNING old.c, new.c came with PostgreSQL 18.
OLD_AND_NEW = 180000


def insert(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse an InsertStmt body and return the outputs of RETURNING.

    INSERT INTO patients (ssn) VALUES ('x') RETURNING ssn
    → INSERT INTO patients (ssn) VALUES (envelope('x')) RETURNING ssn
    """
    with ctes_of(a, body, outer):
        relation, source = write_target(a, body["relation"])
        wanted = wanted_columns(a, body.get("cols"), relation, body["relation"])
        if "selectStmt" in body:
            _insert_source(a, body, relation, wanted, outer)
        else:
            default_values(a, relation, body)
        if "onConflictClause" in body:
            on_conflict(a, body["onConflictClause"], relation, source, outer)
        return returning(a, body, source, joined_of(source), outer)


def wanted_columns(a: Analysis, nodes: Sequence[Node] | None, relation: Relation, body: Node) -> list[Target]:
    """Return the columns of an INSERT's list, or those of the table in their order."""
    columns = columns_of(a, relation)
    if nodes:
        return [target(a, relation, columns, only(node)[1]) for node in nodes]
    if relation.oid:
        return [(c.name, columns.get(c.name)) for c in visible_columns(relation)]
    why = "INSERT without a column list into a table just made, beside a protected table, is not in this version"
    raise a.refuse(why, body, hint="List the columns.")


def _insert_source(a: Analysis, insertion: Node, relation: Relation, wanted: Sequence[Target], outer: Scope) -> None:
    """Analyse what is inserted; add the column list and the defaults that the client means."""
    _, body = only(insertion["selectStmt"])
    simple = {"valuesLists", "limitOption", "op"}
    number = a.new_row()
    rows = [(only(row)[1]["items"], number) for row in body.get("valuesLists", ())]
    if not rows or set(body) - simple:
        count = assign_query(a, insertion["selectStmt"], wanted, outer, Destination(number, number))
    else:
        count = len(rows[0][0])
        rows = [(row, a.new_row()) for row, _ in rows]
        for row, own in rows:
            _values_row(a, row, wanted, outer, Destination(number, own, certain=True))
    given = Given(insertion, "cols", count)
    if not left_out(a, relation, wanted if insertion.get("cols") else wanted[:count]):
        list_columns(a, insertion, relation, count)
    elif rows:
        fill_rows(a, relation, given, wanted, rows)
    else:
        fill_select(a, relation, given, wanted, body, number)


def _values_row(a: Analysis, items: list[Node], wanted: Sequence[Target], outer: Scope, destination: Destination) -> None:
    if len(items) > len(wanted):
        raise too_many(a, only(items[len(wanted)])[1])
    for item in items:
        listed_value(a, item)
    for item, (_, column) in zip(items, wanted, strict=False):
        assign(a, item, column, outer, destination)


def returning(a: Analysis, body: Node, target_source: Source, joined: Joined, outer: Scope) -> list[Output]:
    """Analyse RETURNING. From PostgreSQL 18 on it knows the rows before and after as ``old`` and ``new``, or as WITH names them.

    DELETE FROM patients RETURNING ssn, upper(ssn)
    → refused 0A000
    """
    clause = body.get("returningClause", {})
    scope = Scope((*joined.sources, *_versions(a, clause, target_source, joined)), outer, joined.merged)
    clause = name_fields(a, clause, ("exprs",), scope)
    return targets(a, clause.get("exprs", []), joined, scope)


def _versions(a: Analysis, clause: Node, source: Source, joined: Joined) -> list[Source]:
    if a.context.catalog.server_version < OLD_AND_NEW:
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
    """Analyse an UpdateStmt body and return the outputs of RETURNING.

    UPDATE patients SET ssn = 'x' WHERE ssn = $1
    → UPDATE patients SET ssn = envelope('x') WHERE tag(ssn) = tag($1)
    """
    return _update_or_delete(a, body, outer, "fromClause")


def delete(a: Analysis, body: Node, outer: Scope) -> list[Output]:
    """Analyse a DeleteStmt body and return the outputs of RETURNING.

    DELETE FROM patients p USING visits v WHERE p.mrn = v.mrn
    → DELETE FROM patients p USING visits v WHERE tag(p.mrn) = tag(v.mrn)
    """
    return _update_or_delete(a, body, outer, "usingClause")


def _update_or_delete(a: Analysis, body: Node, outer: Scope, others: str) -> list[Output]:
    with ctes_of(a, body, outer):
        relation, source = write_target(a, body["relation"])
        rest = from_clause(a, body.get(others), outer)
        joined = beside(joined_of(source), rest)
        scope = joined.scope(outer)
        body = name_fields(a, body, ("whereClause", "targetList"), scope)
        if "whereClause" in body:
            condition(a, body["whereClause"], scope, "WHERE")
        outputs = returning(a, body, source, joined, outer)
        # Last, as in PostgreSQL: what WHERE says of a parameter's type comes first.
        assignments(a, body.get("targetList", []), relation, scope, children=reaches_children(body, relation))
        return outputs


def reaches_children(body: Node, relation: Relation) -> bool:
    """Tell whether UPDATE or MERGE is done with the rows of a table's children too; what a view reads is not looked at."""
    return "inh" in body["relation"] or relation.kind == "v"
