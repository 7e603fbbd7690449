"""Parameters and constants as sinks: what may become an envelope or a tag, with the casts that would be in the way.

``'x'``, ``$1``, ``5``, ``true``, NULL, and each of them under casts to types that the proxy knows: ``$1::varchar``,
``CAST('x' AS date)``, ``date 'x'``. Where an array is expected the same with casts to arrays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.types import builtin, modified
from phiproxy.sql.formula import Formula
from phiproxy.sql.parse import Node, location, only, strings
from phiproxy.types.casts import NUMBERS
from phiproxy.wire.arrays import TEXT_ARRAY_OID, VARCHAR_ARRAY_OID, array_from_text

TEXT_OID = 25
_TEXT_TYPES = {"text": TEXT_OID, "varchar": 1043}
_ARRAY_TYPES = {"text": TEXT_ARRAY_OID, "varchar": VARCHAR_ARRAY_OID}


class Named(dict[str, Any]):
    """A TypeName that was found among the database's own types (``owntypes``); equal to what it was as it was parsed."""

    def __init__(self, body: dict[str, Any], declared: DeclaredType) -> None:
        super().__init__(body)
        self.declared = declared

    def __deepcopy__(self, memo: dict[int, Any]) -> Named:
        """Return a copy of the body for the same type."""
        return Named(copy.deepcopy(dict(self), memo), self.declared)


class Parameter(dict[str, Any]):
    """A ParamRef whose type is declared; ``declared`` is None for one whose values are not read here. Equal to what was parsed."""

    def __init__(self, body: dict[str, Any], oid: int, declared: DeclaredType | None) -> None:
        super().__init__(body)
        self.oid = oid
        self.declared = declared

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """Return a copy of the body for the same type."""
        return Parameter(copy.deepcopy(dict(self), memo), self.oid, self.declared)


@dataclass(frozen=True, slots=True)
class Inserted:
    """An occurrence that is not in the client's text: behind the node ``after``, between ``lead`` of a column and ``trail``."""

    after: Node
    column: Node
    lead: Callable[[str], bytes]
    trail: bytes


@dataclass(frozen=True, slots=True)
class SinkNode:
    """A parameter, constant or NULL. ``node`` is its wrapped tree, ``wrapper`` the outermost cast around it (or itself).

    ``formula``: it is an expression of such, its ``parts``, and ``literal`` is what that gives where no parameter is among them.
    ``own`` is the type of a number or truth value, which is a "constant", of an expression, or of a parameter for which it is
    declared; a string literal has none. ``closing`` is put behind it.
    """

    kind: Literal["param", "literal", "constant", "null", "formula"]
    node: Node
    wrapper: Node
    casts: tuple[Node, ...]
    number: int = 0
    literal: bytes = b""
    array: bool = False
    formula: Formula | None = None
    parts: tuple[SinkNode, ...] = ()
    inserted: Inserted | None = None
    own: DeclaredType | None = None
    closing: bytes = b""

    @property
    def numbers(self) -> frozenset[int]:
        """The parameters that it is made of."""
        return frozenset({self.number} if self.kind == "param" else {part.number for part in self.parts if part.kind == "param"})

    @property
    def type_oid(self) -> int:
        """OID of the type that it has by itself, or by its innermost cast; 0 where it has none."""
        types = self.types
        return types[0].oid if types else 0

    @property
    def types(self) -> tuple[DeclaredType, ...]:
        """The types that it has one after the other: its own, and those of its casts from the inside out."""
        casts = (cast_type(only(cast)[1]) for cast in reversed(self.casts))
        return (*(() if self.own is None else (self.own,)), *(found for found in casts if found is not None))

    @property
    def textual(self) -> bool:
        """Tell whether it is a text, which no cast cuts."""
        types = (t.element if self.array and t.element is not None else t for t in self.types)
        return all(t.family in _TEXT_TYPES and t.typmod == -1 for t in types)

    @property
    def is_number(self) -> bool:
        """Tell whether it is a number as it is written, which is read as a numeric whatever its type is."""
        return self.kind != "param" and self.own is not None and self.own.family in NUMBERS

    @property
    def value_type(self) -> DeclaredType | None:
        """The type of its value, which the outermost cast says, or of an array's elements; None where nothing says it."""
        outermost = self.types[-1] if self.types else None
        return outermost.element if outermost is not None and self.array else outermost

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
    if isinstance(name, Named) or len(names) != 1 or names[0] not in _TEXT_TYPES:
        return None
    if array:
        return DeclaredType(names[0] + "[]", _ARRAY_TYPES[names[0]])
    return DeclaredType(names[0], _TEXT_TYPES[names[0]])


