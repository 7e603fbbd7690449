"""CHECK constraints over protected columns: the parts that AND joins, each for the server or, sealed, for the proxy.

What asks only whether a protected column is NULL the server answers itself, as it does what names none. A part over one protected
column, built from the closed table below, is sealed into the constraint (policy.guards). Everything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.conditions import PatternRefused, compiled, written
from phiproxy.policy.guards import MAX_SLOTS, condition_of
from phiproxy.policy.names import quote_ident
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.brackets import OPEN, Brackets
from phiproxy.sql.ddl.constants import READ, canonical
from phiproxy.sql.ddl.definition import Definition, Span
from phiproxy.sql.ddl.indexed import indexed_term
from phiproxy.sql.ddl.keys import Columns
from phiproxy.sql.parse import Node, location, messages, only, parse, strings
from phiproxy.sql.sinks import cast_type, text_cast
from phiproxy.types.casts import EXACT_NUMBERS
from phiproxy.types.names import sql_name

_HINT = (
    "Built from comparisons with constants, length(), ~ and LIKE with a constant pattern, IN, IS NULL, lower, upper, btrim, AND, OR"
    " and NOT, it can be: of one protected column, and no other, in each part that AND joins at the top."
)
_SEALED = "\\xf5500101"
_LENGTHS = {"length": "length", "char_length": "length", "character_length": "length", "octet_length": "octet_length"}
_TEXTS = {"lower": 1, "upper": 1, "btrim": 2, "ltrim": 2, "rtrim": 2}
_VALUES: dict[str, tuple[list[Any], str]] = {
    **dict.fromkeys(("text", "varchar"), (["value"], "text")),
    **dict.fromkeys(("int2", "int4", "int8", "numeric"), (["number", ["value"]], "number")),
    "date": (["day", ["value"]], "date"),
    **{family: (["moment", ["value"]], family) for family in ("time", "timestamp", "timestamptz")},
    **{family: (["value"], family) for family in ("bpchar", "bytea", "uuid")},
    "bool": (["truth", ["value"]], "bool"),
    "float4": (["single", ["value"]], "float"),
    "float8": (["double", ["value"]], "float"),
}
# What the functions of a condition make of a constant in canonical form.
_FROM_CONSTANT = {"bool": "truth", "date": "day", "time": "moment", "timestamp": "moment", "timestamptz": "moment"}
_ORDER = frozenset({"<", "<=", ">", ">="})
_PATTERNS = frozenset({"~", "!~", "~*", "!~*"})

# A term of a condition and what it is: text, number, float, a type of ``constants.READ``, or a constant of no type yet.
Typed = tuple[list[Any], str]


def _is_sealed(part: Node) -> bool:
    """Tell whether a part is already in physical form (pg_dump's): it holds a sealed condition."""
    return any(str(m["sval"].get("sval", "")).startswith(_SEALED) for m in messages(part) if isinstance(m.get("sval"), dict))


def seal_check(definition: Definition, constraint: Node, columns: Columns) -> list[ProtectedColumn]:
    """Bring a CHECK constraint into physical form, where it stands; return the columns of the parts that are sealed."""
    parts = _parts(constraint["raw_expr"])
    places = _places(definition, constraint)
    sealed = []
    for i, part in enumerate(parts):
        named = _named(part, columns)
        if not named or _is_sealed(part):
            continue
        column = _only_column(definition.a, constraint, part, named, columns)
        sealed.append(column)
        if len(places) != len(parts):
            raise _refusal(definition.a, constraint, part, "the parts of this constraint could not be located in its text")
        _seal(definition, part, column, constraint, places[i])
    if sealed and constraint.get("is_no_inherit"):
        raise definition.a.refuse("a constraint over a protected column is inherited", constraint, hint="Leave out NO INHERIT.")
    return sealed


def _parts(node: Node) -> list[Node]:
    """Return what AND joins at the top: the nodes themselves, to be edited."""
    kind, body = only(node)
    if kind == "BoolExpr" and body["boolop"] == "AND_EXPR":
        return [part for argument in body["args"] for part in _parts(argument)]
    return [node]


def _named(part: Node, columns: Columns) -> set[str]:
    """Return the protected columns that the server would have to see the values of; ``*`` among them where all are."""
    asked = {id(m["NullTest"]["arg"]["ColumnRef"]) for m in messages(part) if "ColumnRef" in m.get("NullTest", {}).get("arg", {})}
    fields = [strings(m["fields"])[-1] for m in messages(part) if "fields" in m and id(m) not in asked]
    return {name for name in fields if name in columns or name == "*"}


def _only_column(a: Analysis, constraint: Node, part: Node, named: set[str], columns: Columns) -> ProtectedColumn:
    """Return the one column that a part is over."""
    everything = {strings(m["fields"])[-1] for m in messages(part) if "fields" in m}
    if len(everything) != 1 or "*" in named:
        raise _refusal(a, constraint, part, "a part of this constraint joins a protected column with others")
    column = columns[named.pop()]
    if column.type.underlying.family not in _VALUES:
        raise _refusal(
            a, constraint, part, f"a constraint over {column.label}, which is {column.type.name}, is not in this version"
        )
    if column.tenant:
        raise _refusal(a, constraint, part, f"a constraint over {column.label} would be sealed for one tenant only")
    if any(slot.number == MAX_SLOTS - 1 for slot in column.slots):
        raise _refusal(a, constraint, part, f"{column.label} has {MAX_SLOTS} indexes, and no place is left to mark what fails")
    return column


def _refusal(a: Analysis, constraint: Node, part: Node, why: str) -> StatementRefused:
    return a.refuse(why, part if any(m.get("location", -1) > 0 for m in messages(part)) else constraint, hint=_HINT)


def _seal(definition: Definition, part: Node, column: ProtectedColumn, constraint: Node, place: Span) -> None:
    a = definition.a
    tree, kind = _Reader(a, constraint, column).read(part)
    if kind != "bool":
        raise _refusal(a, constraint, part, f"this constraint over {column.label} is no condition")
    missing = f"{quote_ident(column.name)} IS NOT NULL AND " if compiled(tree)(None) is False else ""
    lead, trail = condition_of(column.name, missing)
    definition.define(place, written(tree), column, (lead, trail))
    texts = (m["sval"].get("sval", "") for m in messages(part) if isinstance(m.get("sval"), dict))
    definition.sealed += [text.encode() for text in texts]
    (made,) = parse(rf"SELECT {lead}'\x00'::bytea{trail}".encode())
    part.clear()
    part.update(made.body["targetList"][0]["ResTarget"]["val"])


def value_condition(a: Analysis, node: Node, column: ProtectedColumn) -> list[Any]:
    """Return the condition that an expression is in which every reference is to one value, a column's or a domain's."""
    if column.type.underlying.family not in _VALUES:
        raise _refusal(a, {}, node, f"conditions over {sql_name(column.type)} are not in this version")
    tree, kind = _Reader(a, {}, column).read(node)
    if kind != "bool":
        raise _refusal(a, {}, node, "it is no condition")
    return tree


def check_span(definition: Definition, constraint: Node) -> Span:
    """Return where a CHECK constraint stands, from its name on, to the bracket that closes it."""
    first, _, close = _check(Brackets(definition.tokens), constraint)
    return definition.tokens[first].start, definition.tokens[close].end


def _check(brackets: Brackets, constraint: Node) -> tuple[int, int, int]:
    first = brackets.at(location(constraint))
    opening = brackets.next(first, "CHECK") + 1
    return first, opening, brackets.partner(opening)


def _places(definition: Definition, constraint: Node) -> list[Span]:
    """Return where the parts of a CHECK constraint stand, if they are as many as the tree has."""
    brackets = Brackets(definition.tokens)
    _, opening, close = _check(brackets, constraint)
    found = _split(brackets, opening + 1, close - 1)
    if len(_parts(constraint["raw_expr"])) == 1:
        found = [(opening + 1, close - 1)]
    return [(brackets.tokens[i].start, brackets.tokens[j].end) for i, j in found]


def _split(brackets: Brackets, i: int, j: int) -> list[tuple[int, int]]:
    """Return the token ranges that AND joins in a range, at any depth of brackets, but not below OR."""
    while brackets.name(i) == OPEN and brackets.partner(i) == j:
        i, j = i + 1, j - 1
    parts, start, k, betweens, cases = [], i, i, 0, 0
    while k <= j:
        name = brackets.name(k)
        if name == "OR" and not cases:
            return [(i, j)]
        cases += (name == "CASE") - (name == "END_P")
        betweens += name == "BETWEEN"
        if name == "AND" and not cases:
            if not betweens:
                parts.append((start, k - 1))
                start = k + 1
            betweens -= bool(betweens)
        k = brackets.partner(k) + 1 if name in (OPEN, "ASCII_91") else k + 1
    parts.append((start, j))
    return parts if len(parts) == 1 else [place for part in parts for place in _split(brackets, *part)]


class _Reader:
    """One part of a constraint, read into a condition over ``column``."""

    def __init__(self, a: Analysis, constraint: Node, column: ProtectedColumn) -> None:
        self._a = a
        self._constraint = constraint
        self._column = column

    def read(self, node: Node) -> Typed:
        """Return the condition or term that a node is."""
        kind, body = only(node)
        rule = _RULES.get(kind)
        if rule is None:
            raise self._unknown(node)
        return rule(self, node, body)

    def _unknown(self, node: Node) -> StatementRefused:
        return _refusal(self._a, self._constraint, node, f"a part of this constraint over {self._column.label} is not understood")

    def _as(self, wanted: str, node: Node) -> list[Any]:
        tree, kind = self.read(node)
        if kind == "bpchar" and wanted == "text":
            return ["rtrim", tree]  # as its cast to text does
        if kind not in (wanted, "null") and not (kind == "unknown" and wanted == "text"):
            raise self._unknown(node)
        return tree

    def _column_ref(self, _node: Node, _body: Node) -> Typed:
        return _VALUES[self._column.type.underlying.family]

    def _constant(self, node: Node, body: Node) -> Typed:
        if body.get("isnull"):
            return ["constant", None], "null"
        if "ival" in body:
            return ["constant", body["ival"].get("ival", 0)], "number"
        if "fval" in body:
            return ["number", ["constant", body["fval"]["fval"]]], "number"
        if "boolval" in body:
            return ["constant", bool(body["boolval"].get("boolval", False))], "bool"
        if "sval" in body:
            return ["constant", body["sval"].get("sval", "")], "unknown"
        raise self._unknown(node)

    def _cast(self, node: Node, body: Node) -> Typed:
        names = strings(body["typeName"].get("names"))
        plain = set(body["typeName"]) <= {"names", "typemod", "location"}
        if plain and names[-1] in READ and names[:-1] in ([], ["pg_catalog"]):
            return self._of(names[-1], node, self.read(body["arg"])), names[-1]
        if plain and names in (["float8"], ["pg_catalog", "float8"]):
            return self._double(node, self.read(body["arg"])), "float"
        if text_cast(body) is None:
            return self._number_cast(node, body)
        return self._as("text", body["arg"]), "text"

    def _number_cast(self, node: Node, body: Node) -> Typed:
        """Return what a cast leaves as it is: an integer beside a column of another size, a domain as what it is over."""
        declared, (kind, inner) = cast_type(body), only(body["arg"])
        number = declared is not None and declared.typmod == -1 and declared.family in EXACT_NUMBERS and "ival" in inner
        same = declared is not None and kind == "ColumnRef" and declared.unlimited == self._column.type.underlying.unlimited
        if not (number or same):
            raise self._unknown(node)
        return self.read(body["arg"])

    def _call(self, node: Node, body: Node) -> Typed:
        *schema, name = strings(body["funcname"])
        arguments = body.get("args", ())
        plain = set(body) <= {"funcname", "args", "funcformat", "location"} and schema in ([], ["pg_catalog"])
        if not plain or (name in self._a.context.catalog.replaced and not schema):
            raise self._unknown(node)
        if name in ("length", "octet_length") and len(arguments) == 1 and self.read(arguments[0])[1] == "bytea":
            return ["octets", self.read(arguments[0])[0]], "number"
        if name == "octet_length" and len(arguments) == 1 and self.read(arguments[0])[1] == "bpchar":
            return [name, self.read(arguments[0])[0]], "number"
        if name in _LENGTHS and len(arguments) == 1:
            return [_LENGTHS[name], self._as("text", arguments[0])], "number"
        if name in _TEXTS and 1 <= len(arguments) <= _TEXTS[name]:
            return [name, *(self._as("text", argument) for argument in arguments)], "text"
        found = indexed_term(self._a, node, self._column)
        if found is None:
            raise self._unknown(node)
        return found

    def _bool(self, _node: Node, body: Node) -> Typed:
        name = {"AND_EXPR": "and", "OR_EXPR": "or", "NOT_EXPR": "not"}[body["boolop"]]
        return [name, *(self._as("bool", argument) for argument in body["args"])], "bool"

    def _truth_test(self, _node: Node, body: Node) -> Typed:
        tree, kind = self._as("bool", body["arg"]), body["booltesttype"]
        if kind.endswith("UNKNOWN"):
            return self._tested(["null", tree], holds=kind == "IS_UNKNOWN")
        return self._tested(["distinct", tree, ["constant", kind.endswith("TRUE")]], holds=kind.startswith("IS_NOT"))

    @staticmethod
    def _tested(tree: list[Any], *, holds: bool) -> Typed:
        return tree if holds else ["not", tree], "bool"

    def _null_test(self, node: Node, body: Node) -> Typed:
        tree, _ = self.read(body["arg"])
        return self._tested(["null", tree], holds=body["nulltesttype"] == "IS_NULL")

    def _operator(self, node: Node, body: Node) -> Typed:
        kind, *schema = body["kind"], *strings(body.get("name"))[:-1]
        name = strings(body["name"])[-1]
        if name in self._a.context.catalog.replaced or schema not in ([], ["pg_catalog"]) or "lexpr" not in body:
            raise self._unknown(node)
        left, right = body["lexpr"], body["rexpr"]
        if kind == "AEXPR_OP" and name in _PATTERNS:
            return self._pattern(node, [name, self._matched(left), self._text_constant(right)])
        if kind == "AEXPR_LIKE" or (kind == "AEXPR_OP" and name in ("~~", "!~~")):
            return self._pattern(node, [name, self._matched(left), *self._like(right)])
        if kind == "AEXPR_OP":
            return self._comparison(node, name, self.read(left), self.read(right)), "bool"
        if kind in ("AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT"):
            tree = ["distinct", *self._comparison(node, "=", self.read(left), self.read(right))[1:]]
            return tree if kind == "AEXPR_DISTINCT" else ["not", tree], "bool"
        if kind in ("AEXPR_IN", "AEXPR_OP_ANY") and name in ("=", "<>") and (kind == "AEXPR_IN" or name == "="):
            found = ["or", *(self._comparison(node, "=", self.read(left), self.read(item)) for item in self._items(right))]
            return found if name == "=" else ["not", found], "bool"
        if kind in ("AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"):
            low, high = right["List"]["items"]
            bounds = [self._comparison(node, op, self.read(left), self.read(end)) for op, end in ((">=", low), ("<=", high))]
            return ["and", *bounds] if kind == "AEXPR_BETWEEN" else ["not", ["and", *bounds]], "bool"
        raise self._unknown(node)

    def _comparison(self, node: Node, name: str, left: Typed, right: Typed) -> list[Any]:
        kinds = {left[1], right[1]} - {"null"}
        kind = min(kinds - {"unknown"}, default="text")
        equal, ordered = name in ("=", "<>"), name in {"=", "<>", *_ORDER}
        if kinds <= {kind, "unknown"} and kind in READ and ordered:
            return [name, self._of(kind, node, left), self._of(kind, node, right)]
        if kinds <= {"float", "number"} and "float" in kinds and ordered:
            return [name, self._double(node, left), self._double(node, right)]
        if kinds <= {"bpchar", "text", "unknown"} and "bpchar" in kinds and equal:
            return [name, self._blank(left, beside=kinds), self._blank(right, beside=kinds)]
        texts = kinds <= {"text", "unknown"} and equal
        numbers = kinds == {"number"} and ordered
        if not (texts or numbers):
            raise self._unknown(node)
        return [name, left[0], right[0]]

    def _of(self, kind: str, node: Node, found: Typed) -> list[Any]:
        """Return a term of a kind: one that is, or a constant that is so however it is read."""
        tree, own = found
        if own in (kind, "null"):
            return tree
        try:
            constant = canonical(kind, tree[1] if own == "unknown" else "")
        except (ValueError, ValueRefused):
            raise self._unknown(node) from None
        return [_FROM_CONSTANT[kind], ["constant", constant]] if kind in _FROM_CONSTANT else ["constant", constant]

    def _double(self, node: Node, found: Typed) -> list[Any]:
        """Return a float8: a number beside one is a constant, which the server makes one."""
        tree, kind = found
        if kind in ("float", "null"):
            return tree
        constant = tree[1] if tree[0] == "number" and kind == "number" else tree
        if constant[0] != "constant" or not math.isfinite(float(constant[1])):
            raise self._unknown(node)
        return ["double", ["constant", str(constant[1])]]

    @staticmethod
    def _blank(found: Typed, *, beside: set[str]) -> list[Any]:
        """Return a side of a comparison of char(n): the blanks at its end do not count, those of a text do."""
        tree, kind = found
        if kind == "unknown" and "text" not in beside:
            return ["constant", tree[1].rstrip(" ")]
        return ["rtrim", tree] if kind == "bpchar" else tree

    def _matched(self, node: Node) -> list[Any]:
        """Return what a pattern is matched with: of a char(n) all of its blanks."""
        tree, kind = self.read(node)
        return tree if kind == "bpchar" else self._as("text", node)

    def _pattern(self, node: Node, tree: list[Any]) -> Typed:
        try:
            compiled(tree)
        except PatternRefused as refused:
            raise self._a.refuse(
                f"the pattern of this constraint over {self._column.label} has {refused}, which is not understood here",
                node if any(m.get("location", -1) > 0 for m in messages(node)) else self._constraint,
                hint="Write it with characters, [classes], groups, | and quantifiers, anchored by ^ and $.",
            ) from None
        return tree, "bool"

    def _items(self, node: Node) -> list[Node]:
        kind, body = only(node)
        while kind == "TypeCast" and text_cast(body, array=True) is not None:
            kind, body = only(body["arg"])
        if kind not in ("List", "A_ArrayExpr"):
            raise self._unknown(node)
        items: list[Node] = body.get("items" if kind == "List" else "elements", [])
        return items

    def _text_constant(self, node: Node) -> str:
        tree = self._as("text", node)
        if tree[0] != "constant" or not isinstance(tree[1], str):
            raise self._unknown(node)
        return tree[1]

    def _like(self, node: Node) -> list[str]:
        kind, body = only(node)
        if kind == "FuncCall" and strings(body["funcname"]) == ["pg_catalog", "like_escape"]:
            return [self._text_constant(argument) for argument in body["args"]]
        return [self._text_constant(node)]


_RULES: dict[str, Callable[[_Reader, Node, Node], Typed]] = {
    "ColumnRef": _Reader._column_ref,  # noqa: SLF001 - the table of this class
    "A_Const": _Reader._constant,  # noqa: SLF001
    "TypeCast": _Reader._cast,  # noqa: SLF001
    "FuncCall": _Reader._call,  # noqa: SLF001
    "BoolExpr": _Reader._bool,  # noqa: SLF001
    "BooleanTest": _Reader._truth_test,  # noqa: SLF001
    "NullTest": _Reader._null_test,  # noqa: SLF001
    "A_Expr": _Reader._operator,  # noqa: SLF001
}
