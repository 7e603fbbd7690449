"""Calls that PostgreSQL's planner makes: to estimate how many rows a condition leaves, it asks what a column is compared with."""

from __future__ import annotations

from collections.abc import Iterator

from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.text.parse import Node, children, messages, only, strings

_ESTIMATED = frozenset(
    {
        "AEXPR_BETWEEN", "AEXPR_BETWEEN_SYM", "AEXPR_DISTINCT", "AEXPR_ILIKE", "AEXPR_IN", "AEXPR_LIKE", "AEXPR_NOT_BETWEEN",
        "AEXPR_NOT_BETWEEN_SYM", "AEXPR_NOT_DISTINCT", "AEXPR_OP", "AEXPR_SIMILAR",
    }
)  # fmt: skip
# What may be a constant, or NULL, beforehand, although a column is in it: coalesce(1, id), (id, 1) = (1, 2).
_FOLDED = frozenset({"BoolExpr", "CaseExpr", "CoalesceExpr", "NullTest", "RowExpr"})
_CONDITIONS = ("whereClause", "quals", "havingClause")


def estimated_calls(query: Node) -> dict[int, bool]:
    """Return the ids of the calls that PostgreSQL's planner evaluates to estimate how many rows a condition leaves.

    ``full_name > current_setting('no.such')`` fails so where there is no row. Not where the planner sees beforehand that nothing
    is left: ``false AND full_name > …``. Of a call that is False it is not known whether it does: ``$1 AND full_name > …``.
    """
    everywhere, found = messages(query), dict[int, bool]()
    read = {message["relname"] for message in everywhere if "relname" in message}
    unread = {id(message) for message in everywhere if message.get("ctename", "") not in {"", *read}}
    apart = {id(inner) for message in everywhere if "subLinkType" in message for inner in messages(message)}
    joined = {id(message) for message in messages(query.get("fromClause", []))}
    parts = [part for part in bodies(query, unread) if not part.keys().isdisjoint(_CONDITIONS)]
    plain = all(_foretold(part[key]) is None for part in parts for key in _CONDITIONS if key in part)
    for part in parts:
        own = part is query or ("quals" in part and id(part) in joined)
        outer = part.get("jointype", "JOIN_INNER") != "JOIN_INNER"  # what only adds NULLs may be left out of the plan
        sure = (own or plain) and id(part) not in apart and not outer
        for key in ("whereClause", "quals"):
            if key in part:
                _note_estimated(part[key], found, sure=sure)
        if "havingClause" in part and "groupClause" in part:  # else it is evaluated for the one group
            _note_estimated(part["havingClause"], found, sure=sure and plain and len(part.get("fromClause", ())) == 1)
    return found


def _note_estimated(node: Node, found: dict[int, bool], *, sure: bool) -> None:
    """Note the calls in a condition; ``sure``: what stands beside it leaves it to be estimated, as ``id < 0`` does."""
    kind, body = only(node)
    if kind == "BoolExpr":
        known = [_foretold(argument) for argument in body["args"]]
        if (body["boolop"] == "OR_EXPR") in known and body["boolop"] != "NOT_EXPR":
            return  # the whole is a constant
        sure = sure and sum(strings(only(one)[1].get("name", ()))[-1:] == ["="] for one in body["args"]) < 2  # x = 1 AND x = 2
        for at, argument in enumerate(body["args"]):
            _note_estimated(argument, found, sure=sure and "perhaps" not in known[:at] + known[at + 1 :])
    elif kind == "BooleanTest" and body["booltesttype"] not in ("IS_UNKNOWN", "IS_NOT_UNKNOWN"):
        _note_estimated(body["arg"], found, sure=sure)
    elif kind in ("A_Expr", "FuncCall"):
        sides = body.get("args", []) if kind == "FuncCall" else [body[side] for side in ("lexpr", "rexpr") if side in body]
        alone = [side for side in sides if not _has_column(side)]
        sure = sure and kind == "A_Expr" and body["kind"] in _ESTIMATED and not _may_be_null(body)
        for side in alone if len(sides) > len(alone) else ():
            made = {id(call) for call in _surely_made(side)} if sure else ()
            subqueries = {id(message) for message in messages(side) if "subLinkType" in message}
            calls = bodies(side, subqueries | _behind_constants(side))
            found.update((id(call), id(call) in made) for call in calls if "funcname" in call)


def _behind_constants(tree: Node) -> set[int]:
    """Return the ids of what stands behind a constant in COALESCE, which the planner leaves out."""
    found = set[int]()
    for message in messages(tree):
        arguments = message.get("CoalesceExpr", {}).get("args", [])
        known = [one.get("TypeCast", {}).get("arg", one).get("A_Const", {}).keys() & {"sval", "ival", "fval"} for one in arguments]
        first = next((at for at, one in enumerate(known) if one), len(arguments))
        found.update(id(inner) for one in arguments[first + 1 :] for inner in messages(one))
    return found


def _foretold(node: Node) -> bool | str | None:
    """Return what the planner knows a condition to be before it estimates anything: None for nothing, or "perhaps" something."""
    kind, body = only(node)
    if kind == "A_Const" and "boolval" in body:
        return bool(body["boolval"].get("boolval"))
    if kind == "BoolExpr":
        known = [_foretold(argument) for argument in body["args"]]
        if body["boolop"] == "NOT_EXPR":
            return not known[0] if isinstance(known[0], bool) else known[0]
        decides = body["boolop"] == "OR_EXPR"
        if decides in known or all(one is (not decides) for one in known):
            return decides in known if decides else decides not in known
        return "perhaps" if "perhaps" in known else None
    if kind == "BooleanTest":
        return "perhaps" if _foretold(body["arg"]) is not None else None
    compares = kind == "A_Expr" and body["kind"] in _ESTIMATED
    return None if compares and _has_column(body) and not _may_be_null(body) else "perhaps"


def _has_column(body: Node) -> bool:
    return any("fields" in message for message in messages(body))


def _may_be_null(body: Node) -> bool:
    """Tell whether there is a parameter in it, or NULL, or what may be one: with these a comparison is NULL beforehand."""
    return any(
        "number" in message or message.get("isnull") or message.get("kind") == "AEXPR_NULLIF" or not _FOLDED.isdisjoint(message)
        for message in messages(body)
    )


def _surely_made(node: Node) -> Iterator[Node]:
    """Yield the calls in an expression that are made when it is evaluated."""
    kind, body = only(node)
    if kind == "FuncCall":
        yield body
    if kind in ("A_Expr", "FuncCall", "TypeCast", "List"):
        for child in children(body):
            yield from _surely_made(child)
