"""Operators: which rule answers them, and that no other operator takes anything protected, with what works instead."""

from collections.abc import Iterable, Iterator, Sequence

from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions import ranges
from phiproxy.sql.expressions.column_references import check_namesake
from phiproxy.sql.expressions.document_containment import contains
from phiproxy.sql.expressions.documents import keys_asked, taken_out
from phiproxy.sql.expressions.equality import compare_array, compare_named, compare_query, compare_rows, is_equality, is_value_query
from phiproxy.sql.expressions.expression import clear, unsupported
from phiproxy.sql.expressions.leaves import term
from phiproxy.sql.expressions.like import like
from phiproxy.sql.expressions.parameter_paths import bound_path
from phiproxy.sql.expressions.term_values import as_value
from phiproxy.sql.expressions.terms import as_plain
from phiproxy.sql.resolve.protected_values import CLEAR, Value
from phiproxy.sql.resolve.scope import Scope
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import Operand, as_operand

_ARRAY_KINDS = {"AEXPR_OP_ANY", "AEXPR_OP_ALL"}
_EQUALITY_KINDS = {"AEXPR_OP", "AEXPR_IN", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", *_ARRAY_KINDS}


def operator_expression(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """Operators: equality, LIKE and BETWEEN are answered by tags, NULLIF passes a value on; no other takes anything protected.

    SELECT id FROM patients WHERE ssn IN ($1, '2')
    → SELECT id FROM patients WHERE tag(ssn) IN (tag($1), tag('2'))

    SELECT id FROM patients WHERE ssn = ANY ($1)
    → SELECT id FROM patients WHERE tag(ssn) = ANY (tags($1))

    SELECT id FROM patients WHERE (ssn, city) IS DISTINCT FROM ($1, $2)
    → SELECT id FROM patients WHERE (tag(ssn), city) IS DISTINCT FROM (tag($1), $2)

    SELECT id FROM patients WHERE ssn < 'x'
    → refused 0A000

    SELECT id FROM patients WHERE ssn = city
    → refused 0A000
    """
    if body["kind"] == "AEXPR_NULLIF":
        return as_value(a, term(a, node, scope))
    value = taken_out(a, node, scope) or keys_asked(a, body, scope)
    if value is not None:
        return value
    if id(node) in a.decided or like(a, node, body, scope) or ranges.between(a, node, body, scope):
        return CLEAR
    if contains(a, node, body, scope) or bound_path(a, node, body, scope):
        return CLEAR
    comparable = body["kind"] in _EQUALITY_KINDS and is_equality(strings(body.get("name"))) and "lexpr" in body
    if body["kind"] == "AEXPR_OP" and "RowExpr" in body.get("lexpr", ()) and is_value_query(body["rexpr"]):
        compare_query(a, body["rexpr"], [*only(body["lexpr"])[1].get("args", ())], scope, equality=comparable)
    elif not comparable:
        operands = [body[side] for side in ("lexpr", "rexpr") if side in body]
        for operand in operands:
            _operand(a, operand, body, scope, list(_operands(operands)))
    elif body["kind"] in _ARRAY_KINDS:
        compare_array(a, node, body, scope)
    elif body["kind"] == "AEXPR_OP" and len(strings(body["name"])) > 1 and "RowExpr" not in body["lexpr"]:
        compare_named(a, node, [body["lexpr"], body["rexpr"]], scope)
    else:
        kind, right = only(body["rexpr"])
        compare_rows(a, node, [body["lexpr"], *(right["items"] if kind == "List" else [body["rexpr"]])], scope)
    return CLEAR


def _operands(nodes: Iterable[Node]) -> Iterator[Operand]:
    """Yield the parameters and constants among operands, also those in the list of BETWEEN."""
    for node in nodes:
        operand = as_operand(node) if "List" not in node else None
        if operand is not None:
            yield operand
        yield from _operands(node.get("List", {}).get("items", ()))


def _operand(a: Analysis, node: Node, body: Node, scope: Scope, values: Sequence[Operand]) -> None:
    """Analyse an operand of an operator that takes nothing protected."""
    if only(node)[0] == "RowExpr":
        for entry in only(node)[1].get("args", ()):
            _operand(a, entry, body, scope, values)
        return
    if only(node)[0] not in ("ColumnRef", "TypeCast"):
        clear(a, node, scope)
        return
    whole = term(a, node, scope)
    if whole.namesake is not None:
        check_namesake(a, whole.namesake, values)
    for column in whole.columns():
        raise unsupported(a, column, node, operator_hint(column, body["kind"], strings(body.get("name"))[-1]))
    as_plain(a, whole)


def operator_hint(column: ProtectedColumn, kind: str, operator: str) -> str:
    """Return the hint that tells what works in place of an operator over a protected column."""
    name = column.name
    if kind in ("AEXPR_LIKE", "AEXPR_ILIKE") or operator.lstrip("!") in ("~~", "~~*"):
        return (
            f"A pattern that is a literal or a parameter is answered by indexes: a prefix by one on left({name}, n), in any case "
            f"by one on left(lower({name}), n)."
        )
    if kind == "AEXPR_SIMILAR" or operator.lstrip("!") in ("~", "~*", "^@"):
        return f"An index can answer {name} ~ '^abc', {name} LIKE 'abc%' and {name} ILIKE 'abc%', with a literal or a parameter."
    if kind.endswith(("BETWEEN", "BETWEEN_SYM")) or operator in ("<", ">", "<=", ">="):
        answered = ranges.hint(column)
        return (
            answered or f"What is encrypted has no order. Compare {name} by = or IN, or select the rows by an unprotected column."
        )
    if operator == "||":
        return f"Select {name} and put the text together in the client."
    if kind == "AEXPR_OP" and operator not in ("=", "<>"):
        return f"The server cannot compute with what is encrypted. Select {name}, and compute with it in the application."
    return ""
