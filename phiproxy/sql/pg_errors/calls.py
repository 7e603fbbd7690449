"""Function calls: whether there is a function of this name for the arguments, of the kind that is written (parse_func.c)."""

from collections.abc import Iterable, Iterator, Sequence

from phiproxy.errors import (
    DatatypeMismatch,
    GroupingError,
    SetNotAllowed,
    UndefinedFunction,
    UndefinedObject,
    WindowingError,
    WrongObjectType,
)
from phiproxy.policy.signatures import ONE_TYPE, TEXT, UNKNOWN, Function, Type
from phiproxy.sql.pg_errors.expression_types import condition, type_of
from phiproxy.sql.pg_errors.names_and_signatures import Level, Verdict, resolve
from phiproxy.sql.pg_errors.sorted_outputs import check_aggregate
from phiproxy.sql.text.parse import Node, children, location, only, strings

_HINT = "No function matches the given name and argument types. You might need to add explicit type casts."


def function_call(v: Verdict, _node: Node, body: Node, level: Level) -> Type:
    """Reject a call of a function that does not exist, or of another kind than is written.

    SELECT lower(ssn, 1) FROM patients
    → refused 42883

    SELECT row_number() FROM patients WHERE ssn = 'x'
    → refused 42809
    """
    nodes = body.get("args", [])
    arguments = [type_of(v, argument, level) for argument in nodes]
    for order in body.get("agg_order", ()):
        type_of(v, order, level)
    if "agg_filter" in body:
        condition(v, body["agg_filter"], level, "FILTER")
    result = _called(v, body, nodes, arguments, level)
    for part in children(body.get("over", {})):
        type_of(v, part, level)
    return result


def _called(v: Verdict, body: Node, nodes: Sequence[Node], arguments: Sequence[Type], level: Level) -> Type:
    names = strings(body["funcname"])
    if _is_beyond(v, body, names, nodes, arguments):
        if len(names) == 1 or names[0] == "pg_catalog":
            _check_clause(v, body, v.signatures.functions(names[-1]), level)
        return None
    functions = v.signatures.calls(names[-1], arguments)
    if not functions:
        shown = f"{'.'.join(names)}({', '.join(map(v.shown, arguments))})"
        raise v.error(UndefinedFunction, f"function {shown} does not exist", location(body), _HINT)
    _check_kind(v, body, names[-1], functions)
    _check_polymorphic(arguments, functions)
    _check_clause(v, body, functions, level)
    check_aggregate(v, body, level)
    if names[-1] == "unnest" and len(arguments) == 1:
        return v.signatures.element_of(arguments[0])
    # A literal without a type is a text where one is taken: of the types of its category that is the preferred one.
    exact_types = tuple(TEXT if given == UNKNOWN else v.signatures.base(given) for given in arguments)
    exact = [f for f in functions if f.arguments == exact_types]
    return v.signatures.result(exact or functions, arguments)


def _check_polymorphic(arguments: Sequence[Type], functions: Sequence[Function]) -> None:
    """Reject a call of which nothing says what a polymorphic argument is.

    UPDATE patients SET ssn = to_jsonb('x')::text
    → refused 42804
    """
    given = [one for one, wanted in zip(arguments, functions[0].arguments, strict=False) if wanted in ONE_TYPE]
    if len(functions) == 1 and not functions[0].variadic and given and all(one == UNKNOWN for one in given):
        why = "could not determine polymorphic type because input has type unknown"
        raise DatatypeMismatch(why, hint="Cast the constant.")  # PostgreSQL says not where


def _is_beyond(v: Verdict, body: Node, names: Sequence[str], nodes: Sequence[Node], arguments: Sequence[Type]) -> bool:
    """Tell whether a call is not checked here: f(x) may also be a cast, or a field of a row."""
    odd = body.get("agg_within_group") or body.get("func_variadic") or any("NamedArgExpr" in node for node in nodes)
    elsewhere = len(names) > 1 and names[0] != "pg_catalog"
    field = list(arguments) == [None] and not v.signatures.functions(names[-1])
    return bool(odd) or elsewhere or field or v.signatures.is_type(names[-1])


def is_aggregate(v: Verdict, body: Node) -> bool:
    """Tell whether a call is one of an aggregate, and not of a window function."""
    functions = v.signatures.functions(strings(body["funcname"])[-1])
    return bool(functions) and "over" not in body and all(function.kind == "a" for function in functions)


def _check_clause(v: Verdict, body: Node, functions: Sequence[Function], level: Level) -> None:
    """Reject an aggregate, window function or set in a clause that has none. An aggregate may belong to a query outside.

    UPDATE patients SET city = 'x' RETURNING ssn || max(ssn)
    → refused 42803
    """
    hint = "Compute it in a subquery."
    if "over" in body:
        if level.barred:
            raise v.error(WindowingError, f"window functions are not allowed in {level.barred}", location(body), hint)
        name = body["over"].get("name") or body["over"].get("refname")
        if name and name not in level.windows and not v.sent:
            raise v.error(UndefinedObject, f'window "{name}" does not exist', location(body["over"]), "Name one of WINDOW.")
    elif is_aggregate(v, body):
        own = _level_of(body, level)
        if own is not None and own.barred:
            raise v.error(GroupingError, f"aggregate functions are not allowed in {own.barred}", location(body), hint)
    elif level.barred and not level.gives_sets and functions and all(function.rows for function in functions):
        raise v.error(SetNotAllowed, f"set-returning functions are not allowed in {level.barred}", location(body), hint)


def _level_of(body: Node, level: Level) -> Level | None:
    """Return the level that an aggregate belongs to: the innermost of the columns in its arguments; None where it is not known."""
    references = [only(node)[1]["fields"] for node in _references(body.get("args", ()))]
    resolved = [resolve(level, strings(fields)) if "A_Star" not in only(fields[-1]) else None for fields in references]
    if any(one is None for one in resolved):
        return level if level.outer is None else None
    own = [one[0] for one in resolved if one is not None]
    return next((seen for seen in level.levels() if any(seen is one for one in own)), level)


def _references(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        if "ColumnRef" in node:
            yield node
        yield from _references(children(only(node)[1]))


_AGGREGATES_ONLY = (("agg_distinct", "DISTINCT"), ("agg_order", "ORDER BY"), ("agg_filter", "FILTER"))


def _check_kind(v: Verdict, body: Node, name: str, functions: Sequence[Function]) -> None:
    kinds = {function.kind for function in functions}
    why = ""
    if kinds == {"p"}:
        why = f"{name} is a procedure"
    elif kinds == {"f"}:
        said = next((words for key, words in _AGGREGATES_ONLY if body.get(key)), "")
        if body.get("agg_star"):
            why = f"{name}(*) specified, but {name} is not an aggregate function"
        elif said:
            why = f"{said} specified, but {name} is not an aggregate function"
        elif "over" in body:
            why = f"OVER specified, but {name} is not a window function nor an aggregate function"
    elif kinds == {"w"} and "over" not in body:
        why = f"window function {name} requires an OVER clause"
        raise v.error(WrongObjectType, why, location(body), f"Write {name}(…) OVER (…).")
    if why:
        raise v.error(WrongObjectType, why, location(body), f"See what kind of function {name} is.")
