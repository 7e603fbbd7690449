"""Function calls: what may be counted, and that nothing protected goes into any other function."""

from __future__ import annotations

import dataclasses

from phiproxy.sql.analysis import Analysis
from phiproxy.sql.derived import derived
from phiproxy.sql.expressions import clear, clear_all, type_cast, unsupported
from phiproxy.sql.grouping import by_tag, window
from phiproxy.sql.leaves import term
from phiproxy.sql.like import starts_with
from phiproxy.sql.mismatch import condition
from phiproxy.sql.ofcode import check_call
from phiproxy.sql.parse import Node, only, strings
from phiproxy.sql.rules import EXPRESSIONS
from phiproxy.sql.scope import CLEAR, ListColumn, Protected, Scope, Value, is_whole_row
from phiproxy.sql.sinks import as_sink
from phiproxy.sql.terms import as_null_test, as_plain, as_value


def _func_call(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    names = strings(body["funcname"])
    _check_name(a, names[-1], body)
    arguments = body.get("args", [])
    if derived(a, node, scope) is not None:
        return as_value(a, term(a, node, scope))
    if starts_with(a, node, body, scope):
        return CLEAR
    if scope.grouped:
        scope = dataclasses.replace(scope, called=True)
    if a.physical and names[-1] == "substring" and len(arguments) == 3 and _is_protected(a, arguments[0], scope):
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
    """Refuse a function that reaches something protected, or would show what a statement has become."""
    check_call(a, body)
    if name == "current_query":
        raise a.refuse("current_query() would answer with the statement that the server gets", body, hint=_OWN_TEXT)


def _type_cast(a: Analysis, node: Node, body: Node, scope: Scope) -> Value:
    if derived(a, node, scope) is not None:
        return as_value(a, term(a, node, scope))
    return type_cast(a, node, body, scope)


def _check_count(a: Analysis, names: list[str], body: Node) -> None:
    """Refuse to count values where the server would, of envelopes, call another function than of texts."""
    if len(names) > 1 or "count" not in a.context.catalog.replaced:
        return
    raise a.refuse("there is a function count besides the server's", body, hint="Write pg_catalog.count(…).")


def _argument(a: Analysis, node: Node, function: str, scope: Scope) -> None:
    if only(node)[0] not in ("ColumnRef", "TypeCast"):
        clear(a, node, scope)
        return
    made = term(a, node, scope)
    for column in made.columns():
        raise unsupported(a, column, node, _HINTS.get(function, _COMPUTED).format(f=function, c=column.name))
    as_plain(a, made)


_OWN_TEXT = "The application knows the text of its statement: let it pass that as a parameter."
_COMPUTED = "The server cannot compute with what is encrypted. Select {c}, and compute {f} in the application."
_OF_INDEX = "A blind index answers {f}({c}, …) where all else in it is constant, and the policy lists it."
_HINTS = {
    **dict.fromkeys(("lower", "upper", "left", "right", "soundex", "regexp_replace", "substring", "substr"), _OF_INDEX),
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
    """``count(c)``: an envelope is NULL where its value is, and an aggregate's argument is no value of a group."""
    if as_sink(argument) is not None:
        clear(a, argument, scope)
        return
    if is_row(argument, scope):
        return
    made = term(a, argument, scope)
    single = made.single
    if single is not None and isinstance(single.value, Protected | ListColumn) and "ColumnRef" in single.node:
        if isinstance(single.value, ListColumn):
            single.value.casts.extend(single.casts)
        else:
            a.strip(single.casts, single.value.column)
    else:
        as_null_test(a, made)


def _is_protected(a: Analysis, node: Node, scope: Scope) -> bool:
    return next(term(a, node, scope).columns(), None) is not None


def is_row(node: Node, scope: Scope) -> bool:
    """Tell whether an expression is a row of a source: whether it is NULL, its envelopes tell as its values would."""
    kind, body = only(node)
    return kind == "ColumnRef" and is_whole_row(scope, strings(body["fields"]))


def _grouping(a: Analysis, _node: Node, body: Node, scope: Scope) -> Value:
    for argument in body.get("args", ()):
        by_tag(a, argument, scope)
    return CLEAR


EXPRESSIONS.update({"FuncCall": _func_call, "GroupingFunc": _grouping, "TypeCast": _type_cast})
