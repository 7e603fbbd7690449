"""The entries of FROM: tables, subqueries, joins, functions (manual 7.2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phiproxy.sql.analysis import Analysis, rename
from phiproxy.sql.expressions import clear
from phiproxy.sql.parse import Node, only
from phiproxy.sql.rules import FROM_ITEMS, query
from phiproxy.sql.scope import Clear, Joined, ListColumn, Output, Protected, Scope, Source, source_of
from phiproxy.sql.select import from_item
from phiproxy.sql.unnest import unnest_source
from phiproxy.sql.views import view_source

# What a subquery has that is planned by itself.
_APART = frozenset(
    {"distinctClause", "groupClause", "havingClause", "sortClause", "limitCount", "limitOffset", "withClause", "valuesLists"}
)


def _one(source: Source) -> Joined:
    return Joined([source], [(c.name, c.value) for c in source.columns])


def _range_var(a: Analysis, body: Node, _outer: Scope, _left: Sequence[Source]) -> Joined:
    return _one(view_source(a, body) or a.source(body))


def _lateral(body: Node, outer: Scope, left: Sequence[Source]) -> Scope:
    return Scope(tuple(left), outer) if body.get("lateral") else outer


def _range_subselect(a: Analysis, body: Node, outer: Scope, left: Sequence[Source]) -> Joined:
    outputs = query(a, *only(body["subquery"]), _lateral(body, outer, left))
    alias = body.get("alias", {})
    if not _is_pulled_up(only(body["subquery"])[1]):
        outputs = [(n, replace(v, planned=None) if isinstance(v, Protected) and v.planned is not None else v) for n, v in outputs]
    return _one(rename(source_of(alias.get("aliasname", "\0"), outputs), alias))


def _is_pulled_up(body: Node) -> bool:
    """Tell whether PostgreSQL plans a subquery as a part of the query around it (prepjointree.c, is_simple_subquery)."""
    return body.keys().isdisjoint(_APART)


def _range_function(a: Analysis, body: Node, outer: Scope, left: Sequence[Source]) -> Joined:
    scope = Scope(tuple(left), outer)
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


def _join(a: Analysis, body: Node, outer: Scope, left: Sequence[Source]) -> Joined:
    if "alias" in body or "join_using_alias" in body:
        raise a.refuse("an alias of a JOIN beside a protected table is not in this version", body, hint="Alias the tables.")
    one = from_item(a, *only(body["larg"]), outer, left)
    two = from_item(a, *only(body["rarg"]), outer, [*left, *one.sources])
    names = _merged_names(a, body, one, two)
    for side in (one, two):
        for name, value in side.star:
            if name in names and not isinstance(value, Clear):
                _merge_refused(a, body, value)
    if "quals" in body:
        clear(a, body["quals"], Scope((*one.sources, *two.sources), outer, one.merged | two.merged | frozenset(names)))
    star = [_first(name, one.star, two.star) for name in names]
    star += [c for side in (one, two) for c in side.star if c[0] not in names]
    return Joined([*one.sources, *two.sources], star, one.merged | two.merged | frozenset(names))


def _merge_refused(a: Analysis, body: Node, value: Protected | ListColumn) -> None:
    if isinstance(value, ListColumn):
        value.users.append(None)
        return
    raise a.refuse(
        f"JOIN USING or NATURAL over {value.column.label} is not in this version",
        body,
        hint="Write the condition with ON.",
    )


def _first(name: str, *sides: list[Output]) -> Output:
    return next(column for side in sides for column in side if column[0] == name)


def _merged_names(a: Analysis, body: Node, one: Joined, two: Joined) -> list[str]:
    if "usingClause" in body:
        names = [only(n)[1].get("sval", "") for n in body["usingClause"]]
        for name in names:
            if not all(any(c == name for c, _ in side.star) for side in (one, two)):
                raise a.refuse(f'column "{name}" of USING is not known on both sides', body, hint="Write the condition with ON.")
        return names
    if not body.get("isNatural"):
        return []
    sources = [*one.sources, *two.sources]
    if any(s.opaque for s in sources):
        raise a.refuse(
            "NATURAL JOIN with a function beside a protected table is not in this version",
            body,
            hint="Write the condition with ON.",
        )
    right = {name for name, _ in two.star}
    return [name for name, _ in one.star if name is not None and name in right]


FROM_ITEMS.update(
    {
        "RangeVar": _range_var,
        "RangeSubselect": _range_subselect,
        "RangeFunction": _range_function,
        "JoinExpr": _join,
    }
)
