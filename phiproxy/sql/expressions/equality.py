"""Comparisons for equality in all their forms, and IS NULL; ``comparisons.compare`` decides whether they are made by tags."""

from collections.abc import Sequence

from phiproxy.errors import UndefinedObject, UndefinedOperator
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.comparisons import compare
from phiproxy.sql.expressions.expression import array_elements, clear, clear_all, located, query, wrong_count
from phiproxy.sql.expressions.function_calls import is_row
from phiproxy.sql.expressions.leaves import Leaf, Term, cast_types, term
from phiproxy.sql.expressions.term_values import as_null_test, as_value
from phiproxy.sql.resolve.protected_values import CLEAR, Clear, Protected, Value, as_text, as_they_are
from phiproxy.sql.resolve.scope import Scope, find_source
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import as_operand, peel_arrays
from phiproxy.types.names import sql_name


def is_equality(names: Sequence[str]) -> bool:
    """Tell whether an operator's name is ``=`` or ``<>``, with or without pg_catalog before it."""
    names = names[1:] if len(names) == 2 and names[0] == "pg_catalog" else names
    return len(names) == 1 and names[0] in ("=", "<>")


def compare_rows(a: Analysis, node: Node, operands: list[Node], scope: Scope) -> None:
    """Compare the first operand with each of the others; rows are compared column by column.

    SELECT id FROM patients WHERE (ssn, city) = ($1, 'x')
    → SELECT id FROM patients WHERE (tag(ssn), city) = (tag($1), 'x')
    """
    rows = [only(operand)[1].get("args", []) for operand in operands if only(operand)[0] == "RowExpr"]
    if not rows:
        terms = [term(a, operand, scope) for operand in operands]
        listed = only(node)[1]["kind"] == "AEXPR_IN"
        if listed:
            _check_parameter_in_list(a, node, terms)
        compare(a, node, terms, listed=listed)
    elif len(rows) == len(operands) and len({len(row) for row in rows}) == 1:
        row_terms = [[term(a, entry, scope) for entry in row] for row in rows]
        with a.together():
            for column in zip(*row_terms, strict=True):
                compare(a, node, column)
    elif rows and len(rows) == len(operands):
        raise wrong_count(a, node, "unequal number of entries in row expressions")
    else:
        clear_all(a, operands, scope)


def _check_parameter_in_list(a: Analysis, node: Node, terms: Sequence[Term]) -> None:
    """Refuse ``$1 IN (age, $2)``, where PostgreSQL may give the parameter two types (42P08)."""
    protecting = [list(one.columns()) for one in terms]
    untyped = [
        leaf for leaf in terms[0].leaves if leaf.operand is not None and leaf.operand.kind == "param" and not leaf.operand.types
    ]
    texts = all(column.type.is_text for columns in protecting[1:] for column in columns)
    texts = texts and all(leaf.operand is None or leaf.operand.textual for one in terms[1:] for leaf in one.leaves)
    mixed = any(protecting[1:]) and not all(protecting[1:])
    if untyped and not protecting[0] and mixed and not texts:
        hint = "Cast the parameter, or write value = column OR value = other."
        raise a.refuse("a parameter IN a list of a protected column and values is not understood", located(node), hint=hint)


def compare_named(a: Analysis, node: Node, operands: Sequence[Node], scope: Scope) -> None:
    """Compare by ``OPERATOR(pg_catalog.=)``, which compares citext as text.

    SELECT id FROM patients WHERE ssn OPERATOR(pg_catalog.=) 'x'
    → SELECT id FROM patients WHERE tag(ssn) OPERATOR(pg_catalog.=) tag('x')
    """
    terms = [term(a, operand, scope) for operand in operands]
    column = next((c for one in terms for c in one.columns() if c.type.underlying.family == "citext"), None)
    if column is not None:
        why = f"{column.label} would be compared as a text, by the operator of pg_catalog"
        raise a.refuse(why, located(node), hint="Write the operator without its schema.")
    compare(a, node, terms)


def compare_array(a: Analysis, node: Node, body: Node, scope: Scope) -> None:
    """Compare an operand with any or all elements of an array.

    SELECT id FROM patients WHERE ssn = ANY (ARRAY['x', $1])
    → SELECT id FROM patients WHERE tag(ssn) = ANY (ARRAY[tag('x'), tag($1)])
    """
    array = body["rexpr"]
    operand = as_operand(array, array=True)
    left = term(a, body["lexpr"], scope)
    if operand is not None:
        column = next((column for column in left.columns() if column.type.underlying.element is not None), None)
        if column is not None and not operand.types:
            shown = sql_name(column.type.underlying)
            why = f"could not find array type for data type {shown}"
            raise a.refuse(why, located(array), hint="Compare it by = or IN.", error=UndefinedObject)
        compare(a, node, [left, Term(array, [Leaf(array, operand=operand)])])
        return
    inner, casts = peel_arrays(array)
    if only(inner)[0] != "A_ArrayExpr":
        compare(a, node, [left, Term(array, unprotected=array)])
        clear(a, array, scope)
        return
    terms = [term(a, element, scope) for element in array_elements(inner)]
    elements = [column for one in terms for column in one.columns() if column.type.underlying.element is not None]
    if elements:
        why = f"the elements of {elements[0].label} are compared, which is protected as a whole"
        raise a.refuse(why, located(array), hint="Compare it by = or IN.")
    column = next((column for column in left.columns() if column.type.underlying.element is not None), None)
    if column is not None:
        why = f"{column.label} is compared with the elements of ARRAY[…], and none of them is an array"
        raise a.refuse(why, located(array), hint="Compare it by = or IN.", error=UndefinedOperator)
    types = tuple(declared.element for declared in cast_types(casts) if declared.element is not None)
    if compare(a, node, [left, *terms], element=types):
        a.cast_to_tags(casts)  # its elements become tags, and the cast one to bytea[]
    elif a.comparisons and a.comparisons[-1].node is node and casts:
        a.comparisons.pop()  # a cast of the whole cannot be undone later
        for one in (left, *terms):
            compare(a, node, [one, Term(array, unprotected=array)])


