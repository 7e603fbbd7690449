"""A protected truth value that is a condition by itself: ``WHERE active``, ``NOT active``, ``active IS TRUE``, ``CASE WHEN …``.

It is compared with true: a tag is equal to that of true, to another one, or NULL, and so the condition is as PostgreSQL's.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING

from phiproxy.policy.protection import Slot
from phiproxy.policy.types import builtin
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import Operand, operand
from phiproxy.sql.expressions import equality_slot, located
from phiproxy.sql.meaning import Edit, Search
from phiproxy.sql.operands import OWN
from phiproxy.sql.parse import Node, location, only, strings
from phiproxy.sql.scope import Scope
from phiproxy.sql.sinks import Inserted, SinkNode
from phiproxy.sql.stored import tag_text, tag_tree
from phiproxy.sql.wrap import replace as replace_node

if TYPE_CHECKING:
    from phiproxy.sql.finish import Spans


def truth(a: Analysis, node: Node, scope: Scope) -> bool:
    """Let a condition that is a protected truth value be a comparison with true; False for any other."""
    kind, body = only(node)
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
    value: Node = {"A_Const": {"boolval": {"boolval": True}}}
    place = Inserted(copy.deepcopy(node), found.column, lambda _named: b" = ", b"")
    sink = SinkNode("constant", value, value, (), literal=b"t", own=builtin("bool"), inserted=place)
    a.use(sink, Search(column, slot, column.type), OWN)
    a.changes.append(partial(_compared, node=node, found=found, slot=slot, value=value))
    return True


def _compared(spans: Spans, text: bytes, *, node: Node, found: Operand, slot: Slot, value: Node) -> Edit:
    """Replace the column by its tag; what it is compared with is put behind it."""
    stored = found.stored(slot)
    start, end = spans.column_ref(location(only(node)[1]))
    named = spans.named(text, found.column)
    left = tag_tree(found.column, slot, stored)
    replace_node(node, {"A_Expr": {"kind": "AEXPR_OP", "name": [{"String": {"sval": "="}}], "lexpr": left, "rexpr": value}})
    return Edit(start, end, tag_text(named, slot, stored).encode())
