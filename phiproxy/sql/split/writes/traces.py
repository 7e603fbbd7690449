"""What the expressions of a SELECT are computed of: traced through derived tables, queries of WITH and subqueries to tables.

Where that is not known it is *secret*: something protected, or what may depend on something protected. It is also computed of all
given values that it may be computed of: those of the items of FROM that may be meant, and where these are not known of any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from phiproxy.sql.pg_errors.names_and_signatures import Column, Level, Source, Verdict, resolve
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.same_answers import AT_EACH_CALL
from phiproxy.sql.split.writes.parts_seen_together import given_at, names_sequences
from phiproxy.sql.split.writes.unnested import unnested_rows
from phiproxy.sql.text.parse import Node, children, is_node, is_plain_call, only, strings

Key = tuple[int, int]
"""An output that given values stand in: the id of its query's body, and its position."""

# Expressions that are computed of their parts, row by row.
_PLAIN_NODES = """
    A_ArrayExpr A_Const A_Expr A_Indices A_Indirection BooleanTest BoolExpr CaseExpr CaseWhen CoalesceExpr CollateClause FuncCall
    List MinMaxExpr NamedArgExpr NullTest ParamRef RowExpr SortBy SQLValueFunction String TypeCast WindowDef
"""
_PLAIN = frozenset(_PLAIN_NODES.split())


class Traced(NamedTuple):
    """What an expression is computed of: outputs that given values stand in, and whether anything else is, or may be, secret.

    ``unknown``: it may be computed of any output that given values stand in.
    """

    given: frozenset[Key] = frozenset()
    secret: bool = False
    unknown: bool = False

    def __or__(self, other: object) -> Traced:
        """Return what both are computed of."""
        assert isinstance(other, Traced)
        return Traced(self.given | other.given, self.secret or other.secret, self.unknown or other.unknown)


_MOST_STEPS = 20_000
_NOTHING, SECRET, UNKNOWN = Traced(), Traced(secret=True), Traced(secret=True, unknown=True)


@dataclass(slots=True)
class _Query:
    """A query of the statement, with the queries of WITH that it sees, and the query around it.

    Of a query of WITH that may refer to itself it sees the clause, and None of a write.
    """

    body: Node
    ctes: Mapping[str, Node | None]
    outer: _Query | None

    def and_around(self) -> Iterator[_Query]:
        """Yield it and the queries around it, the innermost first."""
        query: _Query | None = self
        while query is not None:
            yield query
            query = query.outer


