"""Comparisons for equality in all their spellings: ``=``, IN, ANY, DISTINCT FROM, rows, subqueries, CASE … WHEN, NULLIF, IS NULL.

What is compared are terms; whether by tags or as they are, ``terms.compare`` decides. Other operators take nothing protected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from phiproxy.errors import UndefinedObject, UndefinedOperator
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql import ranges
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.expressions import array_elements, clear, clear_all, expression, located, unsupported, wrong_count
from phiproxy.sql.functions import is_row
from phiproxy.sql.leaves import PARTS, Leaf, Term, add_part, cast_types, term
from phiproxy.sql.like import like
from phiproxy.sql.mismatch import condition
from phiproxy.sql.namesakes import check_namesake
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.rules import EXPRESSIONS, query
from phiproxy.sql.scope import CLEAR, Clear, ListColumn, Output, Protected, Scope, Value, as_text
from phiproxy.sql.sinks import SinkNode, as_sink, peel_arrays
from phiproxy.sql.terms import as_null_test, as_plain, as_value, compare
from phiproxy.sql.type_resolution import Part
from phiproxy.types.names import sql_name

_ARRAY_KINDS = {"AEXPR_OP_ANY", "AEXPR_OP_ALL"}
_EQUALITY_KINDS = {"AEXPR_OP", "AEXPR_IN", "AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", *_ARRAY_KINDS}


def _operator(names: Sequence[str]) -> str | None:
    names = names[1:] if len(names) == 2 and names[0] == "pg_catalog" else names
    return names[0] if len(names) == 1 else None


def _a_expr(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    if body["kind"] == "AEXPR_NULLIF":
        return as_value(a, term(a, node, scope))
    if id(node) in a.decided or like(a, node, body, scope) or ranges.between(a, node, body, scope):
        return CLEAR
    comparable = body["kind"] in _EQUALITY_KINDS and _operator(strings(body.get("name"))) in ("=", "<>") and "lexpr" in body
    if body["kind"] == "AEXPR_OP" and "RowExpr" in body.get("lexpr", ()) and _is_value_query(body["rexpr"]):
        _compare_query(a, body["rexpr"], [*only(body["lexpr"])[1].get("args", ())], scope, equality=comparable)
    elif not comparable:
        operands = [body[side] for side in ("lexpr", "rexpr") if side in body]
        for operand in operands:
            _operand(a, operand, body, scope, list(_sinks(operands)))
    elif body["kind"] in _ARRAY_KINDS:
        _compare_array(a, node, body, scope)
    elif body["kind"] == "AEXPR_OP" and len(strings(body["name"])) > 1 and "RowExpr" not in body["lexpr"]:
        _compare_named(a, node, [body["lexpr"], body["rexpr"]], scope)
    else:
        kind, right = only(body["rexpr"])
        _compare_rows(a, node, [body["lexpr"], *(right["items"] if kind == "List" else [body["rexpr"]])], scope)
    return CLEAR


def _sinks(operands: Iterable[Node]) -> Iterator[SinkNode]:
    """Yield the values among operands, and those between which something is to be."""
    for operand in operands:
        sink = as_sink(operand) if "List" not in operand else None
        if sink is not None:
            yield sink
        yield from _sinks(operand.get("List", {}).get("items", ()))


def _operand(a: Analysis, node: Node, body: Node, scope: Scope, values: Sequence[SinkNode]) -> None:
    """Analyse an operand of an operator that takes nothing protected."""
    if only(node)[0] == "RowExpr":
        for entry in only(node)[1].get("args", ()):
            _operand(a, entry, body, scope, values)
        return
    if only(node)[0] not in ("ColumnRef", "TypeCast"):
        clear(a, node, scope)
        return
    made = term(a, node, scope)
    if made.namesake is not None:
        check_namesake(a, made.namesake, values)
    for column in made.columns():
        raise unsupported(a, column, node, operator_hint(column, body["kind"], strings(body.get("name"))[-1]))
    as_plain(a, made)


def operator_hint(column: ProtectedColumn, kind: str, operator: str) -> str:
    """Say what would work instead of an operator over a protected column."""
    name = column.name
    if kind in ("AEXPR_LIKE", "AEXPR_ILIKE") or operator.lstrip("!") in ("~~", "~~*"):
        return (
            f"A pattern that is a literal or a parameter is answered by indexes: a prefix by one on left({name}, n), in any case "
            f"by one on left(lower({name}), n)."
        )
    if kind == "AEXPR_SIMILAR" or operator.lstrip("!") in ("~", "~*", "^@"):
        return f"An index can answer {name} ~ '^abc', {name} LIKE 'abc%' and {name} ILIKE 'abc%', with a literal or a parameter."
    if kind.endswith(("BETWEEN", "BETWEEN_SYM")) or operator in ("<", ">", "<=", ">="):
        known = ranges.hint(column)
        return known or f"What is encrypted has no order. Compare {name} by = or IN, or select the rows by an unprotected column."
    if operator == "||":
        return f"Select {name} and put the text together in the client."
    if kind == "AEXPR_OP" and operator not in ("=", "<>"):
        return f"The server cannot compute with what is encrypted. Select {name}, and compute with it in the application."
    return ""


def _compare_rows(a: Analysis, node: Node, operands: list[Node], scope: Scope) -> None:
    """Compare the first operand with the others; rows column by column."""
    rows = [only(operand)[1].get("args", []) for operand in operands if only(operand)[0] == "RowExpr"]
    if not rows:
        terms = [term(a, operand, scope) for operand in operands]
        _check_parameter_in_list(a, node, terms)
        compare(a, node, terms, listed=only(node)[1]["kind"] == "AEXPR_IN")
    elif len(rows) == len(operands) and len({len(row) for row in rows}) == 1:
        made = [[term(a, entry, scope) for entry in row] for row in rows]
        with a.together():
            for column in zip(*made, strict=True):
                compare(a, node, column)
    elif rows and len(rows) == len(operands):
        raise wrong_count(a, node, "unequal number of entries in row expressions")
    else:
        clear_all(a, operands, scope)


def _check_parameter_in_list(a: Analysis, node: Node, terms: Sequence[Term]) -> None:
    """Refuse ``$1 IN (age, $2)``: PostgreSQL compares it with the column first, and then perhaps gives it another type (42P08)."""
    protecting = [list(made.columns()) for made in terms]
    untyped = [leaf for leaf in terms[0].leaves if leaf.sink is not None and leaf.sink.kind == "param" and not leaf.sink.types]
    texts = all(column.type.is_text for columns in protecting[1:] for column in columns)
    texts = texts and all(leaf.sink is None or leaf.sink.textual for made in terms[1:] for leaf in made.leaves)
    mixed = any(protecting[1:]) and not all(protecting[1:])
    if only(node)[1]["kind"] == "AEXPR_IN" and untyped and not protecting[0] and mixed and not texts:
        hint = "Cast the parameter, or write value = column OR value = other."
        raise a.refuse("a parameter IN a list of a protected column and values is not understood", located(node), hint=hint)


def _compare_named(a: Analysis, node: Node, operands: Sequence[Node], scope: Scope) -> None:
    """Compare by ``OPERATOR(pg_catalog.=)``, which is none of an extension's: it takes a citext for a text."""
    terms = [term(a, operand, scope) for operand in operands]
    column = next((c for made in terms for c in made.columns() if c.type.underlying.family == "citext"), None)
    if column is not None:
        why = f"{column.label} would be compared as a text, by the operator of pg_catalog"
        raise a.refuse(why, located(node), hint="Write the operator without its schema.")
    compare(a, node, terms)


