"""Conditions: a protected boolean, as in ``NOT active`` or ``CASE WHEN active``, becomes ``active = true``; others are refused."""

from collections.abc import Iterator

from phiproxy.errors import DatatypeMismatch, StatementRefused
from phiproxy.policy.column_types import builtin
from phiproxy.policy.protection import Slot
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.comparisons import compare
from phiproxy.sql.expressions.expression import equality_slot, expression, located
from phiproxy.sql.expressions.index_expressions import IndexOperand, index_operand
from phiproxy.sql.expressions.leaves import Leaf, Term, term
from phiproxy.sql.expressions.ranges import conjuncts
from phiproxy.sql.expressions.term_values import as_value
from phiproxy.sql.resolve.protected_values import CLEAR, Protected, Value, as_they_are
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.result import Edit
from phiproxy.sql.rewrite.draft import Draft
from phiproxy.sql.rewrite.order_of_rewrites import Step
from phiproxy.sql.rewrite.references_and_markers import tag_text, tag_tree
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.accepted_types import OWN
from phiproxy.sql.values.operands import Inserted, Operand
from phiproxy.sql.values.uses import Search
from phiproxy.types.names import sql_name


def truth(a: Analysis, node: Node, scope: Scope, what: str) -> bool:
    """Compare a protected boolean condition with true; return False for any other. ``what`` is PostgreSQL's name of the clause.

    SELECT id FROM diaries WHERE private
    → SELECT id FROM diaries WHERE tag(private) = tag('t')

    SELECT id FROM diaries WHERE COALESCE(private, false)
    → SELECT id FROM diaries WHERE COALESCE(tag(private), tag(false)) = tag('t')
    """
    kind, body = only(node)
    if kind == "CoalesceExpr":
        return _coalesce(a, node, scope, what)
    if kind != "ColumnRef" or strings(body["fields"])[-1] == "*":
        return False
    column_operand = index_operand(a, node, scope)
    if column_operand is None or column_operand.value.type.underlying.family != "bool":
        return False
    column = column_operand.value.column
    slot = equality_slot(a, column, node)
    if "=" in a.context.catalog.replaced:
        why = f"{column.label} would be compared by its tag, and an operator = for bytea is not the server's"
        raise a.refuse(why, located(node), hint="Drop that operator, or give it another name.")
    operand = _true(node)
    value = operand.node
    a.use(operand, Search(column, slot, column.type), OWN)
    a.rewrite(_compared, node=node, column_operand=column_operand, slot=slot, value=value)
    return True


def _true(node: Node) -> Operand:
    value: Node = {"A_Const": {"boolval": {"boolval": True}}}
    inserted = Inserted(node, {"ColumnRef": {"fields": []}}, lambda _named: b" = ", b"")
    return Operand("constant", value, value, (), literal=b"t", own=builtin("bool"), inserted=inserted)


def _coalesce(a: Analysis, node: Node, scope: Scope, what: str) -> bool:
    """Compare ``COALESCE(active, false)`` with true, where it is a boolean and has a protected column in it."""
    whole = term(a, node, scope)
    column = next(whole.columns(), None)
    if column is None or column.type.underlying.family != "bool" or whole.unprotected is not None:
        value = as_value(a, whole)
        if isinstance(value, Protected):
            raise wrong_type(a, value, node, what)
        return True
    operand = _true(node)
    compare(a, node, [whole, Term(operand.node, [Leaf(operand.node, operand=operand)])])
    a.rewrite(_compare_whole, Step.WHOLE, node=node, value=operand.node)
    return True


def wrong_type(a: Analysis, value: Protected, node: Node, what: str) -> StatementRefused:
    """Return the refusal of a condition that is no boolean, in PostgreSQL's words, or of a protected boolean in another form.

    SELECT id FROM patients WHERE ssn
    → refused 42804
    """
    if value.type.underlying.family == "bool":
        why = f"{value.column.label} is no condition in this form"
        return a.refuse(why, located(node), hint="Compare it: (…) = true.")
    why = f"argument of {what} must be type boolean, not type {sql_name(value.type)}"
    return a.refuse(why, located(node), hint=f"Compare {value.column.name} with something.", error=DatatypeMismatch)


def _compare_whole(draft: Draft, *, node: Node, value: Node) -> tuple[()]:
    """Put a comparison around the condition in the tree, as there is one in the text."""
    inner = dict(draft.tree.now(node))
    draft.tree.replace(node, {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}], "lexpr": inner, "rexpr": value}})
    return ()


def _compared(draft: Draft, *, node: Node, column_operand: IndexOperand, slot: Slot, value: Node) -> Iterator[Edit]:
    """Replace the column by its tag; the operand is inserted behind it."""
    stored = column_operand.stored(slot)
    left = tag_tree(column_operand.column, slot, stored)
    draft.tree.replace(node, {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}], "lexpr": left, "rexpr": value}})
    span = draft.reference(node)
    yield Edit(*span, tag_text(draft.named(column_operand.column), slot, stored).encode())


# Where what is NULL is as good as false.
_FILTERS = frozenset({"WHERE", "HAVING", "JOIN/ON", "CASE/WHEN"})


def _filters(node: Node) -> Iterator[int]:
    """Yield the ids of the conditions that AND and OR join in a filter: NULL counts as false in each of them."""
    yield id(node)
    kind, body = only(node)
    if kind == "BoolExpr" and body["boolop"] != "NOT_EXPR":
        for argument in body["args"]:
            yield from _filters(argument)


def condition(a: Analysis, node: Node, scope: Scope, what: str) -> None:
    """Analyse an expression that must be a boolean; ``what`` is PostgreSQL's name of the clause.

    SELECT count(*) FILTER (WHERE ssn = 'x') FROM patients
    → SELECT count(*) FILTER (WHERE tag(ssn) = tag('x')) FROM patients

    SELECT id FROM patients WHERE ssn
    → refused 42804
    """
    if what in _FILTERS:
        a.filters.update(_filters(node))
    if truth(a, node, scope, what):
        return
    value = expression(a, node, scope)
    if isinstance(value, Protected):
        raise wrong_type(a, value, node, what)
    as_they_are((value,))


_BOOL = {"AND_EXPR": "AND", "OR_EXPR": "OR", "NOT_EXPR": "NOT"}


def bool_expression(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """AND, OR and NOT: ranges of two conditions are answered together, every other argument is a condition of its own.

    SELECT id FROM patients WHERE NOT (ssn = 'x' OR active)
    → SELECT id FROM patients WHERE NOT (tag(ssn) = tag('x') OR active)
    """
    conjuncts(a, node, body, scope)
    for argument in body["args"]:
        condition(a, argument, scope, _BOOL[body["boolop"]])
    return CLEAR


def boolean_test(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    """IS [NOT] TRUE, FALSE and UNKNOWN of a condition.

    SELECT id FROM patients WHERE (ssn = $1) IS TRUE
    → SELECT id FROM patients WHERE (tag(ssn) = tag($1)) IS TRUE
    """
    condition(a, body["arg"], scope, body["booltesttype"].replace("_", " "))
    return CLEAR
