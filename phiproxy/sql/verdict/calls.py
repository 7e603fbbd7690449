"""Calls of functions: whether there is one of that name for these arguments, and of the kind that is written (parse_func.c)."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import GroupingError, UndefinedFunction, WindowingError, WrongObjectType
from phiproxy.policy.signatures import Function, Type, result_of
from phiproxy.sql.parse import Node, children, location, strings
from phiproxy.sql.verdict.expressions import condition, type_of
from phiproxy.sql.verdict.state import EXPRESSIONS, Level, Verdict

_HINT = "No function matches the given name and argument types. You might need to add explicit type casts."


def _func_call(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    nodes = body.get("args", [])
    arguments = [type_of(v, argument, level) for argument in nodes]
    for order in body.get("agg_order", ()):
        type_of(v, order, level)
    if "agg_filter" in body:
        condition(v, body["agg_filter"], level, "FILTER")
    found = _called(v, body, nodes, arguments, level)
    for part in children(body.get("over", {})):
        type_of(v, part, level)
    return found


def _called(v: Verdict, body: Node, nodes: Sequence[Node], arguments: Sequence[Type], level: Level) -> Type:
    names = strings(body["funcname"])
    if _is_beyond(v, body, names, nodes, arguments):
        return None
    found = v.signatures.calls(names[-1], arguments)
    if not found:
        shown = f"{'.'.join(names)}({', '.join(map(v.shown, arguments))})"
        raise v.error(UndefinedFunction, f"function {shown} does not exist", location(body), _HINT)
    _check_kind(v, body, names[-1], found)
    _check_place(v, body, level)
    if names[-1] == "unnest" and len(arguments) == 1:
        return v.signatures.element_of(arguments[0])
    exact = [f for f in found if f.arguments == tuple(map(v.signatures.base, arguments))]
    return result_of(exact or found)


def _is_beyond(v: Verdict, body: Node, names: Sequence[str], nodes: Sequence[Node], arguments: Sequence[Type]) -> bool:
    """Tell whether a call is of a form of which nothing is said here; f(x) may also be a cast, or a field of a row."""
    odd = body.get("agg_within_group") or body.get("func_variadic") or any("NamedArgExpr" in node for node in nodes)
    elsewhere = len(names) > 1 and names[0] != "pg_catalog"
    field = list(arguments) == [None] and not v.signatures.functions(names[-1])
    return bool(odd) or elsewhere or field or v.signatures.is_type(names[-1])


def is_aggregate(v: Verdict, body: Node) -> bool:
    """Tell whether a call is that of an aggregate, not of a window function."""
    found = v.signatures.functions(strings(body["funcname"])[-1])
    return bool(found) and "over" not in body and all(function.kind == "a" for function in found)


def _check_place(v: Verdict, body: Node, level: Level) -> None:
    """Refuse an aggregate or window function where none may stand; inside of a subquery it may be that of a query outside."""
    if not level.barred or level.outer is not None:
        return
    hint = "Compute it in a subquery."
    if "over" in body:
        raise v.error(WindowingError, f"window functions are not allowed in {level.barred}", location(body), hint)
    if is_aggregate(v, body):
        raise v.error(GroupingError, f"aggregate functions are not allowed in {level.barred}", location(body), hint)


_AGGREGATES_ONLY = (("agg_distinct", "DISTINCT"), ("agg_order", "ORDER BY"), ("agg_filter", "FILTER"))


def _check_kind(v: Verdict, body: Node, name: str, found: Sequence[Function]) -> None:
    kinds = {function.kind for function in found}
    why = ""
    if kinds == {"p"}:
        why = f"{name} is a procedure"
    elif kinds == {"f"}:
        said = next((words for key, words in _AGGREGATES_ONLY if body.get(key)), "")
        if body.get("agg_star"):
            why = f"{name}(*) specified, but {name} is not an aggregate function"
        elif said:
            why = f"{said} specified, but {name} is not an aggregate function"
        elif "over" in body:
            why = f"OVER specified, but {name} is not a window function nor an aggregate function"
    elif kinds == {"w"} and "over" not in body:
        why = f"window function {name} requires an OVER clause"
        raise v.error(WrongObjectType, why, location(body), f"Write {name}(…) OVER (…).")
    if why:
        raise v.error(WrongObjectType, why, location(body), f"See what kind of function {name} is.")


EXPRESSIONS["FuncCall"] = _func_call
