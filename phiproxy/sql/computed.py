"""Trees of constants and parameters to formulas: what the proxy evaluates itself on its way to a protected column."""

from __future__ import annotations

from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.index.normal import normal
from phiproxy.index.spelling import Call, Column, write
from phiproxy.index.table import row
from phiproxy.index.transform import transform
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import own_name
from phiproxy.sql.expressions import located
from phiproxy.sql.formula import CASE_MAPPING, EVALUATED, STRICT, Formula
from phiproxy.sql.lengths import cut_by
from phiproxy.sql.operands import TEXT
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.sinks import TEXT_OID, SinkNode, as_sink, cast_type, peel, text_cast
from phiproxy.sql.spelling import read_tree
from phiproxy.wire.arrays import spell_array
from phiproxy.wire.values import VARCHAR_OID

_PLAIN_CALL = {"funcname", "args", "funcformat", "location"}


def computed_sink(a: Analysis, node: Node, *, whole: bool = False) -> SinkNode | None:
    """Return an expression as a sink whose value the proxy computes, or None; a constant one is computed here.

    ``whole``: COALESCE too, which else has a rule of its own.
    """
    if not (_is_computed(node) or (whole and "CoalesceExpr" in node)):
        return None
    parts: list[SinkNode] = []
    formula = _read(a, node, parts)
    if formula is None:
        return None
    if any(part.kind == "param" for part in parts):
        return SinkNode("formula", node, node, (), formula=formula, parts=tuple(parts), own=_type(node))
    try:
        value = formula.evaluate(())
    except ValueRefused as refused:
        refused.position = a.position(located(node))
        raise
    return SinkNode(
        "null" if value is None else "literal", node, node, (), literal=value or b"", formula=formula, parts=tuple(parts),
        own=_type(node),
    )  # fmt: skip


def _type(node: Node) -> DeclaredType:
    """Return the type of an expression of texts: that of a cast, else text, as functions and operators return."""
    kind, body = only(node)
    return (cast_type(body) if kind == "TypeCast" else None) or TEXT


def compared_sink(a: Analysis, node: Node) -> SinkNode | None:
    """Return the same of an operand of a comparison; nothing is refused, since it may have nothing to do with what is protected."""
    kind, body = only(node)
    if kind == "A_Expr" and body["kind"] != "AEXPR_OP":
        return None  # NULLIF is compared part by part
    try:
        return computed_sink(a, node)
    except ValueRefused:
        return None


def constant_sink(a: Analysis, node: Node, *, array: bool = False) -> SinkNode | None:
    """Return an argument of EXECUTE as a sink, or None for one that is no constant: it is assigned to a text, or an array."""
    sink = as_sink(node, array=array)
    if sink is None:
        sink = _constant_array(a, node) if array else computed_sink(a, node, whole=True)
    return None if sink is None or sink.numbers else sink


def _constant_array(a: Analysis, node: Node) -> SinkNode | None:
    kind, body = only(peel(node, array=True)[0])
    if kind != "A_ArrayExpr":
        return None
    sinks = [constant_sink(a, element) for element in body.get("elements", ())]
    parts = tuple(sink for sink in sinks if sink is not None)
    if len(parts) != len(sinks):
        return None
    value = spell_array([None if sink.kind == "null" else sink.literal for sink in parts])
    return SinkNode("literal", node, node, (), literal=value, array=True, formula=Formula(value=value), parts=parts)


def _is_computed(node: Node) -> bool:
    """Tell whether this is more than a sink and its casts; CASE and COALESCE have rules of their own."""
    kind, body = only(node)
    if kind == "TypeCast":
        return (text_cast(body) is not None or cut_by(body) is not None) and (cut_by(body) is not None or _is_computed(body["arg"]))
    return kind == "FuncCall" or (kind == "A_Expr" and body["kind"] in ("AEXPR_OP", "AEXPR_NULLIF"))


def _read(a: Analysis, node: Node, parts: list[SinkNode]) -> Formula | None:
    sink = as_sink(node)
    if sink is not None and sink.textual and not any(declared.element is not None for declared in sink.types):
        parts.append(sink)
        if sink.kind == "param":
            return Formula(number=sink.number, type_oid=sink.type_oid or TEXT_OID)
        return Formula(value=sink.literal if sink.kind == "literal" else None)
    kind, body = only(node)
    if kind == "TypeCast":
        return _cast(a, body, parts)
    if kind == "CoalesceExpr":
        return _call(a, "coalesce", body["args"], parts)
    if kind == "A_Expr" and body["kind"] == "AEXPR_NULLIF" and "=" not in a.context.catalog.replaced:
        return _call(a, "nullif", [body["lexpr"], body["rexpr"]], parts)
    if kind == "A_Expr" and body["kind"] == "AEXPR_OP" and "lexpr" in body:
        name = own_name(a, strings(body["name"]))
        return _call(a, name, [body["lexpr"], body["rexpr"]], parts) if name == "||" else None
    if kind == "FuncCall" and not set(body) - _PLAIN_CALL:
        name = own_name(a, strings(body["funcname"]))
        arguments = body.get("args", [])
        if name in EVALUATED and (name not in STRICT or len(arguments) in STRICT[name][0]) and arguments:
            return _function(a, name, arguments, parts)
        return _of_an_index(a, name, arguments, parts)
    return None


def _function(a: Analysis, name: str, arguments: list[Node], parts: list[SinkNode]) -> Formula | None:
    if name == "concat" and any((sink := as_sink(n)) is not None and sink.kind == "param" and not sink.types for n in arguments):
        return None  # PostgreSQL does not know the type of such a parameter
    return _call(a, name, arguments, parts)


def _of_an_index(a: Analysis, name: str, arguments: list[Node], parts: list[SinkNode]) -> Formula | None:
    """Return a function that an index may use, of a text and constants; it is computed as the index is."""
    characters = a.context.protection.characters
    found = row(name) or row({"substr": "substring"}.get(name, ""))
    if found is None or found.operand >= len(arguments):
        return None
    constants = [read_tree(node, lambda _: None, lambda _: "") for node in arguments]
    constants[found.operand] = Column()
    known = tuple(argument for argument in constants if argument is not None)
    try:
        expression = write(normal(Call(name, known), "text"))
        text = transform(expression, "text").result == "text"
        if name in CASE_MAPPING and not a.context.catalog.ascii_case and not characters.family:
            return None  # not even of ASCII the case is known
    except ConfigError:
        return None
    inner = _read(a, arguments[found.operand], parts) if text and len(known) == len(constants) else None
    return None if inner is None else Formula("index", (inner,), expression=expression, characters=characters)


def _call(a: Analysis, name: str, arguments: list[Node], parts: list[SinkNode]) -> Formula | None:
    read = [_read(a, argument, parts) for argument in arguments]
    known = tuple(formula for formula in read if formula is not None)
    return Formula(name, known) if name and len(known) == len(read) else None


def _cast(a: Analysis, body: Node, parts: list[SinkNode]) -> Formula | None:
    limit = cut_by(body)
    if limit is None and text_cast(body) is None:
        return None
    sink = as_sink(body["arg"])
    inner = _read(a, body["arg"], parts)
    if inner is None or limit is None:
        return inner
    if sink is not None and sink.kind == "param" and not sink.types:
        inner = Formula(number=sink.number, type_oid=VARCHAR_OID)
    return Formula("cast", (inner,), limit=limit)
