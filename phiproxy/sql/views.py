"""Views and materialized views over protected tables: which of their columns are envelopes, from the stored query.

A stored query runs as it is, so it is read in physical form: a protected column that it passes on unchanged is the view's, and tags
are ``substring(c, 13 + 16 * i, 16)``. A view whose query would have to be rewritten stays refused.
"""

from __future__ import annotations

from phiproxy.errors import PathNeeded, PhiproxyError
from phiproxy.policy.catalog import Relation
from phiproxy.sql.analysis import Analysis, Context, rename
from phiproxy.sql.meaning import Meaning, Search, Store
from phiproxy.sql.parse import Node, parse
from phiproxy.sql.rules import query
from phiproxy.sql.scope import Clear, Kept, ListColumn, Protected, Scope, Searched, Source, SourceColumn, Stored, Value, own_value


def view_source(a: Analysis, body: Node) -> Source | None:
    """Return a RangeVar of FROM as a source when it is such a view, else None."""
    if body["relname"] not in a.context.catalog.reaching:
        return None
    found = a.relation(body)
    values = view_columns(a.context, found) if isinstance(found, Relation) else None
    return _source(a, found, values, body) if values is not None and isinstance(found, Relation) else None


def write_target(a: Analysis, body: Node) -> tuple[Relation, Source]:
    """Return what INSERT, UPDATE, DELETE or MERGE names, and its source: a table, or a view that PostgreSQL writes through.

    Whether a view is one of those (manual, CREATE VIEW, updatable views) the server says itself.
    """
    found = a.target_relation(body)
    values = view_columns(a.context, found) if found.kind == "v" else None
    if values is None:
        return a.target(body)
    if found.diverted:
        raise a.refuse(
            f'rules or triggers of view "{found.name}" decide what becomes of what is written to it',
            body,
            hint="Write to the table itself.",
        )
    a.relation(body, target=True)
    return found, _source(a, found, values, body)


def _source(a: Analysis, found: Relation, values: tuple[Value, ...], body: Node) -> Source:
    a.meaning.touches = True
    named = body.get("alias", {})
    columns = tuple(SourceColumn(c.name, own_value(v)) for c, v in zip(found.columns, values, strict=True))
    schema = None if named.get("aliasname") else found.schema
    return rename(Source(named.get("aliasname") or body["relname"], columns, schema), named)


def view_columns(context: Context, relation: Relation) -> tuple[Value, ...] | None:
    """Return what each column of a view is, or None where its query is not understood as it stands, or it is no view."""
    if relation.oid not in context.catalog.views:
        return None
    if relation.oid not in context.views:
        context.views[relation.oid] = None  # also should it refer to itself
        context.views[relation.oid] = _read(context, relation)
    return context.views[relation.oid]


def _read(context: Context, relation: Relation) -> tuple[Value, ...] | None:
    text = context.catalog.views.get(relation.oid, "").encode()
    try:
        statements = parse(text)
        if len(statements) != 1 or statements[0].kind != "SelectStmt":
            return None
        a = Analysis(text, context, Meaning("select", 0, len(text)), physical=True)
        outputs = query(a, "SelectStmt", statements[0].body, Scope(()))
    except (PhiproxyError, PathNeeded, RecursionError):
        return None
    if len(outputs) != len(relation.columns) or _would_be_rewritten(a):
        return None
    made: list[Value] = []
    for column, (_, value) in zip(relation.columns, outputs, strict=True):
        if isinstance(value, Protected):
            made.append(Protected(value.column, value.type, origin=(relation.oid, column.attnum)))
        else:
            made.append(Clear((column.type_oid, column.typmod)))
    return tuple(made)


def _would_be_rewritten(a: Analysis) -> bool:
    changed = (a.tagged, a.stripped, a.recast, a.represented, a.nullifs, a.subqueries, a.wraps, a.changes)
    used = any(isinstance(decided.use, Store | Search) for decided in a.uses)
    return any(changed) or used or any(_is_protected(column) for column in a.lists)


def _is_protected(column: ListColumn) -> bool:
    return any(isinstance(user, Stored | Searched | Kept) for user in column.users)