def _compare_array(a: Analysis, node: Node, body: Node, scope: Scope) -> None:
    array = body["rexpr"]
    sink = as_sink(array, array=True)
    left = term(a, body["lexpr"], scope)
    if sink is not None:
        column = next((column for column in left.columns() if column.type.underlying.element is not None), None)
        if column is not None and not sink.types:
            shown = sql_name(column.type.underlying)
            why = f"could not find array type for data type {shown}"
            raise a.refuse(why, located(array), hint="Compare it by = or IN.", error=UndefinedObject)
        compare(a, node, [left, Term(array, [Leaf(array, sink=sink)])])
        return
    inner, casts = peel_arrays(array)
    if only(inner)[0] != "A_ArrayExpr":
        compare(a, node, [left, Term(array, unprotected=array)])
        clear(a, array, scope)
        return
    terms = [term(a, element, scope) for element in array_elements(inner)]
    elements = [column for made in terms for column in made.columns() if column.type.underlying.element is not None]
    if elements:
        raise a.refuse(
            f"the elements of {elements[0].label} are compared, which is protected as a whole",
            located(array),
            hint="Compare it by = or IN.",
        )
    column = next((column for column in left.columns() if column.type.underlying.element is not None), None)
    if column is not None:
        raise a.refuse(
            f"{column.label} is compared with the elements of ARRAY[…], and none of them is an array",
            located(array),
            hint="Compare it by = or IN.",
            error=UndefinedOperator,
        )
    types = tuple(declared.element for declared in cast_types(casts) if declared.element is not None)
    if compare(a, node, [left, *terms], element=types):
        a.recast.extend(casts)  # its elements become tags, and the cast one to bytea[]
    elif a.comparisons and a.comparisons[-1].node is node and casts:
        undecided = a.comparisons.pop()  # a cast of the whole cannot be undone later
        for made in undecided.terms:
            compare(a, node, [made, Term(array, unprotected=array)])


