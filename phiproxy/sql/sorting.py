"""What rows are sorted by, in ORDER BY, in windows and in the calls of aggregates: nothing protected, for that has no order.

Nor is there a greatest or least of it.
"""

from __future__ import annotations

from phiproxy.errors import StatementRefused
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import derived
from phiproxy.sql.expressions import expression, unsupported
from phiproxy.sql.parse import Node
from phiproxy.sql.rules import EXPRESSIONS
from phiproxy.sql.scope import CLEAR, ListColumn, Protected, Scope, Value


def no_order(a: Analysis, column: ProtectedColumn, node: Node) -> StatementRefused:
    """Return the refusal to sort by a protected column, or by what an index makes of one."""
    hint = f"What is encrypted has no order. Sort by an unprotected column, or by {column.name} in the application."
    return unsupported(a, column, node, hint)


def sorted_by(a: Analysis, value: Value, node: Node) -> None:
    """Check a value that rows are sorted by."""
    if isinstance(value, Protected):
        raise no_order(a, value.column, node)
    if isinstance(value, ListColumn):
        value.users.append(None)


def sort_key(a: Analysis, node: Node, scope: Scope) -> None:
    """Analyse an expression that rows are sorted by."""
    found = derived(a, node, scope)
    if found is not None:
        raise no_order(a, found.made.column, node)
    sorted_by(a, expression(a, node, scope), node)


def _sort_by(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    sort_key(a, body["node"], scope)
    return CLEAR


def _greatest(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    """GREATEST and LEAST."""
    for argument in body["args"]:
        value = expression(a, argument, scope)
        if isinstance(value, Protected):
            hint = f"What is encrypted has no order. Select {value.column.name}, and compare in the application."
            raise unsupported(a, value.column, argument, hint)
        sorted_by(a, value, argument)
    return CLEAR


EXPRESSIONS.update({"SortBy": _sort_by, "MinMaxExpr": _greatest})
