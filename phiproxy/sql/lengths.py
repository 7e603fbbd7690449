"""Casts to varchar(n) on the way into a protected column: they cut the value where an assignment would refuse it (manual 8.3)."""

from __future__ import annotations

from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.sinks import text_cast


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


def peel_cuts(node: Node) -> tuple[Node, tuple[Node, ...]]:
    """Return what is under casts to text or varchar(n), and those casts from the outside in."""
    casts: list[Node] = []
    while True:
        kind, body = only(node)
        if kind != "TypeCast" or (cut_by(body) is None and text_cast(body) is None):
            return node, tuple(casts)
        casts.append(node)
        node = body["arg"]
