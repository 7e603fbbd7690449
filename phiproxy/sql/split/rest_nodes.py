"""What may stand in the rest: nothing whose answer would be another one in the engine than in the server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from phiproxy.policy.catalog import Relation
from phiproxy.policy.signatures import Function, Operator, Type
from phiproxy.sql.pg_errors.expression_types import row_named
from phiproxy.sql.pg_errors.names_and_signatures import Level, Source, Verdict, known_row
from phiproxy.sql.split.blocks import column_nodes
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.remaining import bodies, nodes
from phiproxy.sql.split.same_answers import CONFIGURATIONS, TEXT_SEARCH, VOLATILE, is_settled, means_clock
from phiproxy.sql.split.tables_and_columns import is_catalog_type
from phiproxy.sql.text.parse import Node, children, only, strings
from phiproxy.wire.oids import TEXT_OIDS

# Node types whose meaning lies in their parts alone.
_NODES = """
    A_ArrayExpr A_Indices A_Indirection A_Star Alias BitString Boolean BooleanTest BoolExpr CaseExpr CaseWhen CoalesceExpr
    ColumnDef ColumnRef CommonTableExpr CTECycleClause CTESearchClause Float GroupingFunc GroupingSet Integer JoinExpr
    JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFormat
    JsonFuncExpr JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning
    JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr List LockingClause MinMaxExpr
    NamedArgExpr NullTest ParamRef RangeFunction RangeSubselect RangeTableFunc RangeTableFuncCol RangeTableSample RangeVar
    ResTarget RowExpr SelectStmt SortBy String SubLink TypeCast WindowDef WithClause XmlExpr XmlSerialize
"""
_PLAIN = frozenset(_NODES.split())
# Collations that are alike everywhere, or the database's own, in which the engine's is like the server's.
_COLLATIONS = frozenset({"C", "POSIX", "default", "ucs_basic"})
# Calls in which it does not matter whether a row is of its table's type.
_OF_ANY_ROW = frozenset({
    "concat", "concat_ws", "count", "json_agg", "json_build_array", "json_build_object", "json_object_agg", "jsonb_agg",
    "jsonb_build_array", "jsonb_build_object", "jsonb_object_agg", "num_nonnulls", "num_nulls", "row_to_json", "to_json",
    "to_jsonb",
})  # fmt: skip
# Comparisons of two rows, which compare records of whatever type.
_OF_ROWS = frozenset({"=", "<>", "<", ">", "<=", ">="})
# Operators whose operands are texts to them, never dates.
_OF_TEXTS = frozenset({"~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*", "||", "->", "->>", "#>", "#>>"})


def check_rest(v: Verdict, body: Node, gone: Collection[int], *, rows: bool = False) -> None:
    """Raise Impossible where something stands in a query, but for what is ``gone``, that the engine may answer otherwise.

    ``rows``: a type may be that of the rows of a table (``rows_named``), which the engine then must have.
    """
    checked = _Check(v)
    if rows:
        checked.harmless.update(id(node) for node, _ in rows_named(v, body, gone))
    for kind, node in nodes({"SelectStmt": body}, gone):
        rule = _RULES.get(kind)
        if rule is not None:
            rule(checked, node)
        elif kind not in _PLAIN:
            raise Impossible(f"{kind} is not known in a rest")


def check_rows(v: Verdict, body: Node, gone: Collection[int], labels: Collection[str]) -> None:
    """Raise Impossible where a table's row is more than a record."""
    if typed_rows(v, body, gone, labels):
        raise Impossible("a row of its table's type")


def typed_rows(
    v: Verdict, body: Node, gone: Collection[int], labels: Collection[str], shown: Collection[int] = ()
) -> frozenset[str]:
    """Return the tables whose rows are more than records in a query: which must have the type of their table in the rest, too.

    So it is of a row that is a column of a query inside, or of a set operation. ``labels`` are the tables; ``shown`` are the ids of
    references to rows that the client is told the type of.
    """
    left, harmless = set[int](), set(shown)
    for kind, node in nodes({"SelectStmt": body}, gone):
        harmless.update(id(inner["ColumnRef"]) for inner in _of_any_row(kind, node) if "ColumnRef" in inner)
        if kind == "ColumnRef":
            left.add(id(node))
    rows = row_references(v, body, labels)
    return frozenset(label for node, label in rows if id(node) in left and id(node) not in harmless)


