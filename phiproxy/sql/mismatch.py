"""Conditions: a protected column is one only where it is a truth value; any other is refused with PostgreSQL's own SQLSTATE."""

from __future__ import annotations

from collections.abc import Iterator

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.expressions import expression
from phiproxy.sql.parse import Node, only
from phiproxy.sql.ranges import conjuncts
from phiproxy.sql.rules import EXPRESSIONS
from phiproxy.sql.scope import CLEAR, ListColumn, Protected, Scope, Value
from phiproxy.sql.truths import truth, wrong_type

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
    if truth(a, node, scope, what):
        return
    value = expression(a, node, scope)
    if isinstance(value, Protected):
        raise wrong_type(a, value, node, what)
    if isinstance(value, ListColumn):
        value.users.append(None)


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
