"""Which text type an expression has, where that decides the type of a parameter beside it (manual 10.5)."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.lengths import cut_by
from phiproxy.sql.lists import type_of
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.scope import ListColumn, Protected, Scope, resolve
from phiproxy.sql.sinks import TEXT_OID, as_sink, text_cast
from phiproxy.wire.values import VARCHAR_OID


def case_results(body: Node) -> list[Node]:
    """Return the results of a CaseExpr body; ELSE counts first for the type (parse_expr.c, transformCaseExpr)."""
    results = [only(when)[1]["result"] for when in body["args"]]
    return [body["defresult"], *results] if "defresult" in body else results


def common_type(a: Analysis, nodes: Sequence[Node], scope: Scope) -> int:
    """Return the type of CASE or COALESCE: that of the first whose type is known (text and varchar become each other)."""
    return next((found for node in nodes if (found := _type(a, node, scope))), TEXT_OID)


def _type(a: Analysis, node: Node, scope: Scope) -> int:
    """Return a type's OID, 0 for what has none of its own."""
    kind, body = only(node)
    if kind == "TypeCast":
        shown = text_cast(body)
        return shown.oid if shown is not None else VARCHAR_OID if cut_by(body) is not None else TEXT_OID
    if as_sink(node) is not None:
        return 0
    if kind == "ColumnRef" and strings(body["fields"])[-1] != "*":
        value = resolve(scope, strings(body["fields"]), a.position(body)).value
        return value.type.oid if isinstance(value, Protected) else type_of(value) if isinstance(value, ListColumn) else TEXT_OID
    if kind == "CaseExpr":
        return common_type(a, case_results(body), scope)
    if kind == "CoalesceExpr":
        return common_type(a, body["args"], scope)
    return TEXT_OID