def row_references(v: Verdict, body: Node, labels: Collection[str]) -> Iterator[tuple[Node, str]]:
    """Yield the references to rows of tables, also as ``p.*``, but for those that stand for all columns of a query's."""
    listed = {id(only(node)[1]["val"].get("ColumnRef")) for one in bodies(body, ()) for node in one.get("targetList", ())}
    for node, level in column_nodes(v, {"SelectStmt": body}, Level()):
        names = strings(node["fields"])
        starred = names[-1] == "*"
        if starred and (id(node) in listed or len(names) != 2):
            continue
        source = known_row(level, names) if not starred else _named(level, names[0])
        if source is not None and source.relation is not None and source.alias in labels:
            yield node, source.alias


def rows_named(v: Verdict, body: Node, gone: Collection[int]) -> Iterator[tuple[Node, Relation]]:
    """Yield the TypeNames that mean the type of the rows of a table or view: ``p::patients``; PathNeeded."""
    for kind, node in nodes({"SelectStmt": body}, gone):
        relation = row_named(v, node) if kind == "TypeName" else None
        if relation is not None:
            yield node, relation


def _named(level: Level, name: str) -> Source | None:
    return next((source for seen in level.levels() for source in seen.sources if source.alias == name), None)


def _of_any_row(kind: str, node: Node) -> Sequence[Node]:
    """Return the parts of a node to which it does not matter whether a row is of its table's type, if they are rows."""
    if kind == "FuncCall" and strings(node["funcname"])[-1] in _OF_ANY_ROW:
        return node.get("args", [])  # type: ignore[no-any-return]
    if kind in ("A_Indirection", "NullTest") or (kind == "TypeCast" and _is_text(node["typeName"])):
        return [node["arg"]]
    if kind == "SelectStmt":
        sorted_by = [only(by)[1]["node"] for by in node.get("sortClause", ())]
        return [*sorted_by, *node.get("groupClause", ()), *(one for one in node.get("distinctClause", ()) if one)]
    if kind == "A_Expr" and node["kind"] in ("AEXPR_OP", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT"):
        sides = [node[side] for side in ("lexpr", "rexpr") if side in node]
        return sides if all("ColumnRef" in side for side in sides) and strings(node["name"])[-1] in _OF_ROWS else []
    return []


def _is_text(type_name: Node) -> bool:
    names = strings(type_name.get("names"))
    return names[-1:] in (["text"], ["varchar"]) and names[:-1] in ([], ["pg_catalog"]) and "arrayBounds" not in type_name


def unnoticed(v: Verdict, tree: Any) -> Iterator[Node]:
    """Yield the calls in a tree, but for those in subqueries, that may be made in vain: nobody can tell that they were made.

    ``CASE WHEN notes IS NULL THEN gen_random_uuid()::text END``; but of ``uuidv7(city::interval)`` the argument may fail, or draw.
    """
    if isinstance(tree, dict):
        if "SubLink" in tree:
            return
        name = strings(tree.get("FuncCall", {}).get("funcname", ()))[-1:]
        if name and name[0] in VOLATILE and "args" not in tree["FuncCall"] and not v.signatures.own_functions(name[0]):
            yield tree
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from unnoticed(v, value)


def functions_called(v: Verdict, body: Node) -> list[Function]:
    """Return the server's own functions of which a call may be one; none where it may be one of the database's own."""
    names = strings(body["funcname"])
    own = [f for f in v.signatures.own_functions(names[-1]) if f.extension not in v.a.context.extensions]
    if (len(names) > 1 and names[0] != "pg_catalog") or _may_be(v, own, body):
        return []
    return [f for f in v.signatures.parts[0].functions.get(names[-1], ()) if _takes_so_many(f, body)]


def _may_be(v: Verdict, own: Iterable[Function], body: Node) -> bool:
    """Tell whether a call may be one of these functions: those of one that takes other types than it is given cannot be."""
    own = list(own)
    if not own:
        return False
    arguments = body.get("args", [])
    if body.get("func_variadic") or body.get("agg_within_group") or any("NamedArgExpr" in node for node in arguments):
        return True
    types = [_type(v, node) for node in arguments]
    bases = tuple(map(v.signatures.base, types))
    exact = _is_first(v) and any(f.arguments == bases for f in v.signatures.parts[0].functions.get(_name(body), ()))
    return not exact and any(v.signatures.is_called(f, types) for f in own)


def _is_first(v: Verdict) -> bool:
    """Tell whether what PostgreSQL comes with is what a name means first."""
    schemas = [schema for schema in v.a.context.path or () if not schema.startswith("pg_temp")]
    return schemas[:1] == ["pg_catalog"]


def _name(body: Node) -> str:
    return strings(body["funcname"])[-1]


def _type(v: Verdict, node: Node) -> Type:
    return v.types.get(id(only(node)[1]))


def _takes_so_many(function: Function, body: Node) -> bool:
    count = len(body.get("args", ())) + (0 if body.get("agg_within_group") is None else len(body.get("agg_order", ())))
    wanted = len(function.arguments)
    return wanted - function.defaults <= count <= wanted or (function.variadic != 0 and count >= wanted - 1)


@dataclass(slots=True)
class _Check:
    """The check of one query. ``harmless`` are the ids of nodes that the one around them has answered for."""

    v: Verdict
    harmless: set[int] = field(default_factory=set)

    def constant(self, body: Node) -> None:
        said = body.get("sval", {})
        if isinstance(said, dict) and means_clock(said.get("sval", "")) and id(body) not in self.harmless:
            raise Impossible("a constant may mean a moment of the clock")

    def operator(self, body: Node) -> None:
        names = strings(body.get("name"))
        sides = [body[key] for key in ("lexpr", "rexpr") if key in body]
        if body["kind"] in ("AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR") or names[-1:] == ["||"] or names[-1] in _OF_TEXTS:
            self.harmless.update(id(side["A_Const"]) for side in sides if "A_Const" in side)
        elif any(self.v.signatures.base(_type(self.v, side)) in TEXT_OIDS for side in sides):
            listed = [item for side in sides for item in (children(side) if "List" in side else [side])]
            self.harmless.update(id(item["A_Const"]) for item in listed if "A_Const" in item)
        if len(names) > 1 and names[0] != "pg_catalog":
            raise Impossible("an operator of the database's own")
        self._named(names[-1] if "BETWEEN" not in body["kind"] else "<=", [body.get("lexpr"), body.get("rexpr")])

    def _named(self, name: str, sides: list[Node | None]) -> None:
        """Refuse an operator that may be one of the database's own: one that takes other types cannot be."""
        own = [o for o in self.v.signatures.own_operators(name) if o.extension not in self.v.a.context.extensions]
        if not own:
            return
        left, right = (0 if side is None else self._operand(side) for side in sides)
        if self._is_exact(name, left, right):
            return
        if any(self._takes(o, left, right) for o in own):
            raise Impossible("an operator of the database's own")

    def _operand(self, node: Node) -> Type:
        kind, _ = only(node)
        return None if kind in ("List", "RowExpr", "SubLink") else _type(self.v, node)

    def _is_exact(self, name: str, left: Type, right: Type) -> bool:
        wanted = self.v.signatures.base(left), self.v.signatures.base(right)
        return _is_first(self.v) and any((o.left, o.right) == wanted for o in self.v.signatures.parts[0].operators.get(name, ()))

    def _takes(self, operator: Operator, left: Type, right: Type) -> bool:
        if (left == 0) != (operator.left == 0):
            return False
        takes = self.v.signatures.takes
        return (left == 0 or takes(operator.left, left)) and takes(operator.right, right)

    def call(self, body: Node) -> None:
        name, arguments = _name(body), body.get("args", [])
        if self._is_field(name, body):
            return
        of_extension = [f for f in self.v.signatures.own_functions(name) if f.extension and _takes_so_many(f, body)]
        functions = functions_called(self.v, body)
        if name == "unnest" and len(arguments) > 1 and not self.v.signatures.own_functions(name):
            return  # of several arrays, in FROM
        listed = [f for f in of_extension if f.extension in self.v.a.context.extensions]
        settled = all(is_settled(name, f) for f in functions) and all(f.volatile != "v" and f.kind in "faw" for f in listed)
        if not (functions or (listed and not self._is_of_nobody(name, body))) or not settled:
            raise Impossible(f"{name} may answer otherwise in the engine")
        if name in TEXT_SEARCH and arguments:
            self._configuration(arguments[0], functions)

    def _is_field(self, name: str, body: Node) -> bool:
        """Tell whether a call can only be a field of a row: no function has its name, so PostgreSQL looks for a column.

        SELECT upper(ssn(p)) FROM patients p
        """
        arguments = body.get("args", [])
        plain = len(body["funcname"]) == 1 and len(arguments) == 1 and "ColumnRef" in arguments[0]
        return plain and not self.v.signatures.functions(name) and not self.v.signatures.is_type(name)

    def _is_of_nobody(self, name: str, body: Node) -> bool:
        """Tell whether a call of an extension's function may be one of somebody else's."""
        own = [f for f in self.v.signatures.own_functions(name) if f.extension not in self.v.a.context.extensions]
        return _may_be(self.v, own, body)

    def _configuration(self, argument: Node, functions: Collection[Function]) -> None:
        """Refuse what may be a text search configuration of the database's own: of the server's own there are the same."""
        kind, body = only(argument)
        names = strings(body["typeName"].get("names")) if kind == "TypeCast" else []
        if names[-1:] == ["regconfig"] and _constant(body["arg"]) in CONFIGURATIONS:
            self.harmless.add(id(body["typeName"]))
        elif any(f.arguments and is_catalog_type(f.arguments[0]) for f in functions) and _constant(argument) not in CONFIGURATIONS:
            base = self.v.signatures.base(_type(self.v, argument))
            if base not in TEXT_OIDS:
                raise Impossible("a text search configuration of the database's own")

    def collation(self, body: Node) -> None:
        names = strings(body["collname"])
        if names[-1] not in _COLLATIONS or (len(names) > 1 and names[0] != "pg_catalog"):
            raise Impossible("a collation of which it is not known whether the engine has the same")

    def type_name(self, body: Node) -> None:
        names = strings(body.get("names"))
        if id(body) in self.harmless:
            return
        if body.get("pct_type") or not names:
            raise Impossible("the type of something else")
        own = [row for part in self.v.signatures.parts[1:] for row in part.types.values() if row.name == names[-1]]
        built_in = [row for row in self.v.signatures.parts[0].types.values() if row.name == names[-1]]
        if any(is_catalog_type(row.oid) for row in built_in):
            raise Impossible("a type of the catalogue")
        if not own and built_in and (len(names) == 1 or names[0] == "pg_catalog"):
            return
        # An enum can be made anywhere; of other types the engine has those of its extensions.
        if built_in or not own or not all(r.kind == "e" or r.extension in self.v.a.context.extensions for r in own):
            raise Impossible("a type of the database's own")


def _constant(node: Node) -> str | None:
    said = node.get("A_Const", {}).get("sval")
    return said.get("sval", "") if isinstance(said, dict) else None


_RULES: dict[str, Callable[[_Check, Node], None]] = {
    "A_Const": _Check.constant,
    "A_Expr": _Check.operator,
    "CollateClause": _Check.collation,
    "FuncCall": _Check.call,
    "TypeName": _Check.type_name,
}
