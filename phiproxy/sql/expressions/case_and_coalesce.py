"""CASE, COALESCE, NULLIF, COLLATE and scalar subqueries as terms: their value is that of one of their parts.

The type of CASE and COALESCE that is assigned to a column decides how the values in it are read (manual 10.5).
"""

from collections.abc import Sequence

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.comparisons import compare
from phiproxy.sql.expressions.conditions import condition
from phiproxy.sql.expressions.constant_arithmetic import arithmetic_operand
from phiproxy.sql.expressions.equality import is_value_query
from phiproxy.sql.expressions.expression import expression, query, wrong_count
from phiproxy.sql.expressions.leaves import Leaf, Term, add_part, term
from phiproxy.sql.expressions.operators import operator_expression
from phiproxy.sql.expressions.term_values import as_value
from phiproxy.sql.resolve.protected_values import Clear, ListColumn, Protected, Value, as_text, type_of
from phiproxy.sql.resolve.scope import Scope, resolve
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values import type_resolution
from phiproxy.sql.values.operands import as_operand, cast_type
from phiproxy.sql.values.type_resolution import TEXT, Part, Type
from phiproxy.types.common_type import changes_little
from phiproxy.types.declared import DeclaredType
from phiproxy.types.names import sql_name


def subquery_term(a: Analysis, whole: Term, node: Node, scope: Scope) -> bool:
    """Add the value of a subquery of one column.

    SELECT id FROM patients WHERE ssn = (SELECT 'x')
    → SELECT id FROM patients WHERE tag(ssn) = (SELECT tag('x'))
    """
    body = only(node)[1]
    if not is_value_query(node):
        expression(a, node, scope)
        return False
    outputs = query(a, *only(body["subselect"]), scope)
    if len(outputs) != 1:
        raise wrong_count(a, node, "subquery must return only one column")
    value = outputs[0][1]
    a.check_shown(value, node)
    as_text([value])
    if isinstance(value, Clear):
        return False
    whole.add(Leaf(node, value=value))
    return True


def coalesce_term(a: Analysis, whole: Term, node: Node, scope: Scope) -> bool:
    """Add the arguments of a COALESCE: its value is one of them.

    SELECT COALESCE(ssn, $1) FROM patients
    → SELECT COALESCE(ssn, envelope($1)) FROM patients
    """
    for argument in only(node)[1]["args"]:
        add_part(a, whole, argument, scope)
    return True


def case_conditions(a: Analysis, node: Node, scope: Scope) -> list[Node]:
    """Analyse the conditions of a CASE, and return them.

    SELECT id FROM patients WHERE CASE WHEN ssn = 'x' THEN active END
    → SELECT id FROM patients WHERE CASE WHEN tag(ssn) = tag('x') THEN active END
    """
    body = only(node)[1]
    conditions = [only(when)[1]["expr"] for when in body["args"]]
    if "arg" in body:
        terms = [term(a, operand, scope) for operand in (body["arg"], *conditions)]
        terms[0].part.settles = True  # a literal or parameter without a type is a text there (transformCaseExpr)
        compare(a, node, terms, apart=True)
    else:
        for one in conditions:
            condition(a, one, scope, "CASE/WHEN")
    return conditions


def case_term(a: Analysis, whole: Term, node: Node, scope: Scope) -> bool:
    """Add the results of a CASE, whose conditions decide which of them is its value.

    SELECT CASE WHEN city = 'x' THEN ssn ELSE 'none' END FROM patients
    → SELECT CASE WHEN city = 'x' THEN ssn ELSE envelope('none') END FROM patients

    SELECT CASE ssn WHEN 'x' THEN 'one' ELSE 'other' END FROM patients
    → SELECT CASE tag(ssn) WHEN tag('x') THEN 'one' ELSE 'other' END FROM patients
    """
    body = only(node)[1]
    conditions = case_conditions(a, node, scope)
    is_whole, first = not whole.leaves and not whole.composed, len(whole.leaves)
    results: list[Sequence[Leaf]] = []
    parts = whole.part.parts
    for result in (*(only(when)[1]["result"] for when in body["args"]), *([body["defresult"]] if "defresult" in body else ())):
        before = len(whole.leaves)
        add_part(a, whole, result, scope)
        results.append(whole.leaves[before:])
    if "defresult" in body:  # which is what PostgreSQL looks at first (parse_expr.c, transformCaseExpr)
        whole.leaves[first:] = [leaf for result in (results[-1], *results[:-1]) for leaf in result]
        parts[:] = [*parts[-1:], *parts[:-1]]
    else:
        parts.insert(0, Part())  # NULL
    whole.complete = whole.complete and "defresult" in body
    whole.choices = True
    if is_whole and "arg" not in body:
        whole.left = _left(conditions, results)
    return True


