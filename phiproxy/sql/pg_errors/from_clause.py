"""FROM: its columns with their types, and the conditions of joins."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from phiproxy.errors import DatatypeMismatch, PathNeeded, StatementRefused, UndefinedOperator
from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.policy.signatures import INT8, Signatures, Type
from phiproxy.policy.view_rests import is_computed, is_inner
from phiproxy.sql.pg_errors.expression_types import condition, named_type, query, type_of
from phiproxy.sql.pg_errors.names_and_signatures import Column, Level, Output, Outputs, Source, Verdict, first
from phiproxy.sql.queries.computed_views import told_types
from phiproxy.sql.queries.views import columns_of_view
from phiproxy.sql.resolve.table_columns import TableColumns
from phiproxy.sql.table_names import target_relation
from phiproxy.sql.text.parse import Node, children, is_plain_call, only, strings
from phiproxy.sql.writes.assignment import columns_of


def from_clause(v: Verdict, items: Sequence[Node], outer: Level | None, target: Source | None = None) -> Level:
    """Return what a FROM list shows to the expressions behind it. ``target``: it is that of a write of this table.

    SELECT ssn FROM patients p JOIN visits v ON p.id = v.mrn
    → refused 42883
    """
    level = Level(outer=outer, unreachable=target)
    for item in items:
        one = _item(v, item, level)
        level.own_star = None if level.own_star is None is one.own_star else level.star + one.star
        level.sources, level.merged = level.sources + one.sources, level.merged + one.merged
    level.unreachable = None
    return level


def _of(source: Source) -> Level:
    return Level([source])


def _item(v: Verdict, node: Node, left: Level) -> Level:
    kind, body = only(node)
    rule = _ITEMS.get(kind)
    if rule is not None:
        return rule(v, body, left)
    for child in children(body):
        type_of(v, child, left)
    return _of(Source(body.get("alias", {}).get("aliasname", "\0"), (), opaque=True))


def _sample(v: Verdict, body: Node, left: Level) -> Level:
    """Return the table of a sample; how large it is sees nothing that is beside it in FROM."""
    for node in [*body.get("args", ()), *([body["repeatable"]] if "repeatable" in body else ())]:
        type_of(v, node, Level(outer=left.outer))
    return _item(v, body["relation"], left)


def _function(v: Verdict, body: Node, left: Level) -> Level:
    """Return a function as a source. The columns of ``unnest`` are known, and those that the statement defines.

    Over several arrays ``unnest`` is one call for each.
    One that gives a scalar has one column, but PostgreSQL may call it as a parameter of the function: so its name is not known.
    """
    seen = replace(left, barred="functions in FROM", gives_sets=True)
    arrays = unnested_arrays(v.signatures, body)
    if arrays is not None:
        elements = [v.signatures.element_of(type_of(v, array, seen)) for array in arrays]
        if all(map(v.signatures.is_one_column, elements)):
            return _of(_unnested(body, elements))
    given, scalar = list[Type](), "coldeflist" not in body
    for entry in (only(node)[1]["items"][0] for node in body["functions"]):
        call = only(entry)[1]
        several = len(call.get("args", ())) > 1 and strings(call.get("funcname"))[-1:] == ["unnest"]
        arguments = [type_of(v, node, seen) for node in (call["args"] if several else [entry])]
        given, scalar = [*given, *arguments], scalar and not several
    named = body.get("alias", {})
    alias = named.get("aliasname", "\0")
    if "coldeflist" in body and alias != "\0":
        return _of(Source(alias, _defined(v, body)))
    unnested = len(body["functions"]) == 1 and not several and strings(call.get("funcname"))[-1:] == ["unnest"]
    counted = scalar and all(map(v.signatures.is_one_column, given))
    columns = [Column((strings(named.get("colnames")) or [alias])[0] if unnested else "\0", one) for one in given]
    columns += [Column("\0", None)] if body.get("ordinality") else []
    return _of(Source(alias, tuple(columns if counted else columns[:unnested]), opaque=True, counted=counted))


def _defined(v: Verdict, body: Node) -> tuple[Column, ...]:
    """Return the columns of a function that gives records: ``jsonb_to_record(doc) AS x (a int, b text)``."""
    defined = [only(node)[1] for node in body["coldeflist"]]
    columns = [Column(one["colname"], named_type(v, one["typeName"])) for one in defined]
    return (*columns, *([Column("ordinality", INT8)] if body.get("ordinality") else []))


def unnested_arrays(signatures: Signatures, body: Node) -> list[Node] | None:
    """Return the arrays of a function of FROM that only unnests, also in ROWS FROM; None of any other.

    ``unnest($1::text[], $2::date[]) AS u (a, b)``
    """
    arrays = list[Node]()
    if signatures.own_functions("unnest"):
        return None
    for entry in (only(node)[1]["items"][0] for node in body["functions"]):
        kind, call = only(entry)
        if kind != "FuncCall" or strings(call["funcname"]) not in (["unnest"], ["pg_catalog", "unnest"]) or not is_plain_call(call):
            return None
        arrays += call.get("args", ())
    return arrays


def _unnested(body: Node, elements: Sequence[Type]) -> Source:
    named = body.get("alias", {})
    alias = named.get("aliasname", "unnest")
    columns = [Column(alias if len(elements) == 1 else "unnest", one) for one in elements]
    columns += [Column("ordinality", INT8)] if body.get("ordinality") else []
    return _renamed(Source(alias, tuple(columns)), strings(named.get("colnames")))


def table(v: Verdict, body: Node, *, target: bool = False) -> Source:
    """Return the source that a RangeVar means; an opaque one where its columns are not known."""
    name, named = body["relname"], body.get("alias", {})
    label = named.get("aliasname") or name
    cte = None if target or "schemaname" in body else next((level[name] for level in reversed(v.ctes) if name in level), None)
    if cte is not None:
        return _renamed(replace(cte, alias=label), strings(named.get("colnames")))
    try:
        relation = target_relation(v.a, body)
        return _renamed(_relation(v, relation, label, aliased="aliasname" in named), strings(named.get("colnames")))
    except (StatementRefused, PathNeeded):
        return Source(label, (), opaque=True)  # what is wrong with it is said elsewhere


def _relation(v: Verdict, relation: Relation, label: str, *, aliased: bool) -> Source:
    protected = columns_of(v.a, relation)
    view = columns_of_view(v.a, relation) if is_computed(relation) else None
    told = told_types(relation, view.rest) if view is not None else {}

    def column(c: CatalogColumn) -> Column:
        own = protected[c.name].type if c.name in protected else told.get(c.name)
        if own is not None:
            return Column(c.name, own.oid or None, (relation.oid, c.attnum), own.typmod, "")
        return Column(c.name, c.type_oid, (relation.oid, c.attnum), c.typmod, c.collation)

    seen = visible_columns(relation)
    if v.a.context.inside is not None and is_computed(relation):
        seen = [c for c in seen if not is_inner(c.name)]
    return Source(
        label, TableColumns(seen, column), None if aliased else relation.schema, opaque=not relation.oid, relation=relation
    )


def _renamed(source: Source, names: Sequence[str]) -> Source:
    if not names:
        return source
    columns = [replace(c, name=name) for name, c in zip(names, source.columns, strict=False)]
    return replace(source, columns=(*columns, *source.columns[len(columns) :]))


def derived_source(alias: str, outputs: Outputs, names: Sequence[str] = ()) -> Source:
    """Return a subquery or CTE as a source."""
    if outputs is None:
        return Source(alias, (), opaque=True)
    columns = tuple(
        replace(o.column, name=o.name or "\0") if o.column is not None else Column(o.name or "\0", o.type, typmod=_typmod(o))
        for o in outputs
    )
    return _renamed(Source(alias, columns, opaque=any(o.name is None for o in outputs), counted=True), names)


def _typmod(output: Output) -> int | None:
    """Return the typmod of an expression: none of what functions and operators give, but for those that a cast may be."""
    kind, body = only(output.node)
    return -1 if kind == "FuncCall" or (kind == "A_Expr" and body["kind"] == "AEXPR_OP") else None


def _subselect(v: Verdict, body: Node, left: Level) -> Level:
    seen = replace(left) if body.get("lateral") else left.outer
    named = body.get("alias", {})
    return _of(derived_source(named.get("aliasname", "\0"), query(v, body["subquery"], seen), strings(named.get("colnames"))))


def _join(v: Verdict, body: Node, left: Level) -> Level:
    one = _item(v, body["larg"], left)
    seen = Level([*left.sources, *one.sources], [*left.merged, *one.merged], outer=left.outer, unreachable=left.unreachable)
    two = _item(v, body["rarg"], seen)
    names = strings(body.get("usingClause")) if "usingClause" in body else _shared(one, two) if body.get("isNatural") else []
    joined = Level([*one.sources, *two.sources], outer=left.outer)
    if (one.opaque or two.opaque) and ("usingClause" in body or body.get("isNatural")):
        joined.sources = [replace(s, counted=False) if s.counted else s for s in joined.sources]  # a column may be merged
    joined.merged = [c for c in (*one.merged, *two.merged) if c.name not in names] + [_merge(v, n, one, two, body) for n in names]
    if names or one.own_star is not None or two.own_star is not None:
        others = [c for side in (one, two) for c in side.star if c.name not in names]
        joined.own_star = [*(joined.merged[-len(names) :] if names else ()), *others]
    if "join_using_alias" in body:
        alias = body["join_using_alias"]["aliasname"]
        joined.sources = [*joined.sources, Source(alias, tuple(joined.merged[-len(names) :]))]
    if "quals" in body:
        condition(v, body["quals"], joined, "JOIN/ON")
    if "alias" not in body:
        return joined
    source = Source(body["alias"]["aliasname"], tuple(joined.star), opaque=joined.opaque)
    return _of(_renamed(source, strings(body["alias"].get("colnames"))))


def _shared(one: Level, two: Level) -> list[str]:
    names = {c.name for c in two.star} if not (one.opaque or two.opaque) else set()
    return list(dict.fromkeys(c.name for c in one.star if c.name in names and c.name != "\0"))


def _merge(v: Verdict, name: str, one: Level, two: Level, body: Node) -> Column:
    sides = [next((c for c in side.star if c.name == name), Column(name, None)) for side in (one, two)]
    types = [side.type for side in sides]
    shared, odd = v.signatures.common(types)
    if odd is not None:
        shown = " and ".join(map(v.shown, types))
        why = f"JOIN/USING types {shown} cannot be matched"
        raise v.error(DatatypeMismatch, why, first(body["rarg"]), "Join columns of one type, or write the condition with ON.")
    if not v.signatures.operations("=", *types):
        why = f"operator does not exist: {v.shown(types[0])} = {v.shown(types[1])}"
        raise v.error(UndefinedOperator, why, first(body["rarg"]), "Join columns of one type, or write the condition with ON.")
    # parse_clause.c, buildMergedJoinVar: it is the column of the side that is never filled up with NULL.
    of_side = {"JOIN_INNER": 0, "JOIN_LEFT": 0, "JOIN_RIGHT": 1}.get(body["jointype"])
    same = of_side is not None and types[of_side] == shared
    return sides[of_side] if of_side is not None and same else Column(name, shared)


_ITEMS: dict[str, Callable[[Verdict, Node, Level], Level]] = {
    "RangeFunction": _function,
    "RangeVar": lambda v, body, _left: _of(table(v, body)),
    "RangeSubselect": _subselect,
    "RangeTableSample": _sample,
    "JoinExpr": _join,
}
