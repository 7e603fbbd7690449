"""Which type a CASE or COALESCE has on its way into a column, where that decides how values in it are read (manual 10.5)."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import DatatypeMismatch, StatementRefused
from phiproxy.policy.types import by_oid
from phiproxy.sql import operands
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.dated import dated_sink
from phiproxy.sql.lengths import cut_by
from phiproxy.sql.lists import type_of
from phiproxy.sql.operands import TEXT, VARCHAR
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.scope import ListColumn, Protected, Scope, resolve
from phiproxy.sql.sinks import as_sink, cast_type
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name
from phiproxy.types.shared import changes_little


def case_results(body: Node) -> list[Node]:
    """Return the results of a CaseExpr body; ELSE counts first for the type (parse_expr.c, transformCaseExpr)."""
    results = [only(when)[1]["result"] for when in body["args"]]
    return [body["defresult"], *results] if "defresult" in body else results


def common_type(a: Analysis, nodes: Sequence[Node], scope: Scope) -> int:
    """Return the type of CASE or COALESCE on its way into a column.

    StatementRefused where one of the values would become another type first, and then not be what it is without that.
    """
    found = [declared for node in nodes if (declared := _type(a, node, scope)) is not None]
    with a.placed(only(nodes[0])[1]):
        try:
            shared = operands.common_type(found)
        except DatatypeMismatch:
            if not any(map(_is_guessed, nodes)):
                raise
            hint = "Give constants, parameters or columns of one type."
            raise StatementRefused(
                "a value on its way to a protected column is of a type that is not known here", hint=hint
            ) from None
        for declared in found:
            if not changes_little(declared, shared):
                raise StatementRefused(
                    f"a value of type {sql_name(declared)} would become {sql_name(shared)} on its way to a protected column",
                    hint="Cast all values to the column's type.",
                )
    return shared.oid


def _is_guessed(node: Node) -> bool:
    """Tell whether a type that is taken for text may be another one."""
    kind, body = only(node)
    if kind == "TypeCast":
        return cut_by(body) is None and cast_type(body) is None
    return as_sink(node) is None and kind not in ("ColumnRef", "CaseExpr", "CoalesceExpr")


def _type(a: Analysis, node: Node, scope: Scope) -> DeclaredType | None:
    """Return a type, None for what has none of its own."""
    kind, body = only(node)
    if kind == "TypeCast":
        return VARCHAR if cut_by(body) is not None else cast_type(body) or TEXT
    sink = as_sink(node) or dated_sink(a, node)
    if sink is not None:
        return sink.own
    if kind == "ColumnRef" and strings(body["fields"])[-1] != "*":
        value = resolve(scope, strings(body["fields"]), a.position(body)).value
        if isinstance(value, Protected):
            return value.type
        return by_oid(type_of(value)) if isinstance(value, ListColumn) else TEXT
    if kind == "CaseExpr":
        return by_oid(common_type(a, case_results(body), scope))
    if kind == "CoalesceExpr":
        return by_oid(common_type(a, body["args"], scope))
    return TEXT
