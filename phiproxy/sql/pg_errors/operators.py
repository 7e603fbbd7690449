"""Operators in all their forms: whether there is one for the operands (parse_oper.c)."""

from collections.abc import Sequence

from phiproxy.errors import UndefinedOperator, WrongCount, WrongObjectType
from phiproxy.policy.signatures import BOOL, POLYMORPHIC, TEXT, UNKNOWN, Operator, Type
from phiproxy.sql.pg_errors.expression_types import common, condition, query, type_of
from phiproxy.sql.pg_errors.names_and_signatures import Level, Outputs, Verdict
from phiproxy.sql.text.parse import Node, location, only, strings

_HINT = "No operator matches the given name and argument types. You might need to add explicit type casts."
_NEGATED = {"NOT_BETWEEN": ("<", ">"), "NOT_BETWEEN_SYM": ("<", ">")}


def operator(v: Verdict, names: Sequence[str], left: Type, right: Type, offset: int) -> Type:
    """Return the type of an operation; ``left`` is 0 for a prefix operator. UndefinedOperator where there is none."""
    name = names[-1]
    if len(names) > 1 and names[0] != "pg_catalog":
        return None
    operators = v.signatures.operations(name, left, right)
    if not operators:
        shown = " ".join([*([v.shown(left)] if left != 0 else []), name, v.shown(right)])
        raise v.error(UndefinedOperator, f"operator does not exist: {shown}", offset, _HINT)
    return v.signatures.result(_nearest(v, operators, left, right), (left, right))


def _nearest(v: Verdict, operators: Sequence[Operator], left: Type, right: Type) -> Sequence[Operator]:
    """Return the operator of exactly these types, or all that may be meant.

    A literal has the other operand's type; two of them are texts, where the operator takes these.
    """
    if left == right == UNKNOWN:
        left = right = TEXT if any(o.left == o.right == TEXT for o in operators) else UNKNOWN
    one, other = v.signatures.base(left), v.signatures.base(right)
    one, other = (other if one == UNKNOWN else one), (one if other == UNKNOWN else other)
    exact = [o for o in operators if (o.left, o.right) == (one or 0, other)]
    if exact or None in (left, right, one, other) or UNKNOWN in (one, other):
        return exact or operators
    most = max((_matches(o, one, other) for o in operators), default=0)
    near = [o for o in operators if _matches(o, one, other) == most]
    # … and of those that take as many as they are, the ones that take most by the preferred types.
    preferred = max((_preferred(v, o, one, other) for o in near), default=0)
    return [o for o in near if _preferred(v, o, one, other) == preferred]


def _matches(o: Operator, left: Type, right: Type) -> int:
    return (o.left == left) + (o.right == right)


def _preferred(v: Verdict, o: Operator, left: Type, right: Type) -> int:
    pairs = ((o.left, left), (o.right, right))
    return sum(wanted == given or ((row := v.signatures.row(wanted)) is not None and row.preferred) for wanted, given in pairs)


