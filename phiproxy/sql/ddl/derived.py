"""What is made from a query over protected tables: views that store the query, tables that store its result."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.policy.boundary import clear_entry
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.ddl.filled import Column, fill
from phiproxy.sql.ddl.tables import creation_schema
from phiproxy.sql.parse import Node, messages, only, strings
from phiproxy.sql.scope import Output
from phiproxy.sql.views import will_be_read

_VIEW, TABLE = "ViewStmt", "CreateTableAsStmt"


def source_query(kind: str, body: Node) -> Node | None:
    """Return the body of the SELECT that a view or table is made from, or None where the statement is none of these."""
    if kind not in (_VIEW, TABLE):
        return None
    inner, query = only(body["query"])
    return query if inner == "SelectStmt" else None


def shadows(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether a table with a protected name is made from a query that is temporary, or in clear as the policy says."""
    relation = body["into"]["rel"] if kind == TABLE else {}
    if relation.get("relname") not in a.context.protection.table_names:
        return False
    schema = creation_schema(a, relation)
    return schema == "pg_temp" or (schema, relation["relname"]) in a.context.protection.boundary.clear


def fills(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether a table of the policy is made from a query."""
    if not _is_table(kind, body) or body["into"]["rel"]["relname"] not in a.context.protection.table_names:
        return False
    relation = body["into"]["rel"]
    return (creation_schema(a, relation), relation["relname"]) in a.context.protection.by_name


def check_place(a: Analysis, kind: str, body: Node) -> None:
    """Refuse to make a view that would take a protected table's name."""
    relation = body["view"] if kind == _VIEW else body["into"]["rel"]
    place = creation_schema(a, relation), relation["relname"]
    if place in a.context.protection.by_name and not _is_table(kind, body):
        raise a.refuse(
            f'"{place[1]}" is a protected table, and its columns are made by CREATE TABLE',
            relation,
            hint="CREATE TABLE first, then INSERT … SELECT.",
        )
    if "schemaname" not in relation and place[0] != "pg_temp":
        a.qualified.append((relation, place[0]))


def _is_table(kind: str, body: Node) -> bool:
    return kind == TABLE and body.get("objtype") == "OBJECT_TABLE"


def settle(a: Analysis, kind: str, body: Node, outputs: Sequence[Output]) -> None:
    """Take the analysed query as a definition: nothing sealed is stored by chance, and nothing protected is stored unknown."""
    meaning = a.meaning
    table = _is_table(kind, body)
    relation = body["view"] if kind == _VIEW else body["into"]["rel"]
    schema, name = creation_schema(a, relation), relation["relname"]
    filled = a.protected_at(schema, name) if table else None
    if filled is not None:
        reveals = meaning.outputs or ()
        fill(a, body, filled, [Column(name, reveal) for (name, _), reveal in zip(outputs, reveals, strict=True)])
        meaning.outputs = None
        meaning.plain_select = False
        return
    renamed = strings(body["into"].get("colNames")) if table else []
    columns = [*renamed, *(column for column, _ in outputs[len(renamed) :])]
    if table and schema != "pg_temp" and a.takes_names(schema, name, columns):
        raise a.refuse(
            f'"{name}" is the name of a protected table, and {schema}.{name} would be in clear',
            relation,
            hint=f"Say so in the policy: {clear_entry(schema, name)}",
        )
    protected = next((reveal for reveal in meaning.outputs or () if reveal is not None), None)
    if table and protected is not None:
        raise a.refuse(
            f"{protected.column.label} would be stored in a table that the policy does not name",
            relation,
            hint="Name the new table and its column in the policy, with the same domain.",
        )
    if not table and (any(not o.null for o in meaning.occurrences) or any("ParamRef" in m for m in messages(body))):
        raise a.refuse(
            "the stored query of a view may not hold a value of a protected column",
            relation,
            hint="Leave the condition to those who read the view.",
        )
    computed = next((r for r in meaning.outputs or () if r is not None and r.column.base is not None), None)
    if computed is not None:
        raise a.refuse(
            f"{computed.column.label} would be a column of a view, whose stored query has the value it is computed from",
            relation,
            hint=f"Let the view show {computed.column.name}, and compute the expression where the view is read.",
        )
    if not table and meaning.touches and not will_be_read(a.context, a.text, only(body["query"])[1], meaning.outputs or ()):
        raise a.refuse(
            f'the stored query of "{relation["relname"]}" would not be understood where it is read',
            relation,
            hint="Let the view show the columns as they are, without casts, and compute where it is read.",
        )
    meaning.outputs = None
    meaning.plain_select = False
    if not table and meaning.touches:
        meaning.effects.reaches = (relation["relname"],)
