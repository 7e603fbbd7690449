"""The name the server gives to an output column without AS (parse_target.c, FigureColname), as far as it is modelled."""

from __future__ import annotations

from phiproxy.sql.parse import Node, only, strings

_FIXED = {
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "CoalesceExpr": "coalesce",
    "XmlSerialize": "xmlserialize",
    "GroupingFunc": "grouping",
}
_UNNAMED = {"A_Const", "ParamRef", "BoolExpr", "NullTest", "BooleanTest"}


def output_name(node: Node) -> str | None:
    """Return the output column name of an expression, or None where this model does not say."""
    kind, body = only(node)
    if kind == "ColumnRef":
        return strings(body["fields"])[-1]
    if kind == "FuncCall":
        return strings(body["funcname"])[-1]
    if kind == "TypeCast":
        inner = output_name(body["arg"])
        return inner if inner not in ("?column?", None) else _type_name(body) if inner else None
    if kind == "A_Expr":
        return "nullif" if body["kind"] == "AEXPR_NULLIF" else "?column?"
    if kind == "CollateClause":
        return output_name(body["arg"])
    if kind in _FIXED:
        return _FIXED[kind]
    return "?column?" if kind in _UNNAMED else None


def _type_name(body: Node) -> str | None:
    names = strings(body["typeName"].get("names"))
    return names[-1] if names else None
