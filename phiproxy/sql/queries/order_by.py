"""What rows are sorted by: nothing protected, since envelopes and tags have no order. Nor have they a greatest or least."""

from collections.abc import Iterator, Sequence

from phiproxy.errors import NotSupported, StatementRefused
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import expression, unsupported
from phiproxy.sql.expressions.index_expressions import derived
from phiproxy.sql.resolve.protected_values import CLEAR, Protected, Value, as_they_are
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.text.parse import Node, children, messages, only, strings


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


def united_order(a: Analysis, node: Node, names: Sequence[str | None]) -> None:
    """Refuse an expression that a set operation would be sorted by, as PostgreSQL does; ``names`` are those of its columns.

    SELECT ssn FROM patients UNION ALL SELECT ssn FROM patients ORDER BY upper(ssn)
    → refused 0A000
    """
    if "A_Const" in node or "ColumnRef" in node or not all(fields[:-1] == [] and fields[0] in names for fields in _named(node)):
        return  # what is named elsewhere is no column there, and PostgreSQL says that first
    why = "invalid UNION/INTERSECT/EXCEPT ORDER BY clause"
    hint = "Only result column names can be used, not expressions or functions."
    at = min((m["location"] for m in messages([node]) if m.get("location", -1) >= 0), default=0)
    raise NotSupported(why, hint=hint, position=a.at(at))


def _named(node: Node) -> Iterator[list[str]]:
    """Yield the names of the columns in an expression; those of a subquery, which may be its own, as none."""
    kind, body = only(node)
    if kind == "ColumnRef":
        yield strings(body["fields"])
    elif kind == "SubLink":
        yield ["", ""]
    else:
        for child in children(body):
            yield from _named(child)


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
