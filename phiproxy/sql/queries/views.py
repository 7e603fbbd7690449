"""Views and materialized views over protected tables: their stored query tells which of their columns are envelopes.

A stored query runs as it is, so it is in physical form: a protected column that it selects is the view's, ``substring(c, 13 + 16 *
i, 16)`` is a tag, and a value of any row of a group is the column that the query is grouped by. A view whose query would have to be
rewritten is refused; through the proxy none is created.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from phiproxy.errors import ColumnMasked, PhiproxyError
from phiproxy.policy.catalog import Relation
from phiproxy.policy.view_rests import is_computed
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import query
from phiproxy.sql.queries.computed_views import inside_of, readable, with_rest
from phiproxy.sql.queries.mixed_rows import mixes_rows
from phiproxy.sql.resolve.protected_values import (
    About,
    Clear,
    Combined,
    Protected,
    Searched,
    Stored,
    Value,
    ViewColumns,
    about_nobody,
    about_whom,
    own_value,
)
from phiproxy.sql.resolve.scope import Scope, Source, SourceColumn
from phiproxy.sql.result import Reveal
from phiproxy.sql.table_names import qualified_relation, relation_of, rename, target_relation, target_source
from phiproxy.sql.text.parse import Node, Statement, is_plain_call, messages, only, parse, strings
from phiproxy.sql.values.uses import Search, Store

# What a subquery has that is planned by itself.
_APART = frozenset(
    {"distinctClause", "groupClause", "havingClause", "sortClause", "limitCount", "limitOffset", "withClause", "valuesLists"}
)


def is_pulled_up(body: Node) -> bool:
    """Tell whether PostgreSQL plans a subquery as a part of the query around it (prepjointree.c, is_simple_subquery)."""
    return body.keys().isdisjoint(_APART)


def view_source(a: Analysis, body: Node) -> Source | None:
    """Return a RangeVar as a source if it is such a view, else None.

    SELECT social FROM springfield WHERE social = 'x'
    → SELECT social FROM springfield WHERE tag(social) = tag('x')

    SELECT id FROM diverted WHERE ssn LIKE 'x%'
    → refused 0A000
    """
    if body["relname"] not in a.context.catalog.reaching:
        return None
    relation = relation_of(a, body)
    view = columns_of_view(a, relation) if isinstance(relation, Relation) else None
    return _source(a, relation, view, body) if view is not None and isinstance(relation, Relation) else None


def write_target(a: Analysis, body: Node) -> tuple[Relation, Source]:
    """Return the table or view that a write names, with its source; the server tells whether a view is updatable.

    INSERT INTO springfield (id, social) VALUES (1, 'x')
    → INSERT INTO springfield (id, social) VALUES (1, envelope('x'))

    INSERT INTO diverted (id, ssn) VALUES (1, 'x')
    → refused 0A000
    """
    relation = target_relation(a, body)
    view = columns_of_view(a, relation) if relation.kind == "v" else None
    if view is None:
        return target_source(a, body)
    if relation.diverted:
        why = f'rules or triggers of view "{relation.name}" decide what becomes of what is written to it'
        raise a.refuse(why, body, hint="Write to the table itself.")
    if view.rest is not None:
        why = f'view "{relation.name}" computes over protected columns, and what it shows is not written through it'
        raise a.refuse(why, body, hint="Write to the table itself.")
    qualified_relation(a, body)
    return relation, _source(a, relation, view, body)


def _source(a: Analysis, relation: Relation, view: ViewColumns, body: Node) -> Source:
    a.answer.touches = True
    named = body.get("alias", {})
    own = {about: replace(about, body=body) for about in view.about}  # each occurrence of a view has rows of its own
    a.about += own.values()
    columns = tuple(SourceColumn(c.name, _own_value(v, own)) for c, v in zip(relation.columns, view.values, strict=True))
    schema = None if named.get("aliasname") else relation.schema
    source = rename(Source(named.get("aliasname") or body["relname"], columns, schema), named)
    return source if view.rest is None else readable(a, relation, view, source, body)


def _own_value(value: Value, own: Mapping[About, About]) -> Value:
    value, about = own_value(value), tuple([own[about] for about in about_whom(value)])
    if isinstance(value, Clear):
        return Clear(value.type, computed=value.computed, about=about) if about else value
    return replace(value, about=about) if isinstance(value, Protected) and about else value


def view_columns(a: Analysis, relation: Relation) -> tuple[Value, ...] | None:
    """Return the values of a view's columns; None where it is no such view."""
    view = columns_of_view(a, relation)
    return None if view is None else view.values


def columns_of_view(a: Analysis, relation: Relation) -> ViewColumns | None:
    """Return what is known of a view's columns; None where it is no such view, or not understood.

    What is needed first (a name in the catalogue, a path) says nothing of the view. Another thread may read it at the same time.
    """
    if relation.oid not in a.context.catalog.views or relation.oid in a.views_in_reading:
        return None
    columns_by_view = a.context.views
    if relation.oid in columns_by_view:
        return columns_by_view[relation.oid]
    try:
        view = _read(a, relation)
    except ColumnMasked as refused:
        refused.position = None  # it is one in the view's query
        raise
    if view is not None or not is_computed(relation):  # what one computes may be opened for another text
        columns_by_view[relation.oid] = view
    return view


