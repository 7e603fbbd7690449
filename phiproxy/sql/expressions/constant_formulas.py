"""Expressions of constants and parameters as formulas, which the proxy evaluates before it seals or compares the value."""

from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.index.function_table import row
from phiproxy.index.registered_form import normal
from phiproxy.index.spelling import Call, Column, write
from phiproxy.index.transform import transform
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.expression import located
from phiproxy.sql.expressions.index_expressions import own_name
from phiproxy.sql.text.parse import Node, is_plain_call, only, strings
from phiproxy.sql.values.accepted_types import TEXT
from phiproxy.sql.values.formula import EVALUATED, STRICT, Formula
from phiproxy.sql.values.index_spelling import read_tree
from phiproxy.sql.values.operands import Operand, as_operand, cast_type, cut_by, peel, text_cast
from phiproxy.wire.arrays import spell_array
from phiproxy.wire.oids import TEXT_OID, VARCHAR_OID


def computed_operand(a: Analysis, node: Node, *, whole: bool = False) -> Operand | None:
    """Return an expression as an operand whose value the proxy computes, or None. Without parameters it is computed here.

    ``whole``: COALESCE counts too; otherwise it has a rule of its own.

    INSERT INTO patients (ssn) VALUES (lower($1))
    → INSERT INTO patients (ssn) VALUES (envelope(lower($1)))
    """
    if not (_is_computed(node) or (whole and "CoalesceExpr" in node)):
        return None
    parts: list[Operand] = []
    formula = _read(a, node, parts)
    if formula is None:
        return None
    if any(part.kind == "param" for part in parts):
        return Operand("formula", node, node, (), formula=formula, parts=tuple(parts), own=_type(node))
    try:
        value = formula.evaluate(())
    except ValueRefused as refused:
        refused.position = a.position(located(node))
        raise
    return Operand(
        "null" if value is None else "literal", node, node, (), literal=value or b"", formula=formula, parts=tuple(parts),
        own=_type(node),
    )  # fmt: skip


def text_formula(a: Analysis, node: Node, parts: list[Operand]) -> Formula | None:
    """Return a text of constants and parameters, be it only one of them, as a formula, and add its ``parts``; None for others."""
    try:
        return _read(a, node, parts)
    except ValueRefused:
        return None


def _type(node: Node) -> DeclaredType:
    """Return the type of a formula: that of a cast, else text, which functions and operators return."""
    kind, body = only(node)
    return (cast_type(body) if kind == "TypeCast" else None) or TEXT


def compared_operand(a: Analysis, node: Node) -> Operand | None:
    """Return an operand of a comparison as such an expression, or None. Nothing is refused: it may meet nothing protected.

    SELECT id FROM patients WHERE ssn = $1 || '-9'
    → SELECT id FROM patients WHERE tag(ssn) = tag($1 || '-9')
    """
    kind, body = only(node)
    if kind == "A_Expr" and body["kind"] != "AEXPR_OP":
        return None  # NULLIF is compared part by part
    try:
        return computed_operand(a, node)
    except ValueRefused:
        return None


def constant_operand(a: Analysis, node: Node, *, array: bool = False) -> Operand | None:
    """Return an argument of EXECUTE as an operand, or None where it is no constant."""
    operand = as_operand(node, array=array)
    if operand is None:
        operand = _constant_array(a, node) if array else computed_operand(a, node, whole=True)
    return None if operand is None or operand.numbers else operand


def _constant_array(a: Analysis, node: Node) -> Operand | None:
    kind, body = only(peel(node, array=True)[0])
    if kind != "A_ArrayExpr":
        return None
    elements = [constant_operand(a, element) for element in body.get("elements", ())]
    parts = tuple(operand for operand in elements if operand is not None)
    if len(parts) != len(elements):
        return None
    value = spell_array([None if operand.kind == "null" else operand.literal for operand in parts])
    return Operand("literal", node, node, (), literal=value, array=True, formula=Formula(value=value), parts=parts)


def _is_computed(node: Node) -> bool:
    """Tell whether an expression is more than an operand under casts; CASE and COALESCE have rules of their own."""
    kind, body = only(node)
    if kind == "TypeCast":
        return (text_cast(body) is not None or cut_by(body) is not None) and (cut_by(body) is not None or _is_computed(body["arg"]))
    return kind == "FuncCall" or (kind == "A_Expr" and body["kind"] in ("AEXPR_OP", "AEXPR_NULLIF"))


def _read(a: Analysis, node: Node, parts: list[Operand]) -> Formula | None:
    operand = as_operand(node)
    if operand is not None and operand.textual and not any(declared.element is not None for declared in operand.types):
        parts.append(operand)
        if operand.kind == "param":
            return Formula(number=operand.number, type_oid=operand.type_oid or TEXT_OID)
        return Formula(value=operand.literal if operand.kind == "literal" else None)
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
    if kind == "FuncCall" and is_plain_call(body):
        name = own_name(a, strings(body["funcname"]))
        arguments = body.get("args", [])
        if name in EVALUATED and (name not in STRICT or len(arguments) in STRICT[name][0]) and arguments:
            # PostgreSQL does not know the type of a parameter of concat() without a cast.
            given = [as_operand(argument) for argument in arguments] if name == "concat" else []
            untyped = any(one is not None and one.kind == "param" and not one.types for one in given)
            return None if untyped else _call(a, name, arguments, parts)
        return _of_an_index(a, name, arguments, parts)
    return None


def _of_an_index(a: Analysis, name: str, arguments: list[Node], parts: list[Operand]) -> Formula | None:
    """Return a function of blind indexes over a text and constants as a formula; it is computed as the index computes it."""
    characters = a.context.protection.characters
    function = row(name)
    if function is None or function.operand >= len(arguments):
        return None
    constants = [read_tree(node, lambda _: None, lambda _: "") for node in arguments]
    constants[function.operand] = Column()
    given = tuple(argument for argument in constants if argument is not None)
    try:
        expression = write(normal(Call(name, given), "text"))
        text = transform(expression, "text").result == "text"
        if function.case and not a.context.catalog.ascii_case and not characters.family:
            return None  # not even of ASCII the case is known
    except ConfigError:
        return None
    inner = _read(a, arguments[function.operand], parts) if text and len(given) == len(constants) else None
    return None if inner is None else Formula("index", (inner,), expression=expression, characters=characters)


def _call(a: Analysis, name: str, arguments: list[Node], parts: list[Operand]) -> Formula | None:
    read = [_read(a, argument, parts) for argument in arguments]
    formulas = tuple(formula for formula in read if formula is not None)
    return Formula(name, formulas) if name and len(formulas) == len(read) else None


def _cast(a: Analysis, body: Node, parts: list[Operand]) -> Formula | None:
    limit = cut_by(body)
    if limit is None and text_cast(body) is None:
        return None
    operand = as_operand(body["arg"])
    inner = _read(a, body["arg"], parts)
    if inner is None or limit is None:
        return inner
    if operand is not None and operand.kind == "param" and not operand.types:
        inner = Formula(number=operand.number, type_oid=VARCHAR_OID)
    return Formula("cast", (inner,), limit=limit)
