"""Function calls: count() and functions with a blind index; no other function takes anything protected."""

import dataclasses

from phiproxy.index.function_table import row
from phiproxy.sql.context import Analysis
from phiproxy.sql.expressions.conditions import condition
from phiproxy.sql.expressions.documents import taken_out
from phiproxy.sql.expressions.expression import clear, clear_all, plain_cast, unsupported
from phiproxy.sql.expressions.index_expressions import derived
from phiproxy.sql.expressions.leaves import term
from phiproxy.sql.expressions.like import starts_with
from phiproxy.sql.expressions.sql_text_functions import check_call
from phiproxy.sql.expressions.term_values import as_null_test, as_value
from phiproxy.sql.expressions.terms import as_plain, by_tag, window
from phiproxy.sql.resolve.protected_values import CLEAR, ListColumn, Protected, Value
from phiproxy.sql.resolve.scope import Scope, is_whole_row
from phiproxy.sql.text.parse import Node, only, strings
from phiproxy.sql.values.operands import as_operand


def function_call(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """A call: count(), or one that a blind index answers. Nothing protected goes into any other function.

    SELECT count(ssn), count(DISTINCT ssn) FROM patients
    → SELECT count(ssn), count(DISTINCT tag(ssn)) FROM patients

    SELECT id FROM people WHERE lower(name) = 'smith'
    → SELECT id FROM people WHERE tag1(name) = tag1('smith')

    SELECT upper(ssn) FROM patients
    → refused 0A000
    """
    names = strings(body["funcname"])
    _check_name(a, names[-1], body)
    arguments = body.get("args", [])
    value = taken_out(a, node, scope)
    if value is not None:
        return value
    if starts_with(a, node, body, scope):
        return CLEAR
    if scope.grouped:
        scope = dataclasses.replace(scope, called=True)
    if a.physical and names[-1] == "substring" and len(arguments) == 3 and [*term(a, arguments[0], scope).columns()]:
        return CLEAR  # a tag, in a query that is stored as the server runs it
    if names in (["count"], ["pg_catalog", "count"]) and len(arguments) == 1:
        _check_count(a, names, body)
        if body.get("agg_distinct"):
            by_tag(a, arguments[0], scope)
        else:
            _counted(a, arguments[0], scope)
    else:
        for argument in arguments:
            _argument(a, argument, names[-1], scope)
    clear_all(a, body.get("agg_order"), scope)
    if "agg_filter" in body:
        condition(a, body["agg_filter"], scope, "FILTER")
    if "over" in body:
        window(a, body["over"], scope)
    return CLEAR


def _check_name(a: Analysis, name: str, body: Node) -> None:
    """Refuse a function that depends on a protected table, or that returns the text of the statement."""
    check_call(a, body)
    if name == "current_query":
        raise a.refuse("current_query() would answer with the statement that the server gets", body, hint=_OWN_TEXT)


def type_cast(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    """A cast: to an indexed expression of a column, or one that changes nothing.

    SELECT id FROM stays WHERE admitted::time = '12:30'
    → SELECT id FROM stays WHERE NULLIF(tag3(admitted), zeros) = tag3('12:30')

    SELECT ssn::varchar FROM patients
    → SELECT ssn FROM patients
    """
    if derived(a, node, scope) is not None:
        return as_value(a, term(a, node, scope))
    return plain_cast(a, node, body, scope)


def _check_count(a: Analysis, names: list[str], body: Node) -> None:
    """Refuse count() where the server would call another function for envelopes than for text."""
    if len(names) > 1 or "count" not in a.context.catalog.replaced:
        return
    raise a.refuse("there is a function count besides the server's", body, hint="Write pg_catalog.count(…).")


def _argument(a: Analysis, node: Node, function: str, scope: Scope) -> None:
    if only(node)[0] not in ("ColumnRef", "TypeCast"):
        clear(a, node, scope)
        return
    argument = term(a, node, scope)
    for column in argument.columns():
        hint = _HINTS.get(function, _COMPUTED if row(function) is None else _OF_INDEX)
        raise unsupported(a, column, node, hint.format(f=function, c=column.name))
    as_plain(a, argument)


_OWN_TEXT = "The application knows the text of its statement: let it pass that as a parameter."
_COMPUTED = "The server cannot compute with what is encrypted. Select {c}, and compute {f} in the application."
_OF_INDEX = "A blind index answers {f}({c}, …) where all else in it is constant, and the policy lists it."
_HINTS = {
    "date_trunc": "Of a date and a timestamptz it depends on the time zone. Write date_trunc(…, {c}::timestamp), or "
    "{c} AT TIME ZONE 'UTC', as the policy lists it.",
    **dict.fromkeys(("strpos", "position", "starts_with"), "An index answers how a value begins: {c} LIKE 'abc%'."),
    **dict.fromkeys(
        ("min", "max"),
        "What is encrypted has no order. Select {c} and compare in the application, or sort by an unprotected column and take "
        "the first row.",
    ),
    **dict.fromkeys(
        ("array_agg", "string_agg", "json_agg", "jsonb_agg", "json_build_object", "jsonb_build_object", "concat"),
        "Select {c} as a column of its own, and put the values together in the client.",
    ),
}


def _counted(a: Analysis, argument: Node, scope: Scope) -> None:
    """Analyse ``count(c)``: envelopes are NULL exactly where the values are."""
    if as_operand(argument) is not None:
        clear(a, argument, scope)
        return
    if is_row(argument, scope):
        return
    counted = term(a, argument, scope)
    single = counted.single
    if single is not None and isinstance(single.value, Protected | ListColumn) and "ColumnRef" in single.node:
        if isinstance(single.value, ListColumn):
            single.value.casts.extend(single.casts)
        else:
            a.strip(single.casts, single.value.column)
    else:
        as_null_test(a, counted)


def is_row(node: Node, scope: Scope) -> bool:
    """Tell whether an expression is a row of a source: its envelopes are NULL exactly where its values are."""
    kind, body = only(node)
    return kind == "ColumnRef" and is_whole_row(scope, strings(body["fields"]))


def grouping_function(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    """GROUPING() asks which columns a row is grouped by, and so which tags.

    SELECT GROUPING(ssn) FROM patients GROUP BY ROLLUP (ssn)
    → SELECT GROUPING(tag(ssn)) FROM patients GROUP BY ROLLUP (tag(ssn))
    """
    for argument in body.get("args", ()):
        by_tag(a, argument, scope)
    return CLEAR
