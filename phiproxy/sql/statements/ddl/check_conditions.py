"""Conditions over one value, of a CHECK constraint or a domain, as the proxy evaluates them: a closed table.

A constant that is written as text is kept in the canonical form of the type that it is compared as. Only spellings are accepted
that mean the same under all settings, since the proxy reads the constant once and for all.

ALTER TABLE people ADD CHECK (born > '1900-01-01') NOT VALID
→ ALTER TABLE public.people ADD CHECK ((position(tag(sealed('{"condition": [">", ["day", ["value"]], ["day", ["constant",
  "1900-01-01"]]], "version": 1}')) IN pg_catalog.substring(born, 13, 4080)) = 0)) NOT VALID

ALTER TABLE people ADD CHECK (born > '1.1.1900') NOT VALID
→ refused 0A000
"""

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from phiproxy.errors import ConfigError, StatementRefused, ValueRefused
from phiproxy.index.function_table import row
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Call, Cast, Column, Expression, write
from phiproxy.index.transform import short_type, transform
from phiproxy.policy.check_evaluation import PatternRefused, compiled
from phiproxy.policy.column_types import builtin
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.text.parse import Node, messages, only, strings
from phiproxy.sql.values.index_spelling import read_tree
from phiproxy.sql.values.operands import cast_type, text_cast
from phiproxy.types.casts import EXACT_NUMBERS
from phiproxy.types.codecs import codec
from phiproxy.types.names import sql_name
from phiproxy.types.styles import Styles