def operator_expression(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject an operation without an operator for its operands.

    SELECT ssn + 1 FROM patients
    → refused 42883

    SELECT id FROM patients WHERE ssn IN (1, 2)
    → refused 42883
    """
    kind, names, offset = body["kind"].removeprefix("AEXPR_"), strings(body.get("name")), location(body)
    if kind.endswith(("BETWEEN", "BETWEEN_SYM")):
        value = type_of(v, body["lexpr"], level)
        for sign, end in zip(_NEGATED.get(kind, (">=", "<=")), only(body["rexpr"])[1]["items"], strict=True):
            operator(v, [sign], value, type_of(v, end, level), offset)
        return BOOL
    if kind == "IN" and "List" in body["rexpr"]:
        return _in(v, body, level)
    if "lexpr" in body and "RowExpr" in body["lexpr"] and "RowExpr" in body["rexpr"] and kind in ("OP", "DISTINCT", "NOT_DISTINCT"):
        return _rows(v, body["lexpr"], body["rexpr"], names, offset, level)
    if "lexpr" in body and "RowExpr" in body["lexpr"] and "SubLink" in body["rexpr"]:
        type_of(v, body["lexpr"], level)
        query(v, only(body["rexpr"])[1]["subselect"], level)
        return BOOL
    left = type_of(v, body["lexpr"], level) if "lexpr" in body else 0
    right = type_of(v, body["rexpr"], level)
    if kind in ("OP_ANY", "OP_ALL"):
        return _of_array(v, names, left, right, offset)
    if kind == "NULLIF":
        return _nullif(v, names, left, right, offset)
    return operator(v, names, left, right, offset)


def _nullif(v: Verdict, names: Sequence[str], left: Type, right: Type, offset: int) -> Type:
    """Return the type of NULLIF: that of the left operand, as ``=`` compares it."""
    operator(v, names, left, right, offset)
    if left == right == UNKNOWN:
        return TEXT
    lefts = {o.left for o in _nearest(v, v.signatures.operations(names[-1], left, right), left, right)}
    one = lefts.pop() if len(lefts) == 1 else None
    return left if one in (v.signatures.base(left), *POLYMORPHIC) else one


def _of_array(v: Verdict, names: Sequence[str], left: Type, right: Type, offset: int) -> Type:
    row = v.signatures.row(v.signatures.base(right))
    if row is not None and row.category != "A" and right != UNKNOWN:
        raise v.error(
            WrongObjectType, "op ANY/ALL (array) requires array on right side", offset, "Write ANY (ARRAY[…]), or IN (…)."
        )
    operator(v, names, left, v.signatures.element_of(right), offset)
    return BOOL


def _in(v: Verdict, body: Node, level: Level) -> Type:
    items = only(body["rexpr"])[1]["items"]
    if "RowExpr" in body["lexpr"]:
        for item in items:
            if "RowExpr" in item:
                _rows(v, body["lexpr"], item, strings(body["name"]), location(body), level)
        return BOOL
    value = type_of(v, body["lexpr"], level)
    for item in items:
        operator(v, strings(body["name"]), value, type_of(v, item, level), location(body))
    return BOOL


def _rows(v: Verdict, one: Node, other: Node, names: Sequence[str], offset: int, level: Level) -> Type:
    left, right = (only(side)[1].get("args", []) for side in (one, other))
    types = [[type_of(v, entry, level) for entry in side] for side in (left, right)]
    if len(left) != len(right):
        raise v.error(WrongCount, "unequal number of entries in row expressions", offset, "Give one for each.")
    for first, second in zip(*types, strict=True):
        operator(v, names, first, second, offset)
    return BOOL


def subquery_expression(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject a comparison with a subquery's column for which there is no operator.

    SELECT id FROM patients WHERE ssn IN (SELECT patient_id FROM visits)
    → refused 42883
    """
    kind = body["subLinkType"]
    outputs = query(v, body["subselect"], level)
    if kind == "EXISTS_SUBLINK":
        return BOOL
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK"):
        return _tested(v, body, outputs, level)
    if outputs is None or kind not in ("EXPR_SUBLINK", "ARRAY_SUBLINK"):
        return None
    if len(outputs) != 1:
        raise v.error(WrongCount, "subquery must return only one column", location(body), "Select one column.")
    return v.signatures.array_of(outputs[0].type) if kind == "ARRAY_SUBLINK" else outputs[0].type


def _tested(v: Verdict, body: Node, outputs: Outputs, level: Level) -> Type:
    test = body["testexpr"]
    entries = only(test)[1].get("args", []) if "RowExpr" in test else [test]
    types = [type_of(v, entry, level) for entry in entries]
    if outputs is None:
        return BOOL
    if len(outputs) != len(types):
        how = "many" if len(outputs) > len(types) else "few"
        raise v.error(WrongCount, f"subquery has too {how} columns", location(body), "Select one column for each.")
    for left, output in zip(types, outputs, strict=True):
        operator(v, strings(body.get("operName")) or ["="], left, output.type, location(body))
    return BOOL


def case(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject a CASE whose results have no common type.

    SELECT CASE WHEN active THEN ssn ELSE 1 END FROM patients
    → refused 42804
    """
    value = type_of(v, body["arg"], level) if "arg" in body else None
    results: list[tuple[Node, Type]] = []
    for when in (only(node)[1] for node in body["args"]):
        if "arg" in body:
            condition_type = type_of(v, when["expr"], level)
            operator(v, ["="], TEXT if value == UNKNOWN else value, condition_type, location(when))
        else:
            condition(v, when["expr"], level, "CASE/WHEN")
        results.append((when["result"], type_of(v, when["result"], level)))
    if "defresult" in body:  # which is what PostgreSQL looks at first (parse_expr.c, transformCaseExpr)
        results.insert(0, (body["defresult"], type_of(v, body["defresult"], level)))
    return common(v, "CASE", [node for node, _ in results], [condition_type for _, condition_type in results])
