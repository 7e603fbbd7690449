"""What PostgreSQL itself refuses of a text column, whatever is in it: it is no condition, and is compared with as many.

Such a refusal has PostgreSQL's own SQLSTATE.
"""

from __future__ import annotations

from collections.abc import Iterator

from phiproxy.errors import DatatypeMismatch, UndefinedFunction, UndefinedOperator
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.expressions import expression, located
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.ranges import conjuncts
from phiproxy.sql.rules import EXPRESSIONS
from phiproxy.sql.scope import CLEAR, ListColumn, Protected, Scope, Value
from phiproxy.sql.sinks import is_no_text
from phiproxy.sql.truths import truth
from phiproxy.types.names import sql_name

# text, char(n), varchar.
TEXTS = frozenset({25, 1042, 1043})


# Where what is NULL is as good as false.
_FILTERS = frozenset({"WHERE", "HAVING", "JOIN/ON", "CASE/WHEN"})


def _filters(node: Node) -> Iterator[int]:
    """Yield the nodes of a condition that is a filter of which this is true too: AND and OR do not change it."""
    yield id(node)
    kind, body = only(node)
    if kind == "BoolExpr" and body["boolop"] != "NOT_EXPR":
        for argument in body["args"]:
            yield from _filters(argument)


def condition(a: Analysis, node: Node, scope: Scope, what: str) -> None:
    """Analyse what must be true or false; ``what`` names the place in PostgreSQL's words."""
    if what in _FILTERS:
        a.filters.update(_filters(node))
    if truth(a, node, scope):
        return
    value = expression(a, node, scope)
    if isinstance(value, Protected):
        if value.type.oid not in TEXTS:
            raise a.refuse(f"{value.column.label} is protected and cannot be used here", located(node), hint="Compare it by =.")
        raise a.refuse(
            f"argument of {what} must be type boolean, not type {sql_name(value.type)}",
            located(node),
            hint=f"Compare {value.column.name} with something.",
            error=DatatypeMismatch,
        )
    if isinstance(value, ListColumn):
        value.users.append(None)


def check_function(a: Analysis, column: ProtectedColumn, function: str, node: Node) -> None:
    """Refuse a text for a function of which there is none that takes one."""
    takes = a.context.catalog.takes_text
    if takes is not None and function not in takes and column.type.is_text:
        why = f"no function {function} takes a value of type {sql_name(column.type)}"
        raise a.refuse(why, located(node), hint="See the types of its arguments.", error=UndefinedFunction)


def check_operator(a: Analysis, column: ProtectedColumn, node: Node, body: Node) -> None:
    """Refuse a text for an operator of which there is none that takes one, or none that takes it beside a number or the like."""
    name, takes = strings(body.get("name"))[-1], a.context.catalog.takes_text
    if not column.type.is_text or takes is None or "lexpr" not in body:
        return
    other = body["rexpr"] if body["lexpr"] is node else body["lexpr"]
    beside = only(other)[1]["items"] if "List" in other else [other]
    named = body["kind"] == "AEXPR_OP" and name not in takes
    if named or (name != "||" and any(is_no_text(part) for part in beside)):
        why = f"no operator {name} takes a value of type {sql_name(column.type)} here"
        raise a.refuse(why, body, hint="See the types of its operands.", error=UndefinedOperator)


_BOOL = {"AND_EXPR": "AND", "OR_EXPR": "OR", "NOT_EXPR": "NOT"}


def _bool(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    conjuncts(a, node, body, scope)
    for argument in body["args"]:
        condition(a, argument, scope, _BOOL[body["boolop"]])
    return CLEAR


def _boolean_test(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    condition(a, body["arg"], scope, body["booltesttype"].replace("_", " "))
    return CLEAR


EXPRESSIONS.update({"BoolExpr": _bool, "BooleanTest": _boolean_test})
