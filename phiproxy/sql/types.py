"""Which type a CASE or COALESCE has on its way into a column, where that decides how values in it are read (manual 10.5)."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import StatementRefused
from phiproxy.sql import type_resolution
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.dated import dated_sink
from phiproxy.sql.given_types import type_of
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.scope import ListColumn, Protected, Scope, resolve
from phiproxy.sql.sinks import as_sink, cast_type
from phiproxy.sql.type_resolution import TEXT, Type
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name
from phiproxy.types.shared import changes_little


def case_results(body: Node) -> list[Node]:
    """Return the results of a CaseExpr body; ELSE counts first for the type (parse_expr.c, transformCaseExpr)."""
    results = [only(when)[1]["result"] for when in body["args"]]
    return [body["defresult"], *results] if "defresult" in body else results


def common_type(a: Analysis, nodes: Sequence[Node], scope: Scope) -> DeclaredType:
    """Return the type of CASE or COALESCE on its way into a column.

    StatementRefused where a column's values would become another type first, and then not be what they are without that.
    """
    found = [_type(a, node, scope) for node in nodes]
    with a.placed(only(nodes[0])[1]):
        shared = type_resolution.common_type(found)
        for node, declared in zip(nodes, found, strict=True):
            if as_sink(node) is None and declared is not None and not changes_little(declared, shared):
                raise StatementRefused(
                    f"a value of type {sql_name(declared)} would become {sql_name(shared)} on its way to a protected column",
                    hint="Cast all values to the column's type.",
                )
    return shared


def _type(a: Analysis, node: Node, scope: Scope) -> Type:
    """Return a type, None for what has none of its own."""
    kind, body = only(node)
    sink = as_sink(node) or dated_sink(a, node)
    if sink is not None:
        return sink.value_type
    if kind == "TypeCast" and cast_type(body) is None:
        raise a.refuse(
            "a value on its way to a protected column is of a type that is not known here",
            body,
            hint="Give constants, parameters or columns of one type.",
        )
    if kind == "TypeCast":
        return cast_type(body)
    if kind == "ColumnRef" and strings(body["fields"])[-1] != "*":
        value = resolve(scope, strings(body["fields"]), a.position(body)).value
        if isinstance(value, Protected):
            return value.type
        return type_of(value) if isinstance(value, ListColumn) else TEXT
    if kind == "CaseExpr":
        return common_type(a, case_results(body), scope)
    if kind == "CoalesceExpr":
        return common_type(a, body["args"], scope)
    return TEXT
