"""Parameters and literals as sinks: what may become an envelope or a tag, with the casts that would be in the way.

``'x'``, ``$1``, NULL, and each of them under casts to the text types that change nothing: ``$1::varchar``, ``CAST('x' AS text)``,
``text 'x'``. A cast with a length truncates and is not a no-op, so it is no sink. Where an array is expected the same with casts to
text[] and varchar[].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.formula import Formula
from phiproxy.sql.parse import Node, location, only, strings
from phiproxy.wire.arrays import TEXT_ARRAY_OID, VARCHAR_ARRAY_OID, array_from_text

TEXT_OID = 25
_TEXT_TYPES = {"text": TEXT_OID, "varchar": 1043}
_ARRAY_TYPES = {"text": TEXT_ARRAY_OID, "varchar": VARCHAR_ARRAY_OID}
_ELEMENT_TYPES = {oid: _TEXT_TYPES[name] for name, oid in _ARRAY_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Inserted:
    """An occurrence that is not in the client's text: behind the node ``after``, between ``lead`` of a column and ``trail``."""

    after: Node
    column: Node
    lead: Callable[[str], bytes]
    trail: bytes


@dataclass(frozen=True, slots=True)
class SinkNode:
    """A parameter, string literal or NULL. ``node`` is its wrapped tree, ``wrapper`` the outermost cast around it (or itself).

    ``formula``: it is an expression of such, its ``parts``, and ``literal`` is what that gives where no parameter is among them.
    """

    kind: Literal["param", "literal", "null", "formula"]
    node: Node
    wrapper: Node
    casts: tuple[Node, ...]
    number: int = 0
    literal: bytes = b""
    array: bool = False
    formula: Formula | None = None
    parts: tuple[SinkNode, ...] = ()
    inserted: Inserted | None = None

    @property
    def numbers(self) -> frozenset[int]:
        """The parameters that it is made of."""
        return frozenset({self.number} if self.kind == "param" else {part.number for part in self.parts if part.kind == "param"})

    @property
    def type_oid(self) -> int:
        """OID of the innermost cast's type, or 0."""
        if self.formula is not None:
            return TEXT_OID
        innermost = text_cast(only(self.casts[-1])[1], array=self.array) if self.casts else None
        return innermost.oid if innermost is not None else 0

    @property
    def value_oid(self) -> int:
        """OID of the type of its value, which the outermost cast says, or of an array's elements; 0 where nothing says it."""
        if self.formula is not None:
            return TEXT_OID
        outermost = text_cast(only(self.casts[0])[1], array=self.array) if self.casts else None
        if outermost is None:
            return 0
        return _ELEMENT_TYPES[outermost.oid] if self.array else outermost.oid

    @property
    def values(self) -> frozenset[bytes]:
        """What a literal says: itself, and of an array its elements; ValueRefused when it is no array."""
        if self.parts:
            return frozenset({self.literal} - {b""}).union(*(part.values for part in self.parts))
        if self.kind != "literal":
            return frozenset()
        if not self.array:
            return frozenset({self.literal})
        return frozenset({self.literal, *(e for e in array_from_text(self.literal).elements if e is not None)})

    @property
    def offset(self) -> int:
        """Byte offset of the parameter or literal itself, or of the first part."""
        if self.parts:
            return min(part.offset for part in self.parts)
        return location(only(self.node)[1])


def text_cast(body: Node, *, array: bool = False) -> DeclaredType | None:
    """Return the type of a cast that leaves text as it is (no length), or with ``array`` an array of text; else None."""
    name = body["typeName"]
    names = strings(name.get("names"))
    if name.get("typmods") or bool(name.get("arrayBounds")) is not array or name.get("setof") or name.get("pct_type"):
        return None
    if len(names) == 2 and names[0] == "pg_catalog":
        names = names[1:]
    if len(names) != 1 or names[0] not in _TEXT_TYPES:
        return None
    if array:
        return DeclaredType(names[0] + "[]", _ARRAY_TYPES[names[0]])
    return DeclaredType(names[0], _TEXT_TYPES[names[0]])


def peel(node: Node, *, array: bool = False) -> tuple[Node, tuple[Node, ...]]:
    """Return what is under the no-op text casts (``array``: text array casts) of a node, and those casts from the outside in."""
    casts: list[Node] = []
    while True:
        kind, body = only(node)
        if kind != "TypeCast" or text_cast(body, array=array) is None:
            return node, tuple(casts)
        casts.append(node)
        node = body["arg"]


def as_sink(node: Node, *, array: bool = False) -> SinkNode | None:
    """Return the sink that a node is, or None; ``array``: where an array of text is expected."""
    inner, casts = peel(node, array=array)
    kind, body = only(inner)
    if kind == "ParamRef":
        number = body.get("number", 0)
        return SinkNode("param", inner, node, casts, number=number, array=array) if number else None
    if kind != "A_Const":
        return None
    if body.get("isnull"):
        return SinkNode("null", inner, node, casts, array=array)
    if "sval" in body:
        return SinkNode("literal", inner, node, casts, literal=body["sval"].get("sval", "").encode("utf-8"), array=array)
    return None
