"""Casts to varchar(n) on the way into a protected column: they cut the value where an assignment would refuse it (manual 8.3)."""

from __future__ import annotations

import dataclasses

from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.sinks import SinkNode, as_sink, text_cast
from phiproxy.wire.values import VARCHAR_OID


def shorter(one: int | None, other: int | None) -> int | None:
    """Return what two cuts in a row leave."""
    return min((n for n in (one, other) if n is not None), default=None)


def cut_by(body: Node) -> int | None:
    """Return n of a cast to varchar(n), or None for any other."""
    name = body["typeName"]
    if name.get("arrayBounds") or name.get("setof") or name.get("pct_type") or len(name.get("typmods", ())) != 1:
        return None
    if strings(name.get("names")) not in (["varchar"], ["pg_catalog", "varchar"]):
        return None
    _, constant = only(name["typmods"][0])
    found: int | None = constant.get("ival", {}).get("ival")
    return found


def peel_cuts(node: Node) -> tuple[Node, tuple[Node, ...], int | None]:
    """Return what is under casts to text or varchar(n), those casts from the outside in, and how many characters they leave."""
    casts: list[Node] = []
    limit = None
    while True:
        kind, body = only(node)
        own = cut_by(body) if kind == "TypeCast" else None
        if kind != "TypeCast" or (own is None and text_cast(body) is None):
            return node, tuple(casts), limit
        limit = shorter(limit, own)
        casts.append(node)
        node = body["arg"]


def cut_sink(node: Node) -> tuple[SinkNode | None, int | None, int]:
    """Return a node as a sink, what its casts leave of it, and the type that a cast to varchar(n) gives a parameter (or 0)."""
    inner, casts, limit = peel_cuts(node)
    sink = as_sink(inner)
    if sink is None:
        return None, limit, 0
    innermost = cut_by(only(casts[-1])[1]) if casts and not sink.types else None
    return dataclasses.replace(sink, wrapper=node, casts=(*casts, *sink.casts)), limit, 0 if innermost is None else VARCHAR_OID
