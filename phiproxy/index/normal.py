"""One spelling for expressions that are equal: what a DBA may write in several ways is one index, with one key."""

from __future__ import annotations

from phiproxy.errors import ConfigError
from phiproxy.index import dates, table
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read, write
from phiproxy.index.transform import result_type, short_type

_OTHER_NAMES = {"substr": "substring", "char_length": "length", "character_length": "length"}
_OF_FIELDS = frozenset({"extract", "date_part", "date_trunc"})
_TRIMS = frozenset({"btrim", "ltrim", "rtrim"})


def normal_spelling(text: str, type_name: str) -> str:
    """Return the spelling under which an expression over a column of this type is registered; ConfigError for what is no index."""
    return write(normal(read(text), type_name))


def normal(expression: Expression, type_name: str) -> Expression:
    """Return the equal expression that is registered. ConfigError when it is not in the table, or not right over this type."""
    found = _normal(expression, type_name)
    result_type(found, type_name)
    return found


_TWINS = {"extract": "date_part", "date_part": "extract"}
# Types in which a whole field is the number that it is: no year is too large.
WHOLE = frozenset({"int4", "int8", "numeric", "float8"})


def twins(expression: Expression) -> tuple[Call, ...]:
    """Return what has the same tags: of a whole field, cast or not, ``extract`` and ``date_part`` of it."""
    match expression:
        case Cast(argument=argument, type=target) if target in WHOLE:
            return twins(argument)
        case Call(name="extract" | "date_part" as name, arguments=(Constant(value=str(field)), _)) if dates.is_whole(field):
            return expression, Call(_TWINS[name], expression.arguments)
    return ()


def _normal(expression: Expression, type_name: str) -> Expression:
    match expression:
        case Cast(argument=argument, type=target):
            return _cast(_normal(argument, type_name), short_type(target), type_name)
        case Call(name=name, arguments=arguments):
            inner = tuple(_normal(a, type_name) for a in arguments)
            return _call(_OTHER_NAMES.get(name, name), inner, type_name)
    return expression


def _cast(argument: Expression, target: str, type_name: str) -> Expression:
    """Leave casts out that change nothing; equality of varchar is that of text."""
    operand = _type_of(argument, type_name)
    same = operand == target or {operand, target} == {"text", "varchar"}
    return argument if same else Cast(argument, target)


def _call(name: str, arguments: tuple[Expression, ...], type_name: str) -> Expression:
    row = table.row(name)
    if row is not None and len(arguments) > row.operand:
        arguments = tuple(_uncast(a, row, type_name) if i == row.operand else a for i, a in enumerate(arguments))
    values = [a.value if isinstance(a, Constant) else None for a in arguments]
    if name in _TRIMS and values[1:] == [" "]:
        return Call(name, arguments[:1])
    if name == "substring" and values[1:2] == [1] and len(values) == 3 and isinstance(values[2], int) and values[2] >= 0:
        return Call("left", (arguments[0], arguments[2]))
    if name in _OF_FIELDS and isinstance(values[0], str):
        return Call(name, (Constant(dates.field_name(values[0])), *arguments[1:]))
    if name == "regexp_replace" and len(values) == 4 and isinstance(values[1], str):
        return Call(name, (arguments[0], Constant(table.NO_DIGITS.get(values[1], values[1])), *arguments[2:]))
    return Call(name, arguments)


def _uncast(argument: Expression, row: table.Row, type_name: str) -> Expression:
    """Leave a cast to text out where the function itself takes its operand as text."""
    if isinstance(argument, Cast) and argument.type == "text" and (operand := _type_of(argument.argument, type_name)) is not None:
        return argument.argument if operand in table.TEXTS & row.takes else argument
    return argument


def _type_of(expression: Expression, type_name: str) -> str | None:
    if isinstance(expression, Column):
        return short_type(type_name)
    try:
        return short_type(result_type(expression, type_name))
    except ConfigError:
        return None  # what is wrong in it is said of the whole