@dataclass(slots=True)
class Traces:
    """A SELECT ``body``, its names and types, and the (table OID, attnum) of its protected columns.

    ``given`` are the outputs that were traced and in which given values stand, with their expressions.
    """

    verdict: Verdict
    body: Node
    protected: frozenset[tuple[int, int]]
    given: dict[Key, list[Node]] = field(default_factory=dict)
    _queries: dict[int, _Query] = field(default_factory=dict)
    _unnested: dict[int, Node] = field(default_factory=dict)
    _deciding: set[int] = field(default_factory=set)
    _outputs: dict[Key, Traced] = field(default_factory=dict)
    _steps: int = 0

    def __post_init__(self) -> None:
        """Find the queries in it."""
        self._find(self.body, {}, None)

    @property
    def queries(self) -> list[Node]:
        """The bodies of all its queries."""
        return [query.body for query in self._queries.values()]

    def _find(self, body: Node, ctes: Mapping[str, Node | None], outer: _Query | None) -> None:
        seen = dict(ctes)
        clause = body.get("withClause", {})
        own = [only(node)[1] for node in clause.get("ctes", ())]
        if clause.get("recursive"):
            seen.update({cte["ctename"]: clause for cte in own})
        for cte in own:
            kind, inner = only(cte["ctequery"])
            if kind == "SelectStmt":
                self._find(inner, dict(seen), outer)
            seen[cte["ctename"]] = inner if kind == "SelectStmt" else None
        query = self._queries[id(body)] = _Query(body, seen, outer)
        for side in ("larg", "rarg"):
            if side in body:
                self._find(body[side], seen, outer)
        for inner in _queries_in({k: v for k, v in body.items() if k not in ("larg", "rarg", "withClause")}):
            self._find(inner, seen, query)
        for item in _items(body.get("fromClause", ())):
            rows = unnested_rows(self.verdict.signatures, item)
            if rows is not None:
                self._queries[id(rows)] = _Query(rows, seen, query)
                self._unnested[id(only(item)[1])] = rows

    # -- expressions -------------------------------------------------------------------------------------------------------

    def expression(self, node: Node, body: Node) -> Traced:
        """Return what an expression of a query is computed of."""
        return self._expression(node, self._queries[id(body)])

    def output(self, body: Node, position: int) -> Traced:
        """Return what an output of a query is computed of."""
        if "larg" in body:
            return self.output(body["larg"], position) | self.output(body["rarg"], position)
        key, query = (id(body), position), self._queries[id(body)]
        if key in self._outputs:
            return self._outputs[key]
        if "valuesLists" in body:
            nodes = [only(row)[1]["items"][position] for row in body["valuesLists"]]
        else:
            shown = self._shown(query)
            one = shown[position] if shown is not None and position < len(shown) else None
            if one is None or isinstance(one, Traced):
                return one or self._any_output(body)
            nodes = [one]
        traced = _all(self._expression(node, query) for node in nodes)
        own = [self._without_queries(node) for node in nodes]
        if any(given_at(node, names=names_sequences(self.verdict.a)) for node in own):
            self.given[key] = own
            traced |= Traced(frozenset({key}))
        if not self._deciding:
            self._outputs[key] = traced
        return traced

    def count(self, body: Node) -> int:
        """Return how many outputs of a query are known."""
        if "larg" in body:
            return self.count(body["larg"])
        if "valuesLists" in body:
            return len(only(body["valuesLists"][0])[1]["items"])
        return len(self._shown(self._queries[id(body)]) or ())

    def each_output(self, body: Node) -> list[Traced]:
        """Return what each output of a query is computed of; of one whose outputs are not known what one may be."""
        if "larg" in body:
            sides = [self.each_output(body[side]) for side in ("larg", "rarg")]
            left, right = sides
            return [_all(both) for both in zip(*sides, strict=True)] if len(left) == len(right) else [_all([*left, *right])]
        known = "valuesLists" in body or self._shown(self._queries[id(body)]) is not None
        return [self.output(body, position) for position in range(self.count(body))] if known else [self._any_output(body)]

    def _any_output(self, body: Node) -> Traced:
        """Return what an output may be computed of where it is not known how many there are."""
        query, listed = self._queries[id(body)], [only(node)[1]["val"] for node in body.get("targetList", ())]
        names = (strings(node["ColumnRef"]["fields"]) for node in listed if "ColumnRef" in node)
        meant = (traced for one in names if one != ["*"] for traced in self._may_mean(one, query))
        others = (self._expression(node, query) for node in listed if "ColumnRef" not in node)
        return SECRET | _all([*meant, *others, *(self._item(item, query) for item in _items(body.get("fromClause", ())))])

    def outputs(self, body: Node) -> Traced:
        """Return what all outputs of a query are computed of."""
        return _all(self.each_output(body))

    def _level(self, query: _Query) -> Level:
        """Return what the expressions of a query see; those of VALUES only what is around it."""
        around = (self.verdict.levels.get(id(one.body)) for one in query.and_around())
        return next((level for level in around if level is not None), Level())

    def _shown(self, query: _Query) -> list[Node | Traced] | None:
        """Return the outputs of a SELECT, with those of stars traced; None where they are not known."""
        level, shown = self._level(query), list[Node | Traced]()
        for node in query.body.get("targetList", ()):
            value = only(node)[1]["val"]
            names = strings(value.get("ColumnRef", {}).get("fields"))
            if names[-1:] != ["*"]:
                if any("A_Star" in one for one in value.get("A_Indirection", {}).get("indirection", ())):
                    return None
                shown.append(value)
                continue
            source = next((s for s in level.sources if names[:-1] == [s.alias]), None)
            if level.opaque or (len(names) > 1 and source is None):
                return None
            for column in level.star if source is None else source.columns:
                if column.origin is not None:
                    shown.append(Traced(secret=column.origin in self.protected))
                else:
                    shown.append(self._reference([*names[:-1], column.name], level, query))
        return shown

    def _expression(self, node: Node, query: _Query) -> Traced:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Impossible("it is not traced what so many expressions are computed of")
        kind, body = only(node)
        if kind == "ColumnRef":
            return self._reference(strings(body["fields"]), self._level(query), query)
        if kind == "SubLink":
            return self._subquery(body, query)
        if kind == "TypeCast":
            return self._expression(body["arg"], query)
        traced = _all(self._expression(child, query) for child in children(body))
        if kind == "FuncCall":
            traced |= self._called(body, query)
        return traced if kind in _PLAIN else traced | SECRET

    def _subquery(self, body: Node, query: _Query) -> Traced:
        inner = only(body["subselect"])[1]
        if id(inner) not in self._queries:  # of a part of the statement that stands elsewhere
            names = (strings(m["fields"]) for m in _messages(body) if isinstance(m.get("fields"), list))
            return SECRET | _all(traced for one in names for traced in self._may_mean(one, query))
        traced = self.rows(inner)
        if body["subLinkType"] != "EXISTS_SUBLINK":
            traced |= self.outputs(inner)
        return traced | self._expression(body["testexpr"], query) if "testexpr" in body else traced

    def _without_queries(self, tree: Any) -> Any:
        """Return an expression without its subqueries, whose outputs are traced by themselves."""
        if isinstance(tree, list):
            return [self._without_queries(one) for one in tree]
        if not isinstance(tree, dict):
            return tree
        kept = (key for key in tree if key != "subselect" or id(only(tree[key])[1]) not in self._queries)
        return {key: self._without_queries(tree[key]) for key in kept}

    def _called(self, call: Node, query: _Query) -> Traced:
        """Return what a call depends on beside its arguments: aggregates and window functions on all rows."""
        signatures, name = self.verdict.signatures, strings(call["funcname"])[-1]
        functions = signatures.functions(name)
        own = [f for f in signatures.own_functions(name) if f.extension not in self.verdict.a.context.extensions]
        if not functions or own or (name not in AT_EACH_CALL and any(f.volatile == "v" for f in functions)):
            # A rest has none of those that are volatile, so it is the server that computes them.
            by_row = functions and is_plain_call(call) and all(f.kind == "f" for f in functions)
            return SECRET if by_row else SECRET | _all(self.rows(one.body) for one in query.and_around())
        if is_plain_call(call) and all(f.kind == "f" for f in functions):
            return _NOTHING
        level = self._level(query)
        names = [strings(m["fields"]) for m in _messages(call) if isinstance(m.get("fields"), list)]
        owners = [resolve(level, one) if "*" not in one and "" not in one else None for one in names]
        inside = not owners or any(owner is not None and owner[0].sources is level.sources for owner in owners)
        of = [query] if inside else list(query.and_around())
        windows = (self._entry(node, query) for node in query.body.get("windowClause", ()))
        return _all([*windows, *(self.rows(one.body) for one in of)])

    def _reference(self, names: Sequence[str], level: Level, query: _Query) -> Traced:
        resolved = resolve(level, names) if "*" not in names and "" not in names else None
        if resolved is None:
            return SECRET | _all(list(self._may_mean(names, query)) or [UNKNOWN])
        seen, source, column = resolved
        if source is not None:
            return self._column(source, column, query)
        return self._merged(column.name, seen, query)

    def _merged(self, name: str, seen: Level, query: _Query) -> Traced:
        """Return what a column of USING is computed of: that of all sides, one of which may be a function's."""
        sides = [(source, column) for source in seen.sources for column in source.columns if column.name == name]
        if len(sides) < 2:
            return UNKNOWN
        hidden = _all(self._all_of(source, query) for source in seen.sources if source.opaque)
        return _all(self._column(*side, query) for side in sides) | hidden

    def _column(self, source: Source, column: Column, query: _Query) -> Traced:
        if column.origin is not None:
            return Traced(secret=column.origin in self.protected)
        found = self._item_of(source, query)
        inner = self._query_of(*found) if found is not None else None
        if inner is None:
            return SECRET | self._all_of(source, query)
        return self.output(inner, [c.name for c in source.columns].index(column.name))

    def _may_mean(self, names: Sequence[str], query: _Query) -> Iterator[Traced]:
        """Yield what all that a reference may mean is computed of, wherever in a query it stands."""
        *qualifier, name = names
        for source in (source for level in self._level(query).levels() for source in level.sources):
            columns = [column for column in source.columns if column.name == name]
            hidden = source.opaque or name in ("*", "", source.alias) or any(column.name == "\0" for column in source.columns)
            if (qualifier and source.alias not in (qualifier[-1], "\0")) or not (qualifier or columns or hidden):
                continue
            if columns and not hidden:
                yield from (self._column(source, column, query) for column in columns)
            else:
                yield self._all_of(source, query)

    def _all_of(self, source: Source, query: _Query) -> Traced:
        """Return what all columns of an item of FROM are computed of."""
        found = self._item_of(source, query)
        return self._item(*found) if found is not None else UNKNOWN

    def _item_of(self, source: Source, query: _Query) -> tuple[Node, _Query] | None:
        """Return the item of FROM that a source is, with its query; None where that is not sure."""
        for owner in query.and_around():
            if not any(one is source for one in self._level(owner).sources):
                continue
            items = [item for item in _items(owner.body.get("fromClause", ())) if _label(item) == source.alias]
            if len(items) == 1:
                return items[0], owner
        return None

    def _query_of(self, item: Node, owner: _Query) -> Node | None:
        """Return the query of a derived table or of WITH that an item of FROM is; None where it is none, or not known."""
        kind, body = only(item)
        if kind == "RangeSubselect":
            return only(body["subquery"])[1]
        if kind == "RangeFunction":
            return self._unnested.get(id(body))
        cte = owner.ctes.get(body["relname"]) if kind == "RangeVar" and "schemaname" not in body else None
        return None if cte is not None and "ctes" in cte else cte

    def _item(self, item: Node, owner: _Query) -> Traced:
        """Return what all columns of an item of FROM are computed of."""
        kind, body = only(item)
        inner = self._query_of(item, owner)
        if inner is not None:
            return self.outputs(inner)
        if kind == "JoinExpr":
            return self._item(body["larg"], owner) | self._item(body["rarg"], owner)
        if kind == "RangeVar":
            return self._recursive(owner.ctes[body["relname"]]) if _is_cte(body, owner) else SECRET
        return self._in_from(body, body.get("functions", body), owner)

    def _recursive(self, clause: Node | None) -> Traced:
        """Return what a query of WITH that may refer to itself is computed of, with its rows: of whatever is in the clause."""
        if clause is None:
            return UNKNOWN
        if id(clause) in self._deciding:
            return SECRET
        self._deciding.add(id(clause))
        try:
            bodies = [self._queries[id(m)].body for m in _messages(clause["ctes"]) if id(m) in self._queries]
            return SECRET | _all(self.outputs(body) | self.rows(body) for body in bodies)
        finally:
            self._deciding.discard(id(clause))

    def _in_from(self, item: Node, tree: Any, query: _Query) -> Traced:
        """Return what the expressions of an item are computed of: they see a part of FROM only, so a name may mean another's."""
        if id(item) in self._deciding:
            return _NOTHING
        self._deciding.add(id(item))
        try:
            names = (strings(m["fields"]) for m in _messages(self._without_queries(tree)) if isinstance(m.get("fields"), list))
            meant = [traced for one in names for traced in self._may_mean(one, query)]
            hiding = self._hiding(item, query)
            if not hiding:
                return _all([*meant, *(self._expression(child, query) for child in children(tree))])
            queries = (self._subquery(m["SubLink"], query) for m in _messages(tree) if "SubLink" in m)
            return SECRET | _all([*meant, *queries, *(self._item(join, query) for join in hiding)])
        finally:
            self._deciding.discard(id(item))

    def _hiding(self, item: Node, query: _Query) -> list[Node]:
        """Return the join with an alias, if any, in which alone the items are seen that an item of FROM is joined with."""
        joins = (one for one in _items(query.body.get("fromClause", ())) if "JoinExpr" in one)
        return [join for join in joins if any(item is one for one in _inside(join))]

    # -- rows --------------------------------------------------------------------------------------------------------------

    def rows(self, body: Node) -> Traced:
        """Return what decides which rows a query gives."""
        if id(body) in self._deciding:
            return _NOTHING
        self._deciding.add(id(body))
        try:
            return self._rows(body) | self.groups(body)
        finally:
            self._deciding.discard(id(body))

    def groups(self, body: Node) -> Traced:
        """Return what decides how rows of a query, or of two, become one: GROUP BY, HAVING, DISTINCT, UNION and its kin."""
        if "larg" in body:
            return _NOTHING if body["op"] == "SETOP_UNION" and body.get("all") else self.outputs(body)
        query = self._queries[id(body)]
        traced = _all(self._entry(node, query) for node in body.get("groupClause", ()))
        if "havingClause" in body:
            traced |= self._expression(body["havingClause"], query)
        if "distinctClause" in body:
            chosen = [node for node in body["distinctClause"] if node]
            traced |= _all(self._entry(node, query) for node in (*chosen, *body.get("sortClause", ()))) if chosen else _NOTHING
            traced |= _NOTHING if chosen else self.outputs(body)
        return traced

    def _rows(self, body: Node) -> Traced:
        query = self._queries[id(body)]
        limits = [body[part] for part in ("limitCount", "limitOffset") if part in body]
        traced = _all(self._expression(node, query) for node in limits)
        if "larg" in body:
            sorted_ = self.outputs(body) if limits else _NOTHING
            return traced | sorted_ | self.rows(body["larg"]) | self.rows(body["rarg"])
        if limits:
            traced |= _all(self._entry(node, query) for node in body.get("sortClause", ()))
        if "whereClause" in body:
            traced |= self._expression(body["whereClause"], query)
        several = (only(node)[1]["val"] for node in body.get("targetList", ()) if self._gives_rows(node))
        traced |= _all(self._expression(node, query) for node in several)
        return traced | _all(self._item_rows(item, query) for item in body.get("fromClause", ()))

    def _gives_rows(self, node: Node) -> bool:
        names = (strings(m["funcname"])[-1] for m in _messages(node) if "funcname" in m)
        return any(f.rows for name in names for f in self.verdict.signatures.functions(name))

    def _item_rows(self, item: Node, query: _Query) -> Traced:
        kind, body = only(item)
        if kind == "RangeVar":
            if not _is_cte(body, query):
                return _NOTHING
            inner = self._query_of(item, query)
            return self.rows(inner) if inner is not None else self._recursive(query.ctes[body["relname"]])
        if kind == "RangeSubselect":
            return self.rows(only(body["subquery"])[1])
        if kind == "RangeFunction":
            return self._in_from(body, body["functions"], query)
        if kind != "JoinExpr":
            return SECRET | self._in_from(body, body, query)
        return _all(self._joining(item, query)) | self._item_rows(body["larg"], query) | self._item_rows(body["rarg"], query)

    def _joining(self, join: Node, query: _Query) -> Iterator[Traced]:
        """Yield what decides which rows a join gives, without those that it joins: each part of an AND by itself."""
        body, level = join["JoinExpr"], self._level(query)
        if "quals" in body:
            yield from (self._in_from(body, [part], query) for part in parts(body["quals"]))
        if body.get("isNatural") and (level.opaque or self._hiding(body, query)):
            yield SECRET | self._item(join, query)
        elif body.get("isNatural"):
            yield from (self._merged(column.name, level, query) for column in level.merged)
        yield from (self._merged(name, level, query) for name in strings(body.get("usingClause")))

    def _entry(self, node: Node, query: _Query) -> Traced:
        """Return what an entry of GROUP BY, ORDER BY or DISTINCT ON is computed of: maybe an output, by its position or name."""
        kind, body = only(node)
        if kind == "SortBy":
            return self._entry(body["node"], query)
        if kind == "GroupingSet":
            return _all(self._entry(child, query) for child in body.get("content", ()))
        if kind == "A_Const" and "ival" in body:
            return self.output(query.body, body["ival"].get("ival", 0) - 1)
        names = strings(body["fields"]) if kind == "ColumnRef" else []
        if len(names) != 1:
            return self._expression(node, query)
        if "larg" in query.body:
            return self.outputs(query.body)
        called = [n for n, one in enumerate(query.body.get("targetList", ())) if only(one)[1].get("name") == names[0]]
        traced = _all(self.output(query.body, position) for position in called)
        seen = called and resolve(self._level(query), names) is None
        return traced | (_all(self._may_mean(names, query)) if seen else self._expression(node, query))

    # -- what meets what ---------------------------------------------------------------------------------------------------

    def conditions(self) -> Iterator[Traced]:
        """Yield what the conditions and other clauses of all queries are computed of, each part of an AND by itself."""
        for query in list(self._queries.values()):
            body = query.body
            nodes = [body[part] for part in ("whereClause", "havingClause", "limitCount", "limitOffset") if part in body]
            for join in _joins(body.get("fromClause", ())):
                yield from self._joining(join, query)
            yield from (self._expression(part, query) for node in nodes for part in parts(node))
            entries = (n for part in ("groupClause", "distinctClause", "sortClause", "windowClause") for n in body.get(part, ()))
            yield from (self._entry(node, query) for node in entries if node)
            leaves = map(only, _leaves(body.get("fromClause", ())))
            yield from (self._in_from(item, item, query) for kind, item in leaves if kind not in ("RangeSubselect", "RangeVar"))


