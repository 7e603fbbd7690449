"""Calls of volatile functions in a write: only the server makes them, each as often as PostgreSQL does, and in its order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phiproxy.errors import StatementRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.split.same_answers import AT_EACH_CALL, DRAWN
from phiproxy.sql.text.parse import Node, location, messages, only, strings
from phiproxy.sql.text.token_spans import OPEN, Spans

_TYPES = {
    "clock_timestamp": "timestamptz", "currval": "int8", "gen_random_uuid": "uuid", "lastval": "int8", "nextval": "int8",
    "random": "float8", "random_normal": "float8", "setval": "int8", "timeofday": "text", "uuidv4": "uuid", "uuidv7": "uuid",
}  # fmt: skip
_TOTAL = frozenset({"btrim", "initcap", "left", "length", "lower", "lpad", "ltrim", "replace", "right", "rpad", "rtrim", "upper"})
_OPERANDS = ("lexpr", "rexpr", "arg", "args")


def calls_in(tree: Any) -> list[Node]:
    """Return the calls of functions in a tree."""
    return [m["FuncCall"] for m in messages(tree) if "FuncCall" in m]


def name_of(call: Node) -> str:
    """Return the name of the function, without its schema."""
    return strings(call["funcname"])[-1]


def result_of(name: str) -> str:
    """Return the type of what such a function gives."""
    return _TYPES[name]


def is_drawn(tree: Any) -> bool:
    """Tell whether something depends on the calls before: of a sequence, or of the session's random numbers."""
    return any(name_of(call) in DRAWN for call in calls_in(tree))


def is_changing(tree: Any) -> bool:
    """Tell whether a function is called in it that has another result at each call, of those that may be in a split write."""
    return any(name_of(call) in AT_EACH_CALL for call in calls_in(tree))


def called_by_server(a: Analysis, spans: Spans, body: Node) -> list[tuple[int, int, str]]:
    """Return where such functions are called in a write, and what of the same type and name is described instead.

    ``nextval('numbers')`` is described as ``(SELECT NULL::int8 AS nextval)``: the engine has no such sequence.
    """
    found, signatures = set[tuple[int, int, str]](), a.context.catalog.signatures
    for call in calls_in(body):
        name = name_of(call)
        own = signatures is None or signatures.own_functions(name)
        if (
            name not in _TYPES
            or own
            or (name == "random" and "args" in call)
            or strings(call["funcname"])[:-1] not in ([], ["pg_catalog"])
        ):
            continue
        try:
            start = location(call)
            end = spans.tokens[spans.partner(spans.next(spans.at(start), OPEN))].end
        except StatementRefused:
            continue  # and then it is not described, nor split
        found.add((start, end, f"(SELECT NULL::{_TYPES[name]} AS {quote_ident(name, always=True)})"))
    return sorted(found)


def is_called_where_reached(node: Node, signatures: Any) -> bool:
    """Tell whether what is drawn in an expression is drawn wherever its branch is reached: PostgreSQL's planner leaves none out.

    Of a strict function with a constant NULL among its arguments it makes a NULL, as of ``nextval('s') || NULL``. So it does where
    a CASE among them is one, while another of them draws: ``nextval('s') || CASE WHEN false THEN nextval('s') END``. In the place
    of a function of the database's own it puts the expression that this is written as, which may be without what it is given.
    """
    kind, body = only(node)
    if _is_own(kind, body, signatures):
        return False
    inner = [one for key in _OPERANDS if key in body for one in _listed(body[key])]
    if kind == "FuncCall" and name_of(body) in DRAWN:
        return all(_is_no_null(one, signatures) for one in inner)
    if kind in ("CaseExpr", "CoalesceExpr"):
        branches = inner if kind == "CoalesceExpr" else [*_results(body)]
        drawing = [one for one in branches if is_drawn(one)]
        return _count(drawing) == _count(node) and all(is_called_where_reached(one, signatures) for one in drawing)
    several = sum(map(is_drawn, inner)) > 1
    for one in inner:
        if is_drawn(one) and not is_called_where_reached(one, signatures):
            return False
        if (several or not is_drawn(one)) and not _is_no_null(one, signatures):
            return False
    return kind in ("FuncCall", "TypeCast") or (kind == "A_Expr" and body["kind"] == "AEXPR_OP")