_HINT = (
    "Built from comparisons with constants, length(), ~ and LIKE with a constant pattern, IN, IS NULL, lower, upper, btrim, AND, OR"
    " and NOT, it can be: of one protected column, and no other, in each part that AND joins at the top."
)
_LENGTHS = {"length": "length", "char_length": "length", "character_length": "length", "octet_length": "octet_length"}
_TEXTS = {"lower": 1, "upper": 1, "btrim": 2, "ltrim": 2, "rtrim": 2}
# What the types of a column's values are in a condition.
VALUES: dict[str, tuple[list[Any], str]] = {
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
# As written, and as the server prints them.
_LISTS = frozenset({("AEXPR_IN", "="), ("AEXPR_IN", "<>"), ("AEXPR_OP_ANY", "="), ("AEXPR_OP_ALL", "<>")})

# A term of a condition and what it is: text, number, float, a type of ``constants.READ``, or a constant of no type yet.
Typed = tuple[list[Any], str]
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
_SPELLINGS = {
    "bool": re.compile("(?i:t|true|f|false)"),
    "bytea": re.compile(r"\\x(?:[0-9a-fA-F]{2})*"),
    "date": re.compile(_DATE),
    "time": re.compile(_TIME),
    "timestamp": re.compile(f"{_DATE}(?:[ T]{_TIME})?"),
    "timestamptz": re.compile(f"{_DATE}[ T]{_TIME}[+-][0-9]{{2}}(?::[0-9]{{2}})?"),
    "uuid": re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
}
READ = frozenset(_SPELLINGS)
"""The kinds of terms that a constant without a type may be compared with, each named like its type."""


def canonical(kind: str, text: str) -> str:
    """Return a constant in the canonical form of its type; ValueError for another spelling, or one out of range."""
    if not _SPELLINGS[kind].fullmatch(text):
        raise ValueError("not spelled as a constant of this type is here")
    return codec(builtin(kind)).from_text(text.encode(), Styles.CANONICAL).decode()


def refusal(a: Analysis, constraint: Node, part: Node, why: str) -> StatementRefused:
    """Return the refusal of a part of a constraint."""
    return a.refuse(why, part if any(m.get("location", -1) > 0 for m in messages(part)) else constraint, hint=_HINT)


def value_condition(a: Analysis, node: Node, column: ProtectedColumn) -> list[Any]:
    """Return the condition of an expression in which every reference is to one value, a column's or a domain's."""
    if column.type.underlying.family not in VALUES:
        raise refusal(a, {}, node, f"conditions over {sql_name(column.type)} are not in this version")
    tree, kind = read(a, {}, node, column)
    if kind != "bool":
        raise refusal(a, {}, node, "it is no condition")
    return tree


def read(a: Analysis, constraint: Node, part: Node, column: ProtectedColumn) -> Typed:
    """Return a part of a constraint over a column as a condition or term, with its kind; StatementRefused outside of the table."""
    return _Reader(a, constraint, column).read(part)


class _Reader:
    """The reading of one part of a constraint as a condition over ``column``."""

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
        return refusal(self._a, self._constraint, node, f"a part of this constraint over {self._column.label} is not understood")

    def _as(self, wanted: str, node: Node) -> list[Any]:
        tree, kind = self.read(node)
        if kind == "bpchar" and wanted == "text":
            return ["rtrim", tree]  # as its cast to text does
        if kind not in (wanted, "null") and not (kind == "unknown" and wanted == "text"):
            raise self._unknown(node)
        return tree

    def _column_ref(self, _node: Node, _body: Node) -> Typed:
        return VALUES[self._column.type.underlying.family]

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
        """Return the argument of a cast that changes nothing: of an integer to another size, or of a domain to its base type."""
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
        indexed = indexed_term(self._a, node, self._column)
        if indexed is None:
            raise self._unknown(node)
        return indexed

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
        if (kind, name) in _LISTS:
            comparisons = ["or", *(self._comparison(node, "=", self.read(left), self.read(item)) for item in self._items(right))]
            return comparisons if name == "=" else ["not", comparisons], "bool"
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

    def _of(self, kind: str, node: Node, term: Typed) -> list[Any]:
        """Return a term as one of a kind; a constant is read as that kind."""
        tree, own = term
        if own in (kind, "null"):
            return tree
        try:
            constant = canonical(kind, tree[1] if own == "unknown" else "")
        except (ValueError, ValueRefused):
            raise self._unknown(node) from None
        return [_FROM_CONSTANT[kind], ["constant", constant]] if kind in _FROM_CONSTANT else ["constant", constant]

    def _double(self, node: Node, term: Typed) -> list[Any]:
        """Return a term as a float8; beside one, a number must be a constant."""
        tree, kind = term
        if kind in ("float", "null"):
            return tree
        constant = tree[1] if tree[0] == "number" and kind == "number" else tree
        if constant[0] != "constant" or not math.isfinite(float(constant[1])):
            raise self._unknown(node)
        return ["double", ["constant", str(constant[1])]]

    @staticmethod
    def _blank(term: Typed, *, beside: set[str]) -> list[Any]:
        """Return an operand of a comparison of char(n), without the blanks at its end."""
        tree, kind = term
        if kind == "unknown" and "text" not in beside:
            return ["constant", tree[1].rstrip(" ")]
        return ["rtrim", tree] if kind == "bpchar" else tree

    def _matched(self, node: Node) -> list[Any]:
        """Return the subject of a pattern; the blanks of a char(n) count."""
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


# What is made of a result's canonical form to be compared, and what it is called in a condition.
_RESULTS = {
    "text": (None, "text"),
    "numeric": ("number", "number"),
    "float8": ("double", "float"),
    "timestamp": ("moment", "timestamp"),
}


def indexed_term(a: Analysis, node: Node, column: ProtectedColumn) -> tuple[list[Any], str] | None:
    """Return a call of functions of blind indexes over the value as a term of a condition, with its kind; None for any other call.

    They are computed as an index computes them. Functions that depend on case or digits beyond ASCII are not accepted, since the
    server's locale decides there.

    ALTER TABLE people ADD CHECK (left(code, 2) = 'AB') NOT VALID
    → ALTER TABLE public.people ADD CHECK ((position(pg_catalog.substring(sealed('{"condition": ["=", ["index", "left(@,2)",
      "varchar(12)", ["value"]], ["constant", "AB"]], "version": 1}'), 13, 16) IN pg_catalog.substring(code, 13, 4080)) = 0)) NOT
      VALID
    """
    expression = read_tree(node, lambda part: Column() if "ColumnRef" in part else None, partial(own_name, a))
    if expression is None or not all(each is not None and each.in_checks for each in map(row, _names(expression))):
        return None
    over = column.type.indexed_as
    try:
        spelled = write(normal(expression, over))
        result = _RESULTS.get(short_type(transform(spelled, over).result))
    except ConfigError:
        return None
    if result is None:
        return None
    kind, name = result
    tree: list[Any] = ["index", spelled, over, ["value"]]
    return (tree if kind is None else [kind, tree]), name


def _names(expression: Expression) -> Iterator[str]:
    match expression:
        case Call(name=name, arguments=arguments):
            yield name
            for argument in arguments:
                yield from _names(argument)
        case Cast(argument=argument):
            yield from _names(argument)
