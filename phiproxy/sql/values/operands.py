"""Operands: parameters and constants, which may become an envelope or a tag, with the casts around them.

They are ``'x'``, ``$1``, ``5``, ``true`` and NULL, each also under casts to types that the proxy knows: ``$1::varchar``, ``CAST('x'
AS date)``, ``date 'x'``. Where an array is expected, casts to arrays count too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from phiproxy.frozen import dataclass
from phiproxy.long_values import encoded
from phiproxy.policy.column_types import builtin, modified
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.values.formula import Formula
from phiproxy.types.casts import NUMBERS
from phiproxy.wire.arrays import array_from_text
from phiproxy.wire.oids import TEXT_ARRAY_OID, TEXT_OID, VARCHAR_ARRAY_OID, VARCHAR_OID

_TEXT_TYPES = {"text": TEXT_OID, "varchar": VARCHAR_OID}
_ARRAY_TYPES = {"text": TEXT_ARRAY_OID, "varchar": VARCHAR_ARRAY_OID}


class Named(dict[str, Any]):
    """A TypeName of one of the database's own types (``user_types``), with the type. It equals the TypeName that was parsed."""

    def __init__(self, body: dict[str, Any], declared: DeclaredType) -> None:
        super().__init__(body)
        self.declared = declared

    def __deepcopy__(self, memo: dict[int, Any]) -> Named:
        return Named(copy.deepcopy(dict(self), memo), self.declared)


class Parameter(dict[str, Any]):
    """A ParamRef with a declared type, which is None if its values cannot be read here. It equals the ParamRef that was parsed."""

    def __init__(self, body: dict[str, Any], oid: int, declared: DeclaredType | None) -> None:
        super().__init__(body)
        self.oid = oid
        self.declared = declared

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        return Parameter(copy.deepcopy(dict(self), memo), self.oid, self.declared)


@dataclass(frozen=True, slots=True)
class Inserted:
    """An occurrence that the client's text does not have: it stands behind the node ``after``, between ``lead`` and ``trail``."""

    after: Node
    column: Node
    lead: Callable[[str], bytes]
    trail: bytes


@dataclass(frozen=True, slots=True)
class Operand:
    """A parameter, constant or NULL, or a formula of these.

    ``node`` is the node itself, ``wrapper`` the outermost cast around it. A ``formula`` is an expression of other operands, its
    ``parts``; without parameters ``literal`` is its value. ``own`` is the type of a number or boolean (kind "constant"), of a
    formula, or of a declared parameter; a string literal has none. ``closing`` is text to be put behind it.
    """

    kind: Literal["param", "literal", "constant", "null", "formula"]
    node: Node
    wrapper: Node
    casts: tuple[Node, ...]
    number: int = 0
    literal: bytes = b""
    array: bool = False
    formula: Formula | None = None
    parts: tuple[Operand, ...] = ()
    inserted: Inserted | None = None
    own: DeclaredType | None = None
    closing: bytes = b""

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of the parameters in it."""
        return frozenset({self.number} if self.kind == "param" else {part.number for part in self.parts if part.kind == "param"})

    @property
    def type_oid(self) -> int:
        """The OID of its own type, or of its innermost cast; 0 if it has none."""
        types = self.types
        return types[0].oid if types else 0

    @property
    def types(self) -> tuple[DeclaredType, ...]:
        """The types that it is converted to in turn: its own, then those of its casts."""
        own = () if self.own is None else (self.own,)
        if not self.casts:
            return own
        casts = (cast_type(only(cast)[1]) for cast in reversed(self.casts))
        return (*own, *(declared for declared in casts if declared is not None))

    @property
    def textual(self) -> bool:
        """Whether it is text, and no cast cuts it."""
        types = (t.element if self.array and t.element is not None else t for t in self.types)
        return all(t.family in _TEXT_TYPES and t.typmod == -1 for t in types)

    @property
    def is_number(self) -> bool:
        """Whether it is written as a number, which is read as a numeric before it is converted."""
        return self.kind != "param" and self.own is not None and self.own.family in NUMBERS

    @property
    def value_type(self) -> DeclaredType | None:
        """The type of its value, or of an array's elements, given by the outermost cast; None if nothing gives it one."""
        outermost = self.types[-1] if self.types else None
        return outermost.element if outermost is not None and self.array else outermost

    @property
    def values(self) -> frozenset[bytes]:
        """The value of a literal, and the elements of an array; ValueRefused where it is none."""
        if self.parts:
            return frozenset({self.literal} - {b""}).union(*(part.values for part in self.parts))
        if self.kind != "literal":
            return frozenset()
        if not self.array:
            return frozenset({self.literal})
        return frozenset({self.literal, *(e for e in array_from_text(self.literal).elements if e is not None)})

    @property
    def said(self) -> bytes | None:
        """What a literal, number or truth value says; None of a parameter, NULL and an expression with parameters."""
        return self.literal if self.kind in ("literal", "constant") else None

    @property
    def offset(self) -> int:
        """The byte offset of the parameter or literal, or of the first part."""
        if self.parts:
            return min(part.offset for part in self.parts)
        return location(only(self.node)[1])


