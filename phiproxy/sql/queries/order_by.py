"""What rows are sorted by: nothing protected, since envelopes and tags have no order. Nor have they a greatest or least."""

from phiproxy.errors import StatementRefused
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import expression, unsupported
from phiproxy.sql.expressions.index_expressions import derived
from phiproxy.sql.resolve.protected_values import CLEAR, Protected, Value, as_they_are
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.text.parse import Node, only


def no_order(a: Analysis, column: ProtectedColumn, node: Node) -> StatementRefused:
    """Return the refusal to sort by a protected column, or by an indexed expression of one."""
    hint = f"What is encrypted has no order. Sort by an unprotected column, or by {column.name} in the application."
    return unsupported(a, column, node, hint)


def sorted_by(a: Analysis, value: Value, node: Node) -> None:
    """Refuse a protected value that rows are sorted by."""
    if isinstance(value, Protected):
        a.refuse_masked(value, only(node)[1])
        raise no_order(a, value.column, node)
    as_they_are((value,))


def sort_key(a: Analysis, node: Node, scope: Scope) -> None:
    """Analyse an expression that rows are sorted by.

    SELECT ssn FROM patients ORDER BY ssn
    → refused 0A000

    SELECT ssn FROM patients ORDER BY city
    → SELECT ssn FROM "public".patients ORDER BY city
    """
    indexed = derived(a, node, scope)
    if indexed is not None:
        raise no_order(a, indexed.result.column, node)
    sorted_by(a, expression(a, node, scope), node)


def sort_by(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    """An entry of ORDER BY.

    SELECT string_agg(city, ',' ORDER BY ssn) FROM patients
    → refused 0A000
    """
    sort_key(a, body["node"], scope)
    return CLEAR


def greatest_or_least(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    """GREATEST and LEAST take nothing protected.

    SELECT GREATEST(ssn, 'x') FROM patients
    → refused 0A000
    """
    for argument in body["args"]:
        value = expression(a, argument, scope)
        if isinstance(value, Protected):
            hint = f"What is encrypted has no order. Select {value.column.name}, and compare in the application."
            raise unsupported(a, value.column, argument, hint)
        sorted_by(a, value, argument)
    return CLEAR
