"""The entries of FROM: tables, subqueries, functions (manual 7.2.1)."""

from __future__ import annotations

from dataclasses import replace

from phiproxy.sql.analysis import Analysis, rename
from phiproxy.sql.expressions import clear
from phiproxy.sql.joins import join
from phiproxy.sql.parse import Node, only
from phiproxy.sql.rules import FROM_ITEMS, query
from phiproxy.sql.scope import Joined, Protected, Scope, Source, joined_of, source_of
from phiproxy.sql.select import from_item
from phiproxy.sql.unnest import unnest_source
from phiproxy.sql.views import is_pulled_up, view_source


def _range_var(a: Analysis, body: Node, _outer: Scope, _left: Joined) -> Joined:
    return joined_of(view_source(a, body) or a.source(body))


def _lateral(body: Node, outer: Scope, left: Joined) -> Scope:
    return left.scope(outer) if body.get("lateral") else outer


def _range_subselect(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    outputs = query(a, *only(body["subquery"]), _lateral(body, outer, left))
    alias = body.get("alias", {})
    if not is_pulled_up(only(body["subquery"])[1]):
        outputs = [(n, replace(v, planned=None) if isinstance(v, Protected) and v.planned is not None else v) for n, v in outputs]
    return joined_of(rename(source_of(alias.get("aliasname", "\0"), outputs), alias))


def _range_function(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    scope = left.scope(outer)
    given = unnest_source(a, body, scope)
    if given is not None:
        return given
    label = body.get("alias", {}).get("aliasname")
    for function in body["functions"]:
        # A List of the call and, perhaps, its column definitions, which are no expressions.
        for node in only(function)[1]["items"]:
            if not node:
                continue
            kind, call = only(node)
            if kind == "List":
                continue
            clear(a, node, scope)
            if label is None and kind == "FuncCall":
                label = only(call["funcname"][-1])[1].get("sval")
    return Joined([Source(label or "\0", (), opaque=True, system=False)], [])


def _range_table_sample(a: Analysis, body: Node, outer: Scope, left: Joined) -> Joined:
    """TABLESAMPLE: which rows are read, the server chooses by their place."""
    for part in (*body.get("args", ()), *([body["repeatable"]] if "repeatable" in body else ())):
        clear(a, part, left.scope(outer))
    return from_item(a, *only(body["relation"]), outer, left)


FROM_ITEMS.update(
    {
        "RangeTableSample": _range_table_sample,
        "RangeVar": _range_var,
        "RangeSubselect": _range_subselect,
        "RangeFunction": _range_function,
        "JoinExpr": join,
    }
)