def text_cast(body: Node, *, array: bool = False) -> DeclaredType | None:
    """Return the type of a cast to text or varchar without a length, or (``array``) to an array of these; else None."""
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
    """Return the type of a cast if its values can be read, else None."""
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
    declared = cast_type(body)
    if declared is None or (array and declared.element is None):
        return False
    scalar = declared.element or declared
    if declared.element is not None and not array and scalar.typmod != -1:
        return False  # whose elements it cuts or rounds
    # N'x' is a cast to pg_catalog.bpchar that does not stand in the text, as char 'x' is one.
    return scalar.family != "bpchar" or bool(body["typeName"].get("typmods")) or strings(body["typeName"]["names"]) == ["bpchar"]


def _peeled(node: Node, passes: Callable[[Node], bool]) -> tuple[Node, tuple[Node, ...]]:
    casts: list[Node] = []
    while "TypeCast" in node and passes(node["TypeCast"]):
        casts.append(node)
        node = node["TypeCast"]["arg"]
    return node, tuple(casts)


def peel(node: Node, *, array: bool = False) -> tuple[Node, tuple[Node, ...]]:
    """Return the expression under casts to text (``array``: to text arrays), and those casts from the outside in."""
    return _peeled(node, lambda cast: text_cast(cast, array=array) is not None)


def peel_arrays(node: Node) -> tuple[Node, tuple[Node, ...]]:
    """Return the expression under casts to arrays of known types, and those casts from the outside in."""
    return _peeled(node, partial(_is_read, array=True))


def as_operand(node: Node, *, array: bool = False) -> Operand | None:
    """Return the operand that a node is, or None; ``array``: where an array is expected."""
    inner, casts = _peeled(node, partial(_is_read, array=array))
    kind, body = only(inner)
    if kind == "ParamRef":
        number = body.get("number", 0)
        own = body.declared if isinstance(body, Parameter) else None
        if not number or (isinstance(body, Parameter) and (own is None or (array and own.element is None))):
            return None  # to a protected column it is what any other expression is
        return Operand("param", inner, node, casts, number=number, array=array, own=own)
    if kind != "A_Const":
        return None
    if body.get("isnull"):
        return Operand("null", inner, node, casts, array=array)
    if "sval" in body:
        return Operand("literal", inner, node, casts, literal=encoded(body["sval"].get("sval", "")), array=array)
    own = None if array else constant_type(body)
    return None if own is None else Operand("constant", inner, node, casts, literal=constant_text(body), own=own)


def constant_type(body: Node) -> DeclaredType | None:
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


def constant_text(body: Node) -> bytes:
    """Return a number or truth value, the body of an A_Const, in its type's text form."""
    if "boolval" in body:
        return b"t" if body["boolval"].get("boolval") else b"f"
    if "ival" in body:
        return b"%d" % body["ival"].get("ival", 0)
    return str(body["fval"].get("fval", "")).encode()


def cut_by(body: Node) -> int | None:
    """Return n of a cast to varchar(n), or None for any other."""
    name = body["typeName"]
    if name.get("arrayBounds") or name.get("setof") or name.get("pct_type") or len(name.get("typmods", ())) != 1:
        return None
    if strings(name.get("names")) not in (["varchar"], ["pg_catalog", "varchar"]):
        return None
    _, constant = only(name["typmods"][0])
    length: int | None = constant.get("ival", {}).get("ival")
    return length


def peel_cuts(node: Node) -> tuple[Node, tuple[Node, ...]]:
    """Return the expression under casts to text or varchar(n), and those casts from the outside in."""
    return _peeled(node, lambda cast: cut_by(cast) is not None or text_cast(cast) is not None)
