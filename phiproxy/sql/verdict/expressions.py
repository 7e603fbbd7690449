"""Expressions: the type of each, and what PostgreSQL would refuse of it (parse_expr.c)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from phiproxy.errors import DatatypeMismatch, UndefinedObject, WrongObjectType
from phiproxy.policy.signatures import BOOL, RECORD, TEXT, UNKNOWN, Type
from phiproxy.sql.operands import CannotCoerce
from phiproxy.sql.parse import Node, children, location, only, strings
from phiproxy.sql.sinks import Parameter
from phiproxy.sql.verdict.state import EXPRESSIONS, Level, Outputs, Verdict, first, resolve

_CAST = "Cast them to one type."
_BIT = 1560


def type_of(v: Verdict, node: Node, level: Level) -> Type:
    """Return the type of an expression, None where it is not known; raises what PostgreSQL would say of it."""
    kind, body = only(node)
    rule = EXPRESSIONS.get(kind)
    if rule is not None:
        return rule(v, node, body, level)
    if kind in QUERIES:
        query(v, node, level)
        return None
    for child in children(body):
        type_of(v, child, level)
    return None


# Filled by ``queries``: what analyses a statement that is a query.
QUERIES: dict[str, Callable[[Verdict, Node, Level | None], Outputs]] = {}


def query(v: Verdict, node: Node, outer: Level | None) -> Outputs:
    """Return the outputs of a query inside of another; literals without a type are texts there."""
    outputs = QUERIES[only(node)[0]](v, only(node)[1], outer)
    if outputs is None:
        return None
    return [type(o)(o.name, TEXT if o.type == UNKNOWN else o.type, o.node) for o in outputs]


_BARRED = {"WHERE": "WHERE", "FILTER": "FILTER", "JOIN/ON": "JOIN conditions"}


def condition(v: Verdict, node: Node, level: Level, what: str) -> None:
    """Check what must be true or false; ``what`` names the place in PostgreSQL's words."""
    found = type_of(v, node, replace(level, barred=_BARRED.get(what, level.barred)))
    if not v.signatures.takes(BOOL, found, "a"):
        why = f"argument of {what} must be type boolean, not type {v.shown(found)}"
        raise v.error(DatatypeMismatch, why, first(node), "Compare it with something.")


def common(v: Verdict, what: str, nodes: Sequence[Node], types: Sequence[Type]) -> Type:
    """Return the type that these have in common; DatatypeMismatch in PostgreSQL's words where there is none."""
    found, odd = v.signatures.common(types)
    if odd is None:
        other = next((place for place, one in enumerate(types) if not v.signatures.takes(found, one)), None)
        if other is None:
            return found
        why = f"{what} could not convert type {v.shown(types[other])} to {v.shown(found)}"
        raise v.error(CannotCoerce, why, first(nodes[other]), _CAST)
    why = f"{what} types {v.shown(found)} and {v.shown(types[odd])} cannot be matched"
    raise v.error(DatatypeMismatch, why, first(nodes[odd]), _CAST)