def _left(conditions: Sequence[Node], results: Sequence[Sequence[Leaf]]) -> tuple[Sequence[Leaf], bool] | None:
    """Return the results of a CASE that constant conditions leave, and whether its value is always one of them."""
    constants = [_boolean(condition) for condition in conditions]
    if all(constant is None for constant in constants):
        return None
    possible: list[Leaf] = []
    for constant, result in zip(constants, results, strict=False):
        if constant is not False:
            possible.extend(result)
        if constant:
            return possible, True
    last = results[len(conditions) :]
    return [*possible, *(leaf for result in last for leaf in result)], bool(last)


def _boolean(node: Node) -> bool | None:
    kind, body = only(node)
    return bool(body["boolval"].get("boolval")) if kind == "A_Const" and "boolval" in body else None


def nullif_term(a: Analysis, whole: Term, node: Node, scope: Scope) -> bool:
    """Add the value of NULLIF, which compares its arguments; other operators pass no value on.

    SELECT NULLIF(ssn, '') FROM patients
    → SELECT CASE WHEN tag(ssn) = tag('') THEN NULL ELSE ssn END AS "nullif" FROM patients

    SELECT id FROM patients WHERE NULLIF(ssn, 'x') = $1
    → SELECT id FROM patients WHERE NULLIF(tag(ssn), tag('x')) = tag($1)
    """
    body = only(node)[1]
    if body["kind"] != "AEXPR_NULLIF":
        operator_expression(a, node, body, scope)
        return False
    sides = term(a, body["lexpr"], scope), term(a, body["rexpr"], scope)
    if any(side.unprotected is not None for side in sides):
        compare(a, node, sides)
        return False
    whole.add(Leaf(node, nullif=sides))
    return True


def term_value(a: Analysis, node: Node, _body: Node, scope: Scope) -> Value:
    """CASE, COALESCE or COLLATE as a result: each part of it becomes an envelope where one of them is protected.

    SELECT COALESCE(ssn, 'none') FROM patients
    → SELECT COALESCE(ssn, envelope('none')) FROM patients

    SELECT COALESCE(ssn, city) FROM patients
    → refused 0A000
    """
    return as_value(a, term(a, node, scope))


def collate_term(a: Analysis, whole: Term, node: Node, scope: Scope) -> bool:
    """Add the expression under COLLATE, and note the clause.

    SELECT ssn COLLATE "C" FROM patients
    → SELECT ssn FROM patients
    """
    add_part(a, whole, only(node)[1]["arg"], scope)
    whole.collations.append(node)
    return True


def case_results(body: Node) -> list[Node]:
    """Return the results of a CASE. ELSE comes first for the type (parse_expr.c, transformCaseExpr)."""
    results = [only(when)[1]["result"] for when in body["args"]]
    return [body["defresult"], *results] if "defresult" in body else results


def common_type(a: Analysis, nodes: Sequence[Node], scope: Scope) -> DeclaredType:
    """Return the type of results of CASE or COALESCE that is assigned; StatementRefused if a column's values would change in it.

    UPDATE stays SET bed = COALESCE(bed, 2.5)
    → UPDATE stays SET bed = COALESCE(bed, envelope(2.5))
    """
    types = [_type(a, node, scope) for node in nodes]
    with a.positioned(only(nodes[0])[1]):
        shared = type_resolution.common_type(types)
        for node, declared in zip(nodes, types, strict=True):
            if as_operand(node) is None and declared is not None and not changes_little(declared, shared):
                why = f"a value of type {sql_name(declared)} would become {sql_name(shared)} on its way to a protected column"
                raise StatementRefused(why, hint="Cast all values to the column's type.")
    return shared


def _type(a: Analysis, node: Node, scope: Scope) -> Type:
    kind, body = only(node)
    operand = as_operand(node) or arithmetic_operand(a, node)
    if operand is not None:
        return operand.value_type
    if kind == "TypeCast" and cast_type(body) is None:
        why = "a value on its way to a protected column is of a type that is not known here"
        raise a.refuse(why, body, hint="Give constants, parameters or columns of one type.")
    if kind == "TypeCast":
        return cast_type(body)
    if kind == "ColumnRef" and strings(body["fields"])[-1] != "*":
        value = resolve(scope, strings(body["fields"]), a.position(body)).value
        if isinstance(value, Protected):
            return value.type
        return type_of(value) if isinstance(value, ListColumn) else TEXT
    if kind == "CaseExpr":
        return common_type(a, case_results(body), scope)
    if kind == "CoalesceExpr":
        return common_type(a, body["args"], scope)
    return TEXT