def _read(a: Analysis, relation: Relation) -> ViewColumns | None:
    text = a.context.catalog.views.get(relation.oid, "").encode()
    try:
        statements = parse(text)
    except PhiproxyError:
        return None
    if len(statements) != 1 or statements[0].kind != "SelectStmt":
        return None
    view = _stored_values(a, text, statements[0].body, inside_of(a, relation), a.views_in_reading | {relation.oid})
    if view is None or len(view.values) != len(relation.columns):
        return None
    planned_in = relation.kind == "v" and is_pulled_up(statements[0].body)
    names = {about: column.name for column, value in zip(relation.columns, view.values, strict=True) for about in about_whom(value)}
    listed = tuple(column.name for column in relation.columns)
    own = {about: replace(about, name=names.get(about, ""), columns=listed) for about in view.about}
    columns: list[Value] = []
    for column, value in zip(relation.columns, view.values, strict=True):
        about = tuple([own[one] for one in about_whom(value)])
        if isinstance(value, Protected):
            planned = value.planned if planned_in else None
            origin = relation.oid, column.attnum
            columns.append(Protected(value.column, value.type, origin=origin, planned=planned, about=about))
        else:
            computed = isinstance(value, Clear) and value.computed
            columns.append(Clear((column.type_oid, column.typmod), computed=computed, about=about))
    view = ViewColumns(tuple(columns), tuple(own.values()))
    return with_rest(a, relation, view) if is_computed(relation) else view


def will_be_read(a: Analysis, body: Node, reveals: Sequence[Reveal | None]) -> bool:
    """Tell whether a view over a query in physical form will be understood, with these columns; edits the tree."""
    view = _stored_values(a, a.text, body, a.context.inside)
    if view is None or len(view.values) != len(reveals):
        return False
    shown = [(v.column.identity, v.type) if isinstance(v, Protected) else None for v in view.values]
    return shown == [None if r is None else (r.column.identity, r.type) for r in reveals]


def _stored_values(
    outer: Analysis, text: bytes, body: Node, inside: frozenset[bytes] | None, reading: frozenset[int] = frozenset()
) -> ViewColumns | None:
    """Return what a stored query's columns are, or None where it would have to be rewritten; edits the tree.

    ``reading`` are the OIDs of the views whose query it is, and in whose queries that one is.
    """
    for node in messages(body):  # what is an envelope in physical form is the column that it is of
        inner = _of_group(node) or _of_sets(node) or _null(node)
        if inner is not None:
            node.clear()
            node.update(inner)
    span = 0, len(text)
    context = replace(outer.context, inside=inside)
    statement = Statement("SelectStmt", body, *span, span)
    a = Analysis(text, context, statement, outer.rules, physical=True, views_in_reading=reading)
    try:
        outputs = query(a, "SelectStmt", body, Scope(()))
    except ColumnMasked:
        raise
    except (PhiproxyError, RecursionError):
        return None
    used = any(isinstance(decided.use, Store | Search) and decided.operand.kind != "null" for decided in a.uses)
    protecting = (c for c in a.lists if any(isinstance(user, Stored | Searched | Combined) for user in c.users))
    given = any(e is None or e.kind != "null" for c in protecting for leaf in c.leaves() for e in leaf.entries)
    if a.rewrites or used or given:
        return None
    mixed = mixes_rows(a, of_view=True)
    values = [about_nobody(value) if mixed else value for _, value in outputs]
    return ViewColumns(tuple(values), tuple(a.about))


def _of_group(node: Node) -> Node | None:
    """Return the column that ``any_value(c)`` or ``(array_agg(c))[1]`` shows."""
    name, call = "any_value", node
    if "A_Indirection" in node:
        name, call = "array_agg", node["A_Indirection"]["arg"]
        index = node["A_Indirection"]["indirection"]
        if len(index) != 1 or index[0].get("A_Indices", {}).keys() != {"uidx"} or "A_Const" not in index[0]["A_Indices"]["uidx"]:
            return None
    function = call.get("FuncCall", {})
    if strings(function.get("funcname"))[-1:] != [name] or not is_plain_call(function):
        return None
    (argument,) = function["args"] if len(function.get("args", ())) == 1 else (None,)
    return argument if argument is not None and "ColumnRef" in argument else None


def _of_sets(node: Node) -> Node | None:
    """Return the column of ``CASE WHEN grouping(tag) = 0 THEN any_value(c) END``."""
    case = node.get("CaseExpr", {})
    if len(case.get("args", ())) != 1 or "arg" in case or not _is_null(case.get("defresult")):
        return None
    when = only(case["args"][0])[1]
    asked = when["expr"].get("A_Expr", {}).get("lexpr", {})
    return _of_group(when["result"]) if "GroupingFunc" in asked else None


def _null(node: Node) -> Node | None:
    cast = node.get("TypeCast", {})
    of_bytea = strings(cast.get("typeName", {}).get("names"))[-1:] == ["bytea"] and "arrayBounds" not in cast["typeName"]
    return cast["arg"] if of_bytea and _is_null(cast["arg"]) else None


def _is_null(node: Node | None) -> bool:
    if node is None:
        return True
    inner = node if "TypeCast" not in node else node["TypeCast"]["arg"]
    return bool(inner.get("A_Const", {}).get("isnull"))
