"""What PostgreSQL puts in the place of columns of queries and views when it plans, before it leaves out what is beside a NULL.

A simple query in FROM or WITH is pulled up: its outputs take the place of its columns, and what is constant is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from phiproxy.policy.catalog import Relation
from phiproxy.policy.signatures import Signatures
from phiproxy.sql.context import Analysis
from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.split.writes.assigned_values import Written
from phiproxy.sql.split.writes.drawn import calls_in, name_of
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Node, only, strings

_NULL: Node = {"A_Const": {"isnull": True}}
_STAYS = frozenset({"groupClause", "sortClause", "distinctClause", "limitCount"})
"""A query with one of these is not pulled up: its columns are nothing but columns."""


class _Item(NamedTuple):
    """An item of FROM: what is in the place of its columns."""

    label: str
    columns: dict[str, Node]
    stays: bool
    """Its other columns are only known when a row is there."""


class _Query(NamedTuple):
    """A query in WITH, with the names that stand behind its own, and those that it sees."""

    body: Node
    names: list[str]
    stays: bool
    before: _Queries


_Queries = dict[str, _Query]


def with_derived(a: Analysis, write: Written, node: Node) -> Node:
    """Return a value with what is in the place of its columns; NULL for each of which that is not known, and for parameters there.

    INSERT INTO patients (notes) SELECT q.w || nextval('numbers') FROM (SELECT room || NULL AS w FROM visits) q
    → refused 0A000
    """
    inserts = write.kind == "InsertStmt"
    if inserts and "selectStmt" not in write.body:
        return node
    query = only(write.body["selectStmt"])[1] if inserts else write.body
    queries = _with_queries({}, a.statement.body)
    if inserts:
        queries = _with_queries(queries, query)
    listed = [] if inserts else [_Item(write.target.label, virtual_columns(write.target.relation), stays=True)]
    for item in query.get("fromClause", ()):
        listed += _items(a, queries, listed, item)
    if all(item.stays and not item.columns for item in listed):
        return node
    result: Node = _placed(listed, node)
    return result


def _placed(listed: Sequence[_Item], tree: Any) -> Any:
    if isinstance(tree, list):
        return [_placed(listed, one) for one in tree]
    if not isinstance(tree, dict) or "SubLink" in tree:  # what a query gives is never known then
        return tree
    if "ColumnRef" in tree:
        return _column(listed, tree)
    return {key: _placed(listed, value) for key, value in tree.items()}


def _column(listed: Sequence[_Item], column: Node) -> Node:
    names = strings(column["ColumnRef"]["fields"])
    meant = [item for item in listed if len(names) == 1 or (len(names) == 2 and item.label == names[0])]
    found = [item.columns[names[-1]] for item in meant if names and names[-1] in item.columns]
    if len(found) == 1:
        return found[0]
    return column if meant and not found and all(item.stays for item in meant) else _NULL


def _items(a: Analysis, queries: _Queries, before: Sequence[_Item], node: Node) -> Iterator[_Item]:
    kind, body = only(node)
    if kind == "RangeTableSample":
        yield from _items(a, queries, before, body["relation"])
        return
    alias = body.get("alias", {})
    label, colnames = alias.get("aliasname", body.get("relname", "")), strings(alias.get("colnames", ()))
    if kind == "JoinExpr" and not alias:
        left = list(_items(a, queries, before, body["larg"]))
        yield from left
        yield from _items(a, queries, [*before, *left], body["rarg"])
    elif kind == "RangeVar" and "schemaname" not in body and body["relname"] in queries:
        query = queries[body["relname"]]
        names = [*colnames, *query.names[len(colnames) :]]
        yield _Item(label, {}, stays=True) if query.stays else _derived(a, query.before, (), query.body, label, names)
    elif kind == "RangeSubselect":
        yield _derived(a, queries, before, only(body["subquery"])[1], label, colnames)
    else:
        virtual = virtual_columns(meant_relation(a, body)) if kind == "RangeVar" else {}
        yield _Item(label, {} if colnames else virtual, _is_read(a, kind, body) and not (colnames and virtual))


def virtual_columns(relation: Relation) -> dict[str, Node]:
    """Return the virtual columns of a table: PostgreSQL puts in their place what they are generated of, which may be NULL."""
    return {column.name: _NULL for column in relation.columns if column.virtual}


def _is_read(a: Analysis, kind: str, body: Node) -> bool:
    """Tell whether all columns of an item are read, and not computed when it is planned: of tables, and sets of a function's."""
    if kind == "RangeVar":
        return meant_relation(a, body).kind in "rpmf"
    signatures = a.context.catalog.signatures
    if kind != "RangeFunction" or signatures is None:
        return False
    names = [name_of(calls[0]) if calls else "" for calls in map(calls_in, body["functions"])]
    return all(gives_rows(signatures, name) for name in names)