def beside_drawn(tree: Any) -> frozenset[int]:
    """Return the numbers of parameters that are computed with something that is drawn: of a NULL PostgreSQL may draw nothing.

    It does so when it plans a statement for its values, and not when it plans it for any.

    INSERT INTO patients (mrn) VALUES ($1 || nextval('numbers')): {1}
    """
    found = set[int]()
    if is_drawn(tree):
        for message in messages(tree):
            for body in (message[kind] for kind in ("A_Expr", "FuncCall") if kind in message):
                inner = [one for key in _OPERANDS if key in body for one in _listed(body[key])]
                if any(map(is_drawn, inner)):
                    others = [one for one in inner if not is_drawn(one) and not _is_constant_at_last(one)]
                    found.update(m["ParamRef"]["number"] for m in messages(others) if "ParamRef" in m)
    return frozenset(found)


def _is_constant_at_last(node: Node) -> bool:
    kind, body = only(node)
    return kind == "CoalesceExpr" and any("A_Const" in one and "isnull" not in one["A_Const"] for one in body["args"])


def _count(tree: Any) -> int:
    return sum(name_of(call) in DRAWN for call in calls_in(tree))


def _results(case: Node) -> Iterator[Node]:
    """Yield the results of a CASE of conditions; none of a CASE of values, whose conditions are not written out."""
    if "arg" not in case:
        yield from (only(when)[1]["result"] for when in case["args"])
        yield from _listed(case.get("defresult", []))


def _listed(value: Any) -> Iterator[Node]:
    yield from value if isinstance(value, list) else [value]


def _is_no_null(node: Node, signatures: Any) -> bool:
    """Tell whether something is surely no NULL that is known before anything is evaluated: it may be so in a CASE without ELSE.

    A parameter is none (``beside_drawn``); what is computed of one may be: ``$1::jsonb ->> 'a'``.
    """
    kind, body = only(node)
    if kind == "A_Const":
        return "isnull" not in body
    if kind == "ParamRef":
        return True
    if kind in ("TypeCast", "CollateClause"):
        return _is_no_null(body["arg"], signatures)
    if kind in ("CoalesceExpr", "MinMaxExpr"):
        return any(_is_no_null(one, signatures) for one in body["args"])
    if kind == "CaseExpr":
        results = [only(when)[1]["result"] for when in body["args"]]
        return "defresult" in body and all(_is_no_null(one, signatures) for one in (*results, body["defresult"]))
    joins = kind == "A_Expr" and body["kind"] == "AEXPR_OP" and strings(body["name"]) == ["||"]
    if (joins and not _is_own(kind, body, signatures)) or _is_total(kind, body, signatures):
        inner = [one for key in _OPERANDS if key in body for one in _listed(body[key])]
        if all(_is_no_null(one, signatures) for one in inner):
            return True
    return kind == "A_ArrayExpr" or _is_evaluated(node, signatures)


def _is_total(kind: str, body: Node, signatures: Any) -> bool:
    """Tell whether something is a call of a built-in function that gives no NULL but of one."""
    return kind == "FuncCall" and name_of(body) in _TOTAL and not signatures.own_functions(name_of(body))


def _is_own(kind: str, body: Node, signatures: Any) -> bool:
    """Tell whether something may call a function that is neither PostgreSQL's nor an extension's: of SQL, it may be a NULL."""
    if kind == "FuncCall":
        return any(not one.extension for one in signatures.own_functions(name_of(body)))
    return kind == "A_Expr" and any(not one.extension for one in signatures.own_operators(strings(body["name"])[-1]))


def _is_evaluated(node: Node, signatures: Any) -> bool:
    """Tell whether PostgreSQL's planner surely makes no constant of something: a column is in it, or a query.

    Of a parameter it does, where it plans a statement for its values.
    """
    kind, body = only(node)
    if _is_own(kind, body, signatures):
        return False
    if kind in ("ColumnRef", "SQLValueFunction"):
        return True
    if kind == "SubLink":
        return not any("isnull" in m.get("A_Const", {}) for m in messages(node))
    if kind in ("TypeCast", "CollateClause", "A_Indirection"):
        return _is_evaluated(body["arg"], signatures)
    if kind == "A_Expr" and body["kind"] == "AEXPR_NULLIF":
        return _is_evaluated(body["lexpr"], signatures)
    if kind != "FuncCall" and not (kind == "A_Expr" and body["kind"] == "AEXPR_OP"):
        return False
    inner = [one for key in _OPERANDS if key in body for one in _listed(body[key])]
    if not all(_is_no_null(one, signatures) for one in inner):
        return False
    functions = signatures.functions(name_of(body)) if kind == "FuncCall" else ()
    stable = bool(functions) and all(f.volatile != "i" for f in functions)
    return stable or any(_is_evaluated(one, signatures) for one in inner)