def _column_ref(_v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    names = strings(body["fields"])
    found = resolve(level, names) if "*" not in names and "" not in names else None
    return found[2].type if found is not None else None


def _constant(_v: Verdict, _node: Node, body: Node, _level: Level) -> Type:
    if body.get("isnull") or "sval" in body:
        return UNKNOWN
    if "boolval" in body:
        return BOOL
    if "ival" in body or "bsval" in body:
        return 23 if "ival" in body else _BIT
    digits = body.get("fval", {}).get("fval", "")
    if not digits.lstrip("-").isdigit():
        return 1700 if digits else None
    # The smallest integer is a number too large, and its sign; it is an integer all the same (make_const).
    fits = (oid for oid, bits in ((23, 31), (20, 63)) if -(1 << bits) <= int(digits) < 1 << bits)
    return next(fits, 1700)


def _parameter(v: Verdict, _node: Node, body: Node, _level: Level) -> Type:
    return body.oid if isinstance(body, Parameter) else v.parameters.setdefault(body.get("number", 0), None)


def named_type(v: Verdict, body: Node) -> Type:
    """Return the type that a TypeName means; UndefinedObject where there is none of that name."""
    names = strings(body.get("names"))
    if not names or body.get("setof") or body.get("pct_type"):
        return None
    name = names[-1]
    relations = v.a.context.catalog.named(name)
    # The arrays of row types are not told of.
    if not v.signatures.is_type(name) and not relations and names[0] != "pg_temp" and not name.startswith("_"):
        raise v.error(UndefinedObject, f'type "{".".join(names)}" does not exist', location(body), "See the types of the database.")
    found = None if relations else v.signatures.named(name)
    return v.signatures.array_of(found) if "arrayBounds" in body else found


def _type_cast(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    target = named_type(v, body["typeName"])
    if "A_ArrayExpr" in body["arg"]:  # its elements are cast, each by itself
        for child in children(body["arg"]):
            type_of(v, child, level)
        return target
    if "ParamRef" in body["arg"]:
        v.parameters.setdefault(only(body["arg"])[1].get("number", 0), target)  # parse_param.c, variable_coerce_param_hook
    source = type_of(v, body["arg"], level)
    if not v.signatures.takes(target, source, "e"):
        why = f"cannot cast type {v.shown(source)} to {v.shown(target)}"
        raise v.error(CannotCoerce, why, location(body), "There is no such cast.")
    return target


def _collate(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    found = type_of(v, body["arg"], level)
    name = strings(body["collname"])[-1]
    if not v.signatures.is_collation(name):
        why = f'collation "{name}" for encoding "UTF8" does not exist'
        raise v.error(UndefinedObject, why, location(body), "See the collations of the database.")
    row = v.signatures.row(v.signatures.base(found))
    if row is not None and row.category in "BDINT":
        why = f"collations are not supported by type {v.shown(found)}"
        raise v.error(DatatypeMismatch, why, location(body), "Only texts have collations.")
    return found


def _bool(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    for argument in body["args"]:
        condition(v, argument, level, body["boolop"].removesuffix("_EXPR"))
    return BOOL


def _boolean_test(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    condition(v, body["arg"], level, body["booltesttype"].replace("_", " "))
    return BOOL


def _null_test(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    type_of(v, body["arg"], level)
    return BOOL


def _choice(what: str) -> Callable[[Verdict, Node, Node, Level], Type]:
    def rule(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
        name = body["op"].removeprefix("IS_") if "op" in body else what
        return common(v, name, body["args"], [type_of(v, argument, level) for argument in body["args"]])

    return rule


def _array(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    elements = body.get("elements", [])
    types = [type_of(v, element, level) for element in elements]
    if not elements:
        return None
    found = common(v, "ARRAY", elements, types)
    # Of arrays it is one of more dimensions.
    return found if v.signatures.element_of(found) is not None else v.signatures.array_of(found)


def _row(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    for entry in body.get("args", ()):
        type_of(v, entry, level)
    return RECORD


def _indirection(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    found = type_of(v, body["arg"], level)
    row, then = v.signatures.row(v.signatures.base(found)), body["indirection"][0]
    for index in children(body["indirection"]):
        type_of(v, index, level)
    if row is None or row.category == "A" or row.name in ("jsonb", "hstore"):
        return None
    place = first(body["arg"])
    if "A_Indices" in then and row.name not in _SUBSCRIPTED:
        why = f"cannot subscript type {v.shown(found)} because it does not support subscripting"
        raise v.error(DatatypeMismatch, why, place, "Only arrays have subscripts.")
    if "String" in then:
        why = f"column notation .{strings([then])[0]} applied to type {v.shown(found)}, which is not a composite type"
        raise v.error(WrongObjectType, why, place, "Only rows have fields.")
    return None


_SUBSCRIPTED = frozenset({"box", "int2vector", "line", "lseg", "name", "oidvector", "point"})


_VALUE_FUNCTIONS = {
    "CURRENT_DATE": 1082, "CURRENT_TIME": 1266, "CURRENT_TIMESTAMP": 1184, "LOCALTIME": 1083, "LOCALTIMESTAMP": 1114,
}  # fmt: skip


def _value_function(_v: Verdict, _node: Node, body: Node, _level: Level) -> Type:
    return _VALUE_FUNCTIONS.get(body["op"].removeprefix("SVFOP_").removesuffix("_N"), 19)


EXPRESSIONS.update(
    {
        "A_ArrayExpr": _array,
        "A_Const": _constant,
        "A_Indirection": _indirection,
        "BoolExpr": _bool,
        "BooleanTest": _boolean_test,
        "CoalesceExpr": _choice("COALESCE"),
        "CollateClause": _collate,
        "ColumnRef": _column_ref,
        "MinMaxExpr": _choice(""),
        "NullTest": _null_test,
        "ParamRef": _parameter,
        "RowExpr": _row,
        "SQLValueFunction": _value_function,
        "TypeCast": _type_cast,
    }
)