def null_test(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    """IS [NOT] NULL: envelopes, tags and rows of envelopes are NULL exactly where the values are.

    SELECT id FROM patients WHERE ssn IS NULL
    → SELECT id FROM "public".patients WHERE ssn IS NULL

    SELECT id FROM patients WHERE NULLIF(ssn, 'x') IS NULL
    → SELECT id FROM patients WHERE NULLIF(tag(ssn), tag('x')) IS NULL
    """
    operand = as_operand(body["arg"], array=True)
    if is_row(body["arg"], scope):
        # Whether a row is NULL says whether each of its values is.
        for column in find_source(scope, strings(only(body["arg"])[1]["fields"])[0], None, 1).columns:
            a.refuse_masked(column.value, located(body["arg"]))
        return CLEAR
    if "RowExpr" in body["arg"]:
        # Of a row it is asked of each of its fields, which rows in it are not.
        for entry in only(body["arg"])[1].get("args", ()):
            if "RowExpr" in entry:
                clear(a, entry, scope)
            else:
                null_test(a, entry, {"arg": entry}, scope)
        return CLEAR
    if operand is not None and operand.casts:
        as_null_test(a, Term(body["arg"], [Leaf(body["arg"], operand=operand)]))
    else:
        as_null_test(a, term(a, body["arg"], scope))
    return CLEAR


def subquery_expression(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """Subqueries: a scalar, IN, ANY and ALL of a column, and EXISTS; ARRAY takes nothing protected.

    SELECT id FROM patients WHERE EXISTS (SELECT ssn FROM visits v WHERE v.mrn = patients.mrn)
    → SELECT id FROM patients WHERE EXISTS (SELECT ssn FROM visits v WHERE tag(v.mrn) = tag(patients.mrn))

    SELECT id FROM patients WHERE mrn IN (SELECT mrn FROM visits)
    → SELECT id FROM patients WHERE tag(mrn) IN (SELECT tag(phi.c1) FROM (SELECT mrn FROM visits) AS phi (c1))

    SELECT ARRAY(SELECT ssn FROM patients)
    → refused 0A000
    """
    kind = body["subLinkType"]
    if kind == "EXPR_SUBLINK":
        return as_value(a, term(a, node, scope))
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK"):
        test, row = only(body["testexpr"])
        entries = row.get("args", []) if test == "RowExpr" else [body["testexpr"]]
        equality = "operName" not in body or is_equality(strings(body["operName"]))
        compare_query(a, node, entries, scope, equality=equality)
        return CLEAR
    outputs = query(a, *only(body["subselect"]), scope)
    for _, value in outputs:
        if isinstance(value, Protected) and kind != "EXISTS_SUBLINK":
            a.refuse_masked(value, located(node))
            raise a.refuse(f"{value.column.label} as an array is not in this version", body, hint="Select it as rows.")
        as_they_are((value,))
    return CLEAR


def is_value_query(node: Node) -> bool:
    """Tell whether an expression is a scalar subquery."""
    kind, body = only(node)
    return kind == "SubLink" and body["subLinkType"] == "EXPR_SUBLINK"


def compare_query(a: Analysis, node: Node, entries: Sequence[Node], scope: Scope, *, equality: bool) -> None:
    """Compare expressions with the columns of a subquery; ``node`` is its SubLink.

    SELECT id FROM patients WHERE mrn IN (SELECT mrn FROM visits)
    → SELECT id FROM patients WHERE tag(mrn) IN (SELECT tag(phi.c1) FROM (SELECT mrn FROM visits) AS phi (c1))
    """
    left = [term(a, entry, scope) for entry in entries]
    outputs = query(a, *only(only(node)[1]["subselect"]), scope)
    for _, value in outputs:
        a.refuse_masked(value, located(node))
    as_text(value for _, value in outputs)
    right = [
        Term(node, unprotected=node) if isinstance(v, Clear) else Term(node, [Leaf(node, value=v, output=i, width=len(outputs))])
        for i, (_, v) in enumerate(outputs)
    ]
    if len(left) != len(right):
        raise wrong_count(a, node, f"subquery has too {'many' if len(right) > len(left) else 'few'} columns")
    if equality:
        for pair in zip(left, right, strict=True):
            compare(a, node, pair)
        return
    for one in (*left, *right):
        compare(a, node, [one, Term(node, unprotected=node)])
