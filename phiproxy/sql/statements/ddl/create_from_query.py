"""Views and tables that are created from a query over protected tables."""

from collections.abc import Sequence

from phiproxy.policy.boundary import clear_entry
from phiproxy.sql.context import Analysis
from phiproxy.sql.queries.views import will_be_read
from phiproxy.sql.resolve.protected_values import Output
from phiproxy.sql.statements.ddl.create_table import creation_schema
from phiproxy.sql.statements.ddl.create_table_as import fill
from phiproxy.sql.statements.ddl.replaced_view import check_shown
from phiproxy.sql.table_names import protected_table_at, takes_protected_names
from phiproxy.sql.text.parse import Node, messages, only, strings

_VIEW, TABLE = "ViewStmt", "CreateTableAsStmt"


def source_query(kind: str, body: Node) -> Node | None:
    """Return the query that a view or table is created from, or None for any other statement."""
    if kind not in (_VIEW, TABLE):
        return None
    inner, query = only(body["query"])
    return query if inner == "SelectStmt" else None


def shadows(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether a query creates a table with a protected name that is temporary, or in clear by the policy.

    CREATE TEMPORARY TABLE visits AS SELECT id FROM log
    → unchanged
    """
    relation = body["into"]["rel"] if kind == TABLE else {}
    if relation.get("relname") not in a.context.protection.table_names:
        return False
    schema = creation_schema(a, relation)
    return schema == "pg_temp" or (schema, relation["relname"]) in a.context.protection.boundary.clear


def fills(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether a query creates a table of the policy."""
    if not _is_table(kind, body) or body["into"]["rel"]["relname"] not in a.context.protection.table_names:
        return False
    relation = body["into"]["rel"]
    return (creation_schema(a, relation), relation["relname"]) in a.context.protection.by_name


def check_name(a: Analysis, kind: str, body: Node) -> None:
    """Refuse a view that would take the name of a protected table.

    CREATE VIEW visits AS SELECT id FROM patients
    → refused 0A000
    """
    relation = body["view"] if kind == _VIEW else body["into"]["rel"]
    name = creation_schema(a, relation), relation["relname"]
    if name in a.context.protection.by_name and not _is_table(kind, body):
        why = f'"{name[1]}" is a protected table, and its columns are made by CREATE TABLE'
        raise a.refuse(why, relation, hint="CREATE TABLE first, then INSERT … SELECT.")
    if "schemaname" not in relation and name[0] != "pg_temp":
        a.qualify(relation, name[0])


def _is_table(kind: str, body: Node) -> bool:
    return kind == TABLE and body.get("objtype") == "OBJECT_TABLE"


def settle(a: Analysis, kind: str, body: Node, outputs: Sequence[Output]) -> None:
    """Check the query of a definition: the definition must hold no envelope, and the view or table must be understood.

    CREATE VIEW numbers AS SELECT ssn FROM patients
    → CREATE VIEW "public".numbers AS SELECT ssn FROM "public".patients

    CREATE MATERIALIZED VIEW one AS SELECT ssn FROM patients WHERE ssn = 'x'
    → refused 0A000
    """
    answer = a.answer
    table = _is_table(kind, body)
    relation = body["view"] if kind == _VIEW else body["into"]["rel"]
    schema, name = creation_schema(a, relation), relation["relname"]
    for reveal in answer.outputs or ():
        if table and reveal is not None:
            reveal.column.refuse_masked()
    filled = protected_table_at(a, schema, name) if table else None
    if filled is not None:
        reveals = answer.outputs or ()
        fill(a, body, filled, [(name, reveal) for (name, _), reveal in zip(outputs, reveals, strict=True)])
        answer.outputs = None
        answer.plain_select = False
        return
    renamed = strings(body["into"].get("colNames")) if table else []
    columns = [*renamed, *(column for column, _ in outputs[len(renamed) :])]
    if table and schema != "pg_temp" and takes_protected_names(a, schema, name, columns):
        why = f'"{name}" is the name of a protected table, and {schema}.{name} would be in clear'
        raise a.refuse(why, relation, hint=f"Say so in the policy: {clear_entry(schema, name)}")
    protected = next((reveal for reveal in answer.outputs or () if reveal is not None), None)
    if table and protected is not None:
        why = f"{protected.column.label} would be stored in a table that the policy does not name"
        raise a.refuse(why, relation, hint="Name the new table and its column in the policy, with the same domain.")
    if not table and (any(not o.null for o in answer.occurrences) or any("ParamRef" in m for m in messages(body))):
        why = "the stored query of a view may not hold a value of a protected column"
        raise a.refuse(why, relation, hint="Leave the condition to those who read the view.")
    computed = next((r for r in answer.outputs or () if r is not None and r.column.base is not None), None)
    if computed is not None:
        raise a.refuse(
            f"{computed.column.label} would be a column of a view, whose stored query has the value it is computed from",
            relation,
            hint=f"Let the view show {computed.column.name}, and compute the expression where the view is read.",
        )
    _check_replaced(a, body, outputs)
    stored = a.tree.copy(only(body["query"])[1])
    if not table and answer.touches and not will_be_read(a, stored, answer.outputs or ()):
        raise a.refuse(
            f'the stored query of "{relation["relname"]}" would not be understood where it is read',
            relation,
            hint="Let the view show the columns as they are, without casts, and compute where it is read.",
        )
    answer.view = (answer.outputs or ()) if kind == _VIEW else ()
    answer.outputs = None
    answer.plain_select = False
    if not table and answer.touches:
        answer.effects.reaches = (relation["relname"],)


def _check_replaced(a: Analysis, body: Node, outputs: Sequence[Output]) -> None:
    """Go on where a view that is replaced keeps the types of the protected columns that it shows; InvalidTableDefinition."""
    if body.get("replace"):
        given = strings(body.get("aliases"))
        names = [*given, *(column for column, _ in outputs[len(given) :])]
        replaced = a.context.catalog.find(creation_schema(a, body["view"]), body["view"]["relname"])
        check_shown(a, replaced, names, a.answer.outputs or ())