def cast_type(body: Node) -> DeclaredType | None:
    """Return the type that a cast names, where it is one that values are read and written in; else None."""
    name = body["typeName"]
    if isinstance(name, Named):
        return name.declared
    names = strings(name.get("names"))
    if name.get("setof") or name.get("pct_type") or len(name.get("arrayBounds", ())) > 1:
        return None
    if len(names) == 2 and names[0] == "pg_catalog":
        names = names[1:]
    constants = [only(node)[1] for node in name.get("typmods", ())]
    if len(names) != 1 or not all("ival" in constant for constant in constants):
        return None
    return modified(names[0], [constant["ival"].get("ival", 0) for constant in constants], array="arrayBounds" in name)


def _is_read(body: Node, *, array: bool) -> bool:
    """Tell whether a cast is one that a sink may stand under."""
    found = cast_type(body)
    if found is None or (array and found.element is None):
        return False
    scalar = found.element or found
    if found.element is not None and not array and scalar.typmod != -1:
        return False  # whose elements it cuts or rounds
    # N'x' is a cast to pg_catalog.bpchar that does not stand in the text, as char 'x' is one.
    return scalar.family != "bpchar" or bool(body["typeName"].get("typmods")) or strings(body["typeName"]["names"]) == ["bpchar"]


def peel(node: Node, *, array: bool = False) -> tuple[Node, tuple[Node, ...]]:
    """Return what is under the no-op text casts (``array``: text array casts) of a node, and those casts from the outside in."""
    casts: list[Node] = []
    while True:
        kind, body = only(node)
        if kind != "TypeCast" or text_cast(body, array=array) is None:
            return node, tuple(casts)
        casts.append(node)
        node = body["arg"]


def peel_arrays(node: Node) -> tuple[Node, tuple[Node, ...]]:
    """Return what is under casts to arrays of a type that is known, and those casts from the outside in."""
    casts: list[Node] = []
    while True:
        kind, body = only(node)
        if kind != "TypeCast" or not _is_read(body, array=True):
            return node, tuple(casts)
        casts.append(node)
        node = body["arg"]


def as_sink(node: Node, *, array: bool = False) -> SinkNode | None:
    """Return the sink that a node is, or None; ``array``: where an array of text is expected."""
    inner, casts = node, []
    kind, body = only(inner)
    while kind == "TypeCast" and _is_read(body, array=array):
        casts.append(inner)
        inner = body["arg"]
        kind, body = only(inner)
    return _sink(node, inner, tuple(casts), array=array)


def _sink(node: Node, inner: Node, casts: tuple[Node, ...], *, array: bool) -> SinkNode | None:
    kind, body = only(inner)
    if kind == "ParamRef":
        number = body.get("number", 0)
        own = body.declared if isinstance(body, Parameter) else None
        if not number or (isinstance(body, Parameter) and (own is None or (array and own.element is None))):
            return None  # to a protected column it is what any other expression is
        return SinkNode("param", inner, node, casts, number=number, array=array, own=own)
    if kind != "A_Const":
        return None
    if body.get("isnull"):
        return SinkNode("null", inner, node, casts, array=array)
    if "sval" in body:
        return SinkNode("literal", inner, node, casts, literal=body["sval"].get("sval", "").encode("utf-8"), array=array)
    own = None if array else _constant_type(body)
    return None if own is None else SinkNode("constant", inner, node, casts, literal=_spelled(body), own=own)


def _constant_type(body: Node) -> DeclaredType | None:
    """Return the type that PostgreSQL gives a number or a truth value (make_const)."""
    if "ival" in body:
        return builtin("int4")
    if "boolval" in body:
        return builtin("bool")
    digits = body.get("fval", {}).get("fval", "")
    if not digits:
        return None
    if not digits.lstrip("-").isdigit():
        return builtin("numeric")
    # -2147483648 comes as the FCONST 2147483648 and its sign, and is an integer all the same.
    fits = (name for name, bits in (("int4", 31), ("int8", 63)) if -(1 << bits) <= int(digits) < 1 << bits)
    return builtin(next(fits, "numeric"))


def _spelled(body: Node) -> bytes:
    """Return a number or truth value in its type's text form."""
    if "boolval" in body:
        return b"t" if body["boolval"].get("boolval") else b"f"
    if "ival" in body:
        return b"%d" % body["ival"].get("ival", 0)
    return str(body["fval"]["fval"]).encode()
