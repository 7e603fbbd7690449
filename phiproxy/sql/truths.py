"""A protected truth value that is a condition by itself: ``WHERE active``, ``NOT active``, ``active IS TRUE``, ``CASE WHEN …``.

It is compared with true: a tag is equal to that of true, to another one, or NULL, and so the condition is as PostgreSQL's.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING

from phiproxy.errors import DatatypeMismatch, StatementRefused
from phiproxy.policy.protection import Slot
from phiproxy.policy.types import builtin
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import Operand, operand
from phiproxy.sql.expressions import equality_slot, located
from phiproxy.sql.leaves import Leaf, Term, term
from phiproxy.sql.meaning import Edit, Search
from phiproxy.sql.operands import OWN
from phiproxy.sql.parse import Node, location, only, strings
from phiproxy.sql.scope import Protected, Scope
from phiproxy.sql.sinks import Inserted, SinkNode
from phiproxy.sql.stored import tag_text, tag_tree
from phiproxy.sql.terms import as_value, compare
from phiproxy.sql.wrap import replace as replace_node
from phiproxy.types.names import sql_name

if TYPE_CHECKING:
    from phiproxy.sql.finish import Spans


def truth(a: Analysis, node: Node, scope: Scope, what: str) -> bool:
    """Let a condition that is a protected truth value be a comparison with true; False for any other.

    ``what`` names the place in PostgreSQL's words.
    """
    kind, body = only(node)
    if kind == "CoalesceExpr":
        return _coalesce(a, node, scope, what)
    if kind != "ColumnRef" or strings(body["fields"])[-1] == "*":
        return False
    found = operand(a, node, scope)
    if found is None or found.value.type.underlying.family != "bool":
        return False
    column = found.value.column
    slot = equality_slot(a, column, node)
    if "=" in a.context.catalog.replaced:
        raise a.refuse(
            f"{column.label} would be compared by its tag, and an operator = for bytea is not the server's",
            located(node),
            hint="Drop that operator, or give it another name.",
        )
    sink = _true(node)
    value = sink.node
    a.use(sink, Search(column, slot, column.type), OWN)
    a.changes.append(partial(_compared, node=node, found=found, slot=slot, value=value))
    return True


def _true(node: Node) -> SinkNode:
    """Return TRUE as what is put behind a condition that is compared with it."""
    value: Node = {"A_Const": {"boolval": {"boolval": True}}}
    place = Inserted(copy.deepcopy(node), {"ColumnRef": {"fields": []}}, lambda _named: b" = ", b"")
    return SinkNode("constant", value, value, (), literal=b"t", own=builtin("bool"), inserted=place)


def _coalesce(a: Analysis, node: Node, scope: Scope, what: str) -> bool:
    """Let ``COALESCE(active, false)`` be compared with true, where it is a truth value and a protected column is in it."""
    made = term(a, node, scope)
    column = next(made.columns(), None)
    if column is None or column.type.underlying.family != "bool" or made.unprotected is not None:
        value = as_value(a, made)
        if isinstance(value, Protected):
            raise wrong_type(a, value, node, what)
        return True
    sink = _true(node)
    compare(a, node, [made, Term(sink.node, [Leaf(sink.node, sink=sink)])])
    a.at_end.append(partial(_compare_whole, node, sink.node))
    return True


def wrong_type(a: Analysis, value: Protected, node: Node, what: str) -> StatementRefused:
    """Return the refusal of a condition that is no truth value, in PostgreSQL's words, or of one that is none here."""
    if value.type.underlying.family == "bool":
        return a.refuse(
            f"{value.column.label} is no condition in this form",
            located(node),
            hint="Compare it: (…) = true.",
        )
    return a.refuse(
        f"argument of {what} must be type boolean, not type {sql_name(value.type)}",
        located(node),
        hint=f"Compare {value.column.name} with something.",
        error=DatatypeMismatch,
    )


def _compare_whole(node: Node, value: Node) -> None:
    """Put the tree of a comparison around a condition, as it is in the text."""
    inner = dict(node)
    replace_node(node, {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}], "lexpr": inner, "rexpr": value}})


def _compared(spans: Spans, text: bytes, *, node: Node, found: Operand, slot: Slot, value: Node) -> Edit:
    """Replace the column by its tag; what it is compared with is put behind it."""
    stored = found.stored(slot)
    start, end = spans.column_ref(location(only(node)[1]))
    named = spans.named(text, found.column)
    left = tag_tree(found.column, slot, stored)
    replace_node(node, {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}], "lexpr": left, "rexpr": value}})
    return Edit(start, end, tag_text(named, slot, stored).encode())
