"""The name that PostgreSQL gives an output without AS (parse_target.c, FigureColname)."""

from collections.abc import Callable

from phiproxy.sql.text.parse import Node, only, strings

# Name and strength: a CASE or a cast passes on a strong name of what is inside, and has its own otherwise.
Named = tuple[str | None, int]
_FIXED = {
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "CoalesceExpr": "coalesce",
    "XmlSerialize": "xmlserialize",
    "GroupingFunc": "grouping",
}
_UNNAMED = {"A_Const", "ParamRef", "BoolExpr", "NullTest", "BooleanTest"}
_NONE: Named = ("?column?", 0)
_UNKNOWN: Named = (None, 0)


def output_name(node: Node) -> str | None:
    """Return the name of an output with this expression, or None where that is not modelled."""
    return _named(node)[0]


def _named(node: Node) -> Named:
    kind, body = only(node)
    rule = _RULES.get(kind)
    if rule is not None:
        return rule(body)
    if kind in _FIXED:
        return _FIXED[kind], 2
    return _NONE if kind in _UNNAMED else _UNKNOWN


def _cast(body: Node) -> Named:
    name, strength = _named(body["arg"])
    if name is None or strength > 1:
        return name, strength
    names = strings(body["typeName"].get("names"))
    return (names[-1], 1) if names else _UNKNOWN


def _case(body: Node) -> Named:
    name, strength = _named(body["defresult"]) if "defresult" in body else _NONE
    return (name, strength) if name is None or strength > 1 else ("case", 1)


def _sublink(body: Node) -> Named:
    kind = body["subLinkType"]
    if kind in ("EXISTS_SUBLINK", "ARRAY_SUBLINK"):
        return kind.removesuffix("_SUBLINK").lower(), 2
    if kind != "EXPR_SUBLINK":
        return _NONE
    select = body["subselect"].get("SelectStmt", {})
    while select.get("op", "SETOP_NONE") != "SETOP_NONE":
        select = select["larg"]
    if "valuesLists" in select:
        return "column1", 2
    targets = select.get("targetList", ())
    if len(targets) != 1:
        return _UNKNOWN
    target = only(targets[0])[1]
    name = target.get("name") or output_name(target["val"])
    return (None, 0) if name in (None, "*") else (name, 2)


def _indirection(body: Node) -> Named:
    """``doc['a']`` is named as ``doc``, ``(c).part`` as ``part``."""
    fields = [only(step)[1]["sval"] for step in body["indirection"] if "String" in step]
    return (fields[-1], 2) if fields else _named(body["arg"])


_RULES: dict[str, Callable[[Node], Named]] = {
    "A_Indirection": _indirection,
    "ColumnRef": lambda body: (strings(body["fields"])[-1], 2),
    "FuncCall": lambda body: (strings(body["funcname"])[-1], 2),
    "TypeCast": _cast,
    "A_Expr": lambda body: ("nullif", 2) if body["kind"] == "AEXPR_NULLIF" else _NONE,
    "CollateClause": lambda body: _named(body["arg"]),
    "CaseExpr": _case,
    "SubLink": _sublink,
}