def _is_cte(body: Node, query: _Query) -> bool:
    return "schemaname" not in body and body["relname"] in query.ctes


def parts(node: Node) -> Iterator[Node]:
    """Yield the parts of a condition that AND joins."""
    if node.get("BoolExpr", {}).get("boolop") == "AND_EXPR":
        for part in node["BoolExpr"]["args"]:
            yield from parts(part)
    elif node:
        yield node


def _all(several: Iterable[Traced]) -> Traced:
    traced = _NOTHING
    for one in several:
        traced |= one
    return traced


def _messages(tree: Any) -> Iterator[Node]:
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from _messages(value)


def _queries_in(tree: Any) -> Iterator[Node]:
    """Yield the bodies of the queries below a tree, without those in them."""
    for child in [tree] if is_node(tree) else children(tree):
        kind, body = only(child)
        if kind == "SelectStmt":
            yield body
        else:
            yield from _queries_in(body)


def _items(items: Iterable[Node]) -> Iterator[Node]:
    """Yield the items of a FROM whose columns are seen: joins with an alias, and what others join."""
    for item in items:
        if "JoinExpr" in item and "alias" not in item["JoinExpr"]:
            yield from _items([item["JoinExpr"]["larg"], item["JoinExpr"]["rarg"]])
        else:
            yield item


def _inside(item: Node) -> Iterator[Node]:
    """Yield the bodies of a join with an alias and of what it joins."""
    if "JoinExpr" in item:
        yield from (only(one)[1] for one in (*_joins([item]), *_leaves([item])))


def _leaves(items: Iterable[Node]) -> Iterator[Node]:
    """Yield the items of a FROM that are no joins."""
    for item in items:
        if "JoinExpr" in item:
            yield from _leaves([item["JoinExpr"]["larg"], item["JoinExpr"]["rarg"]])
        else:
            yield item


def _joins(items: Iterable[Node]) -> Iterator[Node]:
    for item in items:
        if "JoinExpr" in item:
            yield item
            yield from _joins([item["JoinExpr"]["larg"], item["JoinExpr"]["rarg"]])


def _label(item: Node) -> str:
    _, body = only(item)
    name: str = body.get("alias", {}).get("aliasname") or body.get("relname", "unnest" if "functions" in body else "")
    return name
