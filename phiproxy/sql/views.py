"""Views and materialized views over protected tables: which of their columns are envelopes, from the stored query.

A stored query runs as it is, so it is read in physical form: a protected column that it passes on unchanged is the view's, tags
are ``substring(c, 13 + 16 * i, 16)``, and any one of a group's envelopes is the column by whose tag it is grouped. A view whose
query would have to be rewritten stays refused; through the proxy none is made.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from phiproxy.errors import PathNeeded, PhiproxyError
from phiproxy.policy.catalog import Relation
from phiproxy.sql.analysis import Analysis, Context, rename
from phiproxy.sql.meaning import Meaning, Reveal, Search, Store
from phiproxy.sql.parse import Node, messages, only, parse, strings
from phiproxy.sql.rules import query
from phiproxy.sql.scope import Clear, Kept, ListColumn, Protected, Scope, Searched, Source, SourceColumn, Stored, Value, own_value
from phiproxy.sql.wrap import replace

# What a subquery has that is planned by itself.
_APART = frozenset(
    {"distinctClause", "groupClause", "havingClause", "sortClause", "limitCount", "limitOffset", "withClause", "valuesLists"}
)


def is_pulled_up(body: Node) -> bool:
    """Tell whether PostgreSQL plans a subquery as a part of the query around it (prepjointree.c, is_simple_subquery)."""
    return body.keys().isdisjoint(_APART)


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
    except PhiproxyError:
        return None
    if len(statements) != 1 or statements[0].kind != "SelectStmt":
        return None
    try:
        values = _stored_values(context, text, statements[0].body)
    except PathNeeded:
        return None
    if values is None or len(values) != len(relation.columns):
        return None
    planned_in = relation.kind == "v" and is_pulled_up(statements[0].body)
    made: list[Value] = []
    for column, value in zip(relation.columns, values, strict=True):
        if isinstance(value, Protected):
            planned = value.planned if planned_in else None
            made.append(Protected(value.column, value.type, origin=(relation.oid, column.attnum), planned=planned))
        else:
            computed = isinstance(value, Clear) and value.computed
            made.append(Clear((column.type_oid, column.typmod), computed=computed))
    return tuple(made)


def will_be_read(context: Context, text: bytes, body: Node, reveals: Sequence[Reveal | None]) -> bool:
    """Tell whether a view over this query, which is in physical form, will be understood, and as these columns."""
    values = _stored_values(context, text, copy.deepcopy(body))
    if values is None or len(values) != len(reveals):
        return False
    found = [(v.column.identity, v.type) if isinstance(v, Protected) else None for v in values]
    return found == [None if r is None else (r.column.identity, r.type) for r in reveals]


def _stored_values(context: Context, text: bytes, body: Node) -> list[Value] | None:
    """Return what the columns of a stored query are, or None where it is not understood as it stands; edits the tree."""
    _simplify(body)
    a = Analysis(text, context, Meaning("select", 0, len(text)), physical=True)
    try:
        outputs = query(a, "SelectStmt", body, Scope(()))
    except (PhiproxyError, RecursionError):
        return None
    return None if _would_be_rewritten(a) else [value for _, value in outputs]


def _simplify(body: Node) -> None:
    """Let what is an envelope in physical form be what it is to a client: a representative the column, ``NULL::bytea`` NULL."""
    for node in list(messages(body)):
        inner = _of_group(node) or _of_sets(node) or _null(node)
        if inner is not None:
            replace(node, inner)


def _of_group(node: Node) -> Node | None:
    """Return the column of which ``any_value(c)`` or ``(array_agg(c))[1]`` is a value."""
    name, call = "any_value", node
    if "A_Indirection" in node:
        name, call = "array_agg", node["A_Indirection"]["arg"]
        index = node["A_Indirection"]["indirection"]
        if len(index) != 1 or index[0].get("A_Indices", {}).keys() != {"uidx"} or "A_Const" not in index[0]["A_Indices"]["uidx"]:
            return None
    function = call.get("FuncCall", {})
    if strings(function.get("funcname"))[-1:] != [name] or not _PLAIN_CALL.issuperset(function):
        return None
    (argument,) = function["args"] if len(function.get("args", ())) == 1 else (None,)
    return argument if argument is not None and "ColumnRef" in argument else None


_PLAIN_CALL = frozenset({"funcname", "args", "funcformat", "location"})


def _of_sets(node: Node) -> Node | None:
    """Return the column of ``CASE WHEN grouping(tag) = 0 THEN any_value(c) END``."""
    case = node.get("CaseExpr", {})
    if len(case.get("args", ())) != 1 or "arg" in case or not _is_null(case.get("defresult")):
        return None
    when = only(case["args"][0])[1]
    asked = when["expr"].get("A_Expr", {}).get("lexpr", {})
    return _of_group(when["result"]) if "GroupingFunc" in asked else None


def _null(node: Node) -> Node | None:
    """Return NULL without its cast to bytea."""
    cast = node.get("TypeCast", {})
    of_bytea = strings(cast.get("typeName", {}).get("names"))[-1:] == ["bytea"] and "arrayBounds" not in cast["typeName"]
    return cast["arg"] if of_bytea and _is_null(cast["arg"]) else None


def _is_null(node: Node | None) -> bool:
    if node is None:
        return True
    inner = node if "TypeCast" not in node else node["TypeCast"]["arg"]
    return bool(inner.get("A_Const", {}).get("isnull"))


def _would_be_rewritten(a: Analysis) -> bool:
    changed = (a.tagged, a.stripped, a.recast, a.represented, a.nullifs, a.subqueries, a.wraps, a.changes)
    used = any(isinstance(decided.use, Store | Search) and decided.sink.kind != "null" for decided in a.uses)
    return any(changed) or used or any(_is_protected(column) for column in a.lists)


def _is_protected(column: ListColumn) -> bool:
    given = any(entry is None or entry.kind != "null" for leaf in column.leaves() for entry in leaf.entries)
    return given and any(isinstance(user, Stored | Searched | Kept) for user in column.users)