def _null_test(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    sink = as_sink(body["arg"], array=True)
    if is_row(body["arg"], scope):
        return CLEAR
    if "RowExpr" in body["arg"]:
        # Of a row it is asked of each of its fields, which rows in it are not.
        for entry in only(body["arg"])[1].get("args", ()):
            if "RowExpr" in entry:
                clear(a, entry, scope)
            else:
                _null_test(a, entry, {"arg": entry}, scope)
        return CLEAR
    if sink is not None and sink.casts:
        as_null_test(a, Term(body["arg"], [Leaf(body["arg"], sink=sink)]))
    else:
        as_null_test(a, term(a, body["arg"], scope))
    return CLEAR


def _sublink(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    kind = body["subLinkType"]
    if kind == "EXPR_SUBLINK":
        return as_value(a, term(a, node, scope))
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK"):
        _tested(a, node, body, scope)
        return CLEAR
    outputs = query(a, *only(body["subselect"]), scope)
    for _, value in outputs:
        if isinstance(value, Protected) and kind != "EXISTS_SUBLINK":
            raise a.refuse(f"{value.column.label} as an array is not in this version", body, hint="Select it as rows.")
        if isinstance(value, ListColumn):
            value.users.append(None)
    return CLEAR


def _is_value_query(node: Node) -> bool:
    kind, body = only(node)
    return kind == "SubLink" and body["subLinkType"] == "EXPR_SUBLINK"


def _tested(a: Analysis, node: Node, body: Node, scope: Scope) -> None:
    """Analyse IN, ANY and ALL of a query."""
    kind, row = only(body["testexpr"])
    entries = row.get("args", []) if kind == "RowExpr" else [body["testexpr"]]
    equality = "operName" not in body or _operator(strings(body["operName"])) in ("=", "<>")
    _compare_query(a, node, entries, scope, equality=equality)


def _sublink_part(a: Analysis, made: Term, node: Node, scope: Scope) -> bool:
    body = only(node)[1]
    if not _is_value_query(node):
        expression(a, node, scope)
        return False
    outputs = query(a, *only(body["subselect"]), scope)
    if len(outputs) != 1:
        raise wrong_count(a, node, "subquery must return only one column")
    value = outputs[0][1]
    as_text([value])
    if isinstance(value, Clear):
        return False
    made.add(Leaf(node, value=value))
    return True


def _compare_query(a: Analysis, node: Node, entries: Sequence[Node], scope: Scope, *, equality: bool) -> None:
    """Compare values with the columns of a query; ``node`` is its SubLink."""
    left = [term(a, entry, scope) for entry in entries]
    outputs = query(a, *only(only(node)[1]["subselect"]), scope)
    as_text(value for _, value in outputs)
    right = [_output_term(node, i, outputs) for i in range(len(outputs))]
    if len(left) != len(right):
        raise wrong_count(a, node, f"subquery has too {'many' if len(right) > len(left) else 'few'} columns")
    if equality:
        for pair in zip(left, right, strict=True):
            compare(a, node, pair)
        return
    for made in (*left, *right):
        compare(a, node, [made, Term(node, unprotected=node)])


def _output_term(node: Node, i: int, outputs: list[Output]) -> Term:
    value = outputs[i][1]
    if isinstance(value, Clear):
        return Term(node, unprotected=node)
    return Term(node, [Leaf(node, value=value, output=i, width=len(outputs))])


def case_conditions(a: Analysis, node: Node, scope: Scope) -> list[Node]:
    """Analyse what decides a CASE, and return its conditions."""
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


def _case_part(a: Analysis, made: Term, node: Node, scope: Scope) -> bool:
    body = only(node)[1]
    conditions = case_conditions(a, node, scope)
    whole, first = not made.leaves and not made.composed, len(made.leaves)
    results: list[Sequence[Leaf]] = []
    parts = made.part.parts
    for result in (*(only(when)[1]["result"] for when in body["args"]), *([body["defresult"]] if "defresult" in body else ())):
        before = len(made.leaves)
        add_part(a, made, result, scope)
        results.append(made.leaves[before:])
    if "defresult" in body:  # which is what PostgreSQL looks at first (parse_expr.c, transformCaseExpr)
        made.leaves[first:] = [leaf for result in (results[-1], *results[:-1]) for leaf in result]
        parts[:] = [*parts[-1:], *parts[:-1]]
    else:
        parts.insert(0, Part())  # NULL
    made.complete = made.complete and "defresult" in body
    made.choices = True
    if whole and "arg" not in body:
        made.left = _left(conditions, results)
    return True


def _left(conditions: Sequence[Node], results: Sequence[Sequence[Leaf]]) -> tuple[Sequence[Leaf], bool] | None:
    """Return what TRUE and FALSE among the conditions of a CASE leave of its results, and whether it may be nothing else."""
    constants = [_boolean(condition) for condition in conditions]
    if all(constant is None for constant in constants):
        return None
    kept: list[Leaf] = []
    for constant, result in zip(constants, results, strict=False):
        if constant is not False:
            kept.extend(result)
        if constant:
            return kept, True
    last = results[len(conditions) :]
    return [*kept, *(leaf for result in last for leaf in result)], bool(last)


def _boolean(node: Node) -> bool | None:
    kind, body = only(node)
    return bool(body["boolval"].get("boolval")) if kind == "A_Const" and "boolval" in body else None


def _nullif_part(a: Analysis, made: Term, node: Node, scope: Scope) -> bool:
    body = only(node)[1]
    if body["kind"] != "AEXPR_NULLIF":
        EXPRESSIONS["A_Expr"](a, node, body, scope)
        return False
    sides = term(a, body["lexpr"], scope), term(a, body["rexpr"], scope)
    if any(side.unprotected is not None for side in sides):
        compare(a, node, sides)
        return False
    made.add(Leaf(node, nullif=sides))
    return True


def _value(a: Analysis, node: Node, _body: Node, scope: Scope) -> Value:
    return as_value(a, term(a, node, scope))


def _collate_part(a: Analysis, made: Term, node: Node, scope: Scope) -> bool:
    add_part(a, made, only(node)[1]["arg"], scope)
    made.collations.append(node)
    return True


PARTS.update({"SubLink": _sublink_part, "CaseExpr": _case_part, "A_Expr": _nullif_part, "CollateClause": _collate_part})
EXPRESSIONS.update(
    {
        "A_Expr": _a_expr,
        "NullTest": _null_test,
        "SubLink": _sublink,
        "CaseExpr": _value,
        "CoalesceExpr": _value,
        "CollateClause": _value,
    }
)