def gives_rows(signatures: Signatures, name: str) -> bool:
    """Tell whether what a function of PostgreSQL's own gives is read from its rows."""
    functions = signatures.functions(name)
    return bool(functions) and all(f.rows for f in functions) and not signatures.own_functions(name)


def _derived(a: Analysis, queries: _Queries, before: Sequence[_Item], query: Node, label: str, colnames: list[str]) -> _Item:
    rows = query.get("valuesLists", ())
    if len(rows) > 1 or _stays(a, query):
        return _Item(label, {}, stays=True)
    queries, listed = _with_queries(queries, query), list(before)
    for item in query.get("fromClause", ()):
        listed += _items(a, queries, listed, item)
    if rows:
        values = only(rows[0])[1]["items"]
        own: list[str | None] = [f"column{n}" for n in range(1, len(values) + 1)]
    else:
        targets = [only(one)[1] for one in query.get("targetList", ())]
        values = [one["val"] for one in targets]
        own = [one.get("name") or output_name(one["val"]) for one in targets]
    starred = any("A_Star" in field for one in values for field in one.get("ColumnRef", {}).get("fields", ()))
    if "op" in query and query["op"] != "SETOP_NONE":
        return _Item(label, {}, stays=False)
    columns, names = dict[str, Node](), [*colnames, *own[len(colnames) :]]
    for name, value in zip(names, values, strict=False):
        if name and "A_Star" not in str(value.get("ColumnRef", "")):
            columns[name] = _without_parameters(_placed(listed, value)) if names.count(name) == 1 else _NULL
    plain = all(item.stays and not item.columns for item in listed)
    if starred and colnames:
        return _Item(label, {}, stays=plain and all("ColumnRef" in value for value in values))
    return _Item(label, columns, stays=plain if starred else None not in names)


def _without_parameters(tree: Any) -> Any:
    """Return it with NULL for each parameter: PostgreSQL may plan for its value, of which nobody is asked there."""
    if isinstance(tree, list):
        return [_without_parameters(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    return _NULL if "ParamRef" in tree else {key: _without_parameters(value) for key, value in tree.items()}


def _stays(a: Analysis, query: Node) -> bool:
    """Tell whether a query is surely not pulled up."""
    signatures = a.context.catalog.signatures
    called = [signatures.functions(name_of(call)) for call in calls_in(query.get("targetList", ()))] if signatures else []
    return bool(_STAYS & set(query)) or any(found and all(f.kind == "a" for f in found) for found in called)


def _with_queries(before: _Queries, query: Node) -> _Queries:
    """Return the queries that are known in one: those before, and those of its own WITH; a recursive one stays as it is."""
    queries, clause = dict(before), query.get("withClause", {})
    for cte in (only(one)[1] for one in clause.get("ctes", ())):
        kind, body = only(cte["ctequery"])
        stays = kind != "SelectStmt" or clause.get("recursive", False) or cte.get("ctematerialized") == "CTEMaterializeAlways"
        queries[cte["ctename"]] = _Query(body, strings(cte.get("aliascolnames", ())), stays, dict(queries))
    return queries
