"""Parameters and literals as sinks: what may become an envelope or a tag, with the casts that would be in the way.

``'x'``, ``$1``, NULL, and each of them under casts to the text types that change nothing: ``$1::varchar``, ``CAST('x' AS text)``,
``text 'x'``. A cast with a length truncates and is not a no-op, so it is no sink.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.parse import Node, location, only, strings

TEXT_OID = 25
_TEXT_TYPES = {"text": TEXT_OID, "varchar": 1043}


@dataclass(frozen=True, slots=True)
class SinkNode:
    """A parameter, string literal or NULL. ``node`` is its wrapped tree, ``wrapper`` the outermost cast around it (or itself)."""

    kind: Literal["param", "literal", "null"]
    node: Node
    wrapper: Node
    casts: tuple[Node, ...]
    number: int = 0
    literal: bytes = b""

    @property
    def type_oid(self) -> int:
        """OID of the innermost cast's type, or 0."""
        innermost = text_cast(only(self.casts[-1])[1]) if self.casts else None
        return innermost.oid if innermost is not None else 0

    @property
    def offset(self) -> int:
        """Byte offset of the parameter or literal itself."""
        return location(only(self.node)[1])


def text_cast(body: Node) -> DeclaredType | None:
    """Return the type of a cast that leaves text as it is (no length, no array), or None."""
    name = body["typeName"]
    names = strings(name.get("names"))
    if name.get("typmods") or name.get("arrayBounds") or name.get("setof") or name.get("pct_type"):
        return None
    if len(names) == 2 and names[0] == "pg_catalog":
        names = names[1:]
    if len(names) != 1 or names[0] not in _TEXT_TYPES:
        return None
    return DeclaredType(names[0], _TEXT_TYPES[names[0]])


def peel(node: Node) -> tuple[Node, tuple[Node, ...]]:
    """Return what is under the no-op text casts of a node, and those casts from the outside in (wrapped)."""
    casts: list[Node] = []
    while True:
        kind, body = only(node)
        if kind != "TypeCast" or text_cast(body) is None:
            return node, tuple(casts)
        casts.append(node)
        node = body["arg"]


def as_sink(node: Node) -> SinkNode | None:
    """Return the sink that a node is, or None."""
    inner, casts = peel(node)
    kind, body = only(inner)
    if kind == "ParamRef":
        return SinkNode("param", inner, node, casts, number=body.get("number", 0)) if body.get("number") else None
    if kind != "A_Const":
        return None
    if body.get("isnull"):
        return SinkNode("null", inner, node, casts)
    if "sval" in body:
        return SinkNode("literal", inner, node, casts, literal=body["sval"].get("sval", "").encode("utf-8"))
    return None
