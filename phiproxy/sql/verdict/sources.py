"""FROM: which columns there are, of which types, and conditions of joins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from phiproxy.errors import DatatypeMismatch, PathNeeded, StatementRefused, UndefinedOperator
from phiproxy.policy.catalog import Relation
from phiproxy.sql.assign import columns_of
from phiproxy.sql.parse import Node, children, only, strings
from phiproxy.sql.verdict.expressions import condition, query, type_of
from phiproxy.sql.verdict.state import Column, Level, Outputs, Source, Verdict, first


def from_clause(v: Verdict, items: Sequence[Node], outer: Level | None) -> Level:
    """Return what a FROM list gives to the expressions behind it."""
    level = Level(outer=outer)
    for item in items:
        _add(level, _item(v, item, level))
    return level


def _add(level: Level, one: Level) -> None:
    level.sources += one.sources
    level.merged += one.merged
    level.star += one.star


def _of(source: Source) -> Level:
    return Level([source], [], list(source.columns))


def _item(v: Verdict, node: Node, left: Level) -> Level:
    kind, body = only(node)
    rule = _ITEMS.get(kind)
    if rule is not None:
        return rule(v, body, left)
    for child in children(body):
        type_of(v, child, left)
    return _of(Source(body.get("alias", {}).get("aliasname", "\0"), (), opaque=True))


def _function(v: Verdict, body: Node, left: Level) -> Level:
    """Return a function's rows: the first column of ``unnest``, and nothing else. Of several arrays that is one call for each."""
    seen = Level(left.sources, left.merged, left.star, left.outer, barred="functions in FROM")
    for entry in (only(node)[1]["items"][0] for node in body["functions"]):
        call = only(entry)[1]
        several = len(call.get("args", ())) > 1 and strings(call.get("funcname"))[-1:] == ["unnest"]
        found = [type_of(v, node, seen) for node in (call["args"] if several else [entry])]
    named = body.get("alias", {})
    alias = named.get("aliasname", "\0")
    unnested = len(body["functions"]) == 1 and not several and strings(call.get("funcname"))[-1:] == ["unnest"]
    columns = (Column((strings(named.get("colnames")) or [alias])[0], found[0]),) if unnested else ()
    return _of(Source(alias, columns, opaque=True))


def _range_var(v: Verdict, body: Node, _left: Level) -> Level:
    return _of(table(v, body))


def table(v: Verdict, body: Node, *, target: bool = False) -> Source:
    """Return the source that a RangeVar is; of what is not known an opaque one."""
    name, named = body["relname"], body.get("alias", {})
    label = named.get("aliasname") or name
    found = None if target or "schemaname" in body else next((level[name] for level in reversed(v.ctes) if name in level), None)
    if found is not None:
        return _renamed(replace(found, alias=label), named)
    try:
        relation = v.a.target_relation(body)
        return _renamed(_relation(v, relation, label, aliased="aliasname" in named), named)
    except (StatementRefused, PathNeeded):
        return Source(label, (), opaque=True)  # what is wrong with it is said elsewhere


def _relation(v: Verdict, relation: Relation, label: str, *, aliased: bool) -> Source:
    protected = columns_of(v.a, relation)
    columns = tuple(
        Column(c.name, (protected[c.name].type.oid or None) if c.name in protected else c.type_oid)
        for c in relation.columns
        if not c.name.startswith("phi_tag_")
    )
    return Source(label, columns, None if aliased else relation.schema, opaque=not relation.oid, relation=relation)


def _renamed(source: Source, named: Node) -> Source:
    names = strings(named.get("colnames"))
    columns = [Column(name, c.type) for name, c in zip(names, source.columns, strict=False)]
    return replace(source, columns=(*columns, *source.columns[len(columns) :]))


def derived_source(alias: str, outputs: Outputs, names: Sequence[str] = ()) -> Source:
    """Return a subquery's or CTE's result as a source."""
    if outputs is None:
        return Source(alias, (), opaque=True)
    columns = tuple(Column(o.name or "\0", o.type) for o in outputs)
    named = tuple(Column(name, c.type) for name, c in zip(names, columns, strict=False))
    return Source(alias, (*named, *columns[len(named) :]), opaque=any(o.name is None for o in outputs))


def _subselect(v: Verdict, body: Node, left: Level) -> Level:
    seen = replace(left) if body.get("lateral") else left.outer
    named = body.get("alias", {})
    return _of(derived_source(named.get("aliasname", "\0"), query(v, body["subquery"], seen), strings(named.get("colnames"))))


def _join(v: Verdict, body: Node, left: Level) -> Level:
    one = _item(v, body["larg"], left)
    seen = Level([*left.sources, *one.sources], [*left.merged, *one.merged], outer=left.outer)
    two = _item(v, body["rarg"], seen)
    names = strings(body.get("usingClause")) if "usingClause" in body else _shared(one, two) if body.get("isNatural") else []
    made = Level([*one.sources, *two.sources], outer=left.outer)
    made.merged = [c for c in (*one.merged, *two.merged) if c.name not in names] + [_merge(v, n, one, two, body) for n in names]
    made.star = [*made.merged[-len(names) :]] if names else []
    made.star += [c for side in (one, two) for c in side.star if c.name not in names]
    if "quals" in body:
        condition(v, body["quals"], made, "JOIN/ON")
    if "alias" not in body:
        return made
    return _of(_renamed(Source(body["alias"]["aliasname"], tuple(made.star), opaque=made.opaque), body["alias"]))


def _shared(one: Level, two: Level) -> list[str]:
    names = {c.name for c in two.star} if not (one.opaque or two.opaque) else set()
    return list(dict.fromkeys(c.name for c in one.star if c.name in names and c.name != "\0"))


def _merge(v: Verdict, name: str, one: Level, two: Level, body: Node) -> Column:
    types = [next((c.type for c in side.star if c.name == name), None) for side in (one, two)]
    made, odd = v.signatures.common(types)
    if odd is not None:
        shown = " and ".join(map(v.shown, types))
        why = f"JOIN/USING types {shown} cannot be matched"
        raise v.error(DatatypeMismatch, why, first(body["rarg"]), "Join columns of one type, or write the condition with ON.")
    if not v.signatures.operations("=", *types):
        why = f"operator does not exist: {v.shown(types[0])} = {v.shown(types[1])}"
        raise v.error(UndefinedOperator, why, first(body["rarg"]), "Join columns of one type, or write the condition with ON.")
    return Column(name, made)


_ITEMS: dict[str, Callable[[Verdict, Node, Level], Level]] = {
    "RangeFunction": _function,
    "RangeVar": _range_var,
    "RangeSubselect": _subselect,
    "JoinExpr": _join,
}
