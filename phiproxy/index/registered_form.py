"""One spelling for expressions that are equal: what a DBA may write in several ways is one index, with one key."""

from phiproxy.errors import ConfigError
from phiproxy.index import function_table
from phiproxy.index.date_functions import is_whole, may_be_infinite
from phiproxy.index.document_paths import OPERATORS, function_call
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression
from phiproxy.index.transform import check_equality, result_type, short_type


def normal(expression: Expression, type_name: str) -> Expression:
    """Return the equal expression that is registered. ConfigError when it is not in the table, or not right over this type."""
    registered = _normal(expression, type_name)
    check_equality(result_type(registered, type_name))
    return registered


_TWINS = {"extract": "date_part", "date_part": "extract"}
# Types in which a whole field is the number that it is: no year is too large.
_INTEGERS = frozenset({"int4", "int8"})
_WHOLE = _INTEGERS | {"numeric", "float8"}


def twins(expression: Expression) -> tuple[Call, ...]:
    """Return what has the same tags: of a whole field, cast or not, ``extract`` and ``date_part`` of it.

    Nothing has those of a cast to an integer of what may be infinite: PostgreSQL fails where a row has that, and a tag does not.
    """
    match expression:
        case Cast(argument=argument, type=target) if target in _WHOLE:
            same = twins(argument)
            return () if target in _INTEGERS and any(map(_is_infinite_of_some, same)) else same
        case Call(name="extract" | "date_part" as name, arguments=(Constant(value=str(field)), _)) if is_whole(field):
            return expression, Call(_TWINS[name], expression.arguments)
    return ()


def _is_infinite_of_some(field: Call) -> bool:
    match field.arguments:
        case (Constant(value=str(name)), _):
            return may_be_infinite(name)
    return False


def _normal(expression: Expression, type_name: str) -> Expression:
    match expression:
        case Cast(argument=argument, type=target):
            return _cast(_normal(argument, type_name), short_type(target), type_name)
        case Call(name=name, arguments=arguments):
            inner = tuple(_normal(a, type_name) for a in arguments)
            return _call(function_table.own_name(name), inner, type_name)
    return expression


def _cast(argument: Expression, target: str, type_name: str) -> Expression:
    """Leave casts out that change nothing; equality of varchar is that of text."""
    operand = _type_of(argument, type_name)
    same = operand == target or {operand, target} == {"text", "varchar"}
    return argument if same else Cast(argument, target)


def _call(name: str, arguments: tuple[Expression, ...], type_name: str) -> Expression:
    if name in OPERATORS:
        name, arguments = function_call(name, arguments, _type_of(arguments[0], type_name) or "")
    row = function_table.row(name)
    if row is not None and len(arguments) > row.operand:
        arguments = tuple(_uncast(a, row, type_name) if i == row.operand else a for i, a in enumerate(arguments))
    call = Call(name, arguments)
    return call if row is None else row.registered(call)


def _uncast(argument: Expression, row: function_table.Row, type_name: str) -> Expression:
    """Leave a cast to text out where the function itself takes its operand as text."""
    if isinstance(argument, Cast) and argument.type == "text" and (operand := _type_of(argument.argument, type_name)) is not None:
        return argument.argument if operand in function_table.TEXTS & row.takes else argument
    return argument


def _type_of(expression: Expression, type_name: str) -> str | None:
    if isinstance(expression, Column):
        return short_type(type_name)
    try:
        return short_type(result_type(expression, type_name))
    except ConfigError:
        return None  # what is wrong in it is said of the whole
