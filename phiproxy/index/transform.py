"""An index expression as one function: canonical bytes of the column's type in, canonical bytes of the result's type out."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from phiproxy.errors import ConfigError
from phiproxy.index import function_table
from phiproxy.index.characters import ASCII, Characters
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read, write
from phiproxy.types.names import SQL_NAMES

NORMALISER = 1

_SHORT = {name: short for short, name in SQL_NAMES.items()} | {"char": "bpchar", "int": "int4", "decimal": "numeric"}


@dataclass(frozen=True, slots=True)
class Transform:
    """One index expression. ``apply`` raises ValueRefused where PostgreSQL's function fails, or the server's answer is not known.

    ``total``: never None for a value; a partial expression's NULL is a slot of 16 zero bytes. ``result`` is the type whose
    equality form is tagged.
    """

    expression: str
    normaliser: int
    total: bool
    result: str
    apply: Callable[[bytes], bytes | None]


def short_type(name: str) -> str:
    """Return PostgreSQL's short name of a type without its modifier: ``int4``, ``varchar``, ``timestamptz``; of others the name."""
    bare = re.sub(r"\s*\([^)]*\)", "", name.strip().lower())
    # an extension's, installed into a schema of somebody's choice
    return "citext" if bare.rpartition(".")[2] == "citext" else _SHORT.get(bare, bare)


@lru_cache(maxsize=1024)  # a statement with a formula asks for each value
def transform(expression: str, type_name: str, characters: Characters = ASCII) -> Transform:
    """Return the transform of an expression, in phiproxy's own spelling, over a column of this type.

    ConfigError, with what would do, for what is not in the table, or does not fit the types.
    """
    step = _step(read(expression), type_name, characters)
    check_equality(step.result)
    return Transform(expression, NORMALISER, step.total, step.result, step.apply)


def result_type(expression: Expression, type_name: str) -> str:
    """Return the type of an expression's values; ConfigError as of ``transform``, but that it may be json."""
    return _step(expression, type_name, ASCII).result


def check_equality(result: str) -> None:
    """Raise ConfigError for a type of which PostgreSQL has no equality: json."""
    if short_type(result) == "json":
        raise ConfigError("what is of type json cannot be indexed: PostgreSQL has no equality of it (of jsonb and text it has)")


def _step(expression: Expression, type_name: str, characters: Characters) -> function_table.Step:
    match expression:
        case Column():
            return function_table.Step(type_name, _same)
        case Call(name=name, arguments=arguments):
            return _call(name, arguments, expression, type_name, characters)
        case Cast(argument=argument, type=target):
            return _cast(argument, target, expression, type_name, characters)
        case Constant():
            raise ConfigError(f"{write(expression)} is no index expression")


def _call(name: str, arguments: tuple[Expression, ...], whole: Call, type_name: str, characters: Characters) -> function_table.Step:
    row = function_table.FUNCTIONS.get(name)
    if row is None:
        raise ConfigError(f"{name}() is not among the functions that an index may use: {', '.join(function_table.usages())}")
    constants = [a.value for i, a in enumerate(arguments) if i != row.operand and isinstance(a, Constant)]
    fewest = len(row.constants) - row.optional
    kinds = row.constants + row.constants[-1:] * (len(constants) - len(row.constants) if row.repeated else 0)
    if len(arguments) != len(constants) + 1 or not fewest <= len(constants) <= len(kinds):
        raise ConfigError(f"{write(whole)}: an index is written {row.usage}, with constants around what is indexed")
    for constant, kind in zip(constants, kinds, strict=False):
        if not isinstance(constant, kind) or (isinstance(constant, int) and constant not in function_table.INTEGERS):
            raise ConfigError(f"{write(whole)}: an index is written {row.usage}; {constant!r} does not fit there")
    inner = _step(arguments[row.operand], type_name, characters)
    operand = short_type(inner.result)
    if operand not in row.takes:
        hint = row.hints.get(operand, "")
        raise ConfigError(
            f"{write(whole)}: {name}() takes {', '.join(sorted(row.takes))}, and {write(arguments[row.operand])} is {operand}{hint}"
        )
    try:
        outer = row.build(operand, constants, characters)
    except function_table.Misused as misused:
        raise ConfigError(f"{write(whole)}: {misused}") from None
    if operand == "bpchar":  # cast to text, as every function over text does: without the blanks at its end
        inner = _after(inner, function_table.Step("text", lambda value: value.rstrip(b" ")))
    return _after(inner, outer)


def _cast(argument: Expression, target: str, whole: Cast, type_name: str, characters: Characters) -> function_table.Step:
    inner = _step(argument, type_name, characters)
    operand = short_type(inner.result)
    step = function_table.cast(operand, target)
    if step is None:
        casts = ", ".join(f"{one} to {other}" for one, other in function_table.casts())
        raise ConfigError(
            f"{write(whole)}: a cast of {operand} to {target} is not in the table of those that an index may use: {casts}"
        )
    return _after(inner, step)


def _after(inner: function_table.Step, outer: function_table.Step) -> function_table.Step:
    first, second = inner.apply, outer.apply
    if first is _same:
        return outer

    def both(value: bytes) -> bytes | None:
        between = first(value)
        return None if between is None else second(between)

    return function_table.Step(outer.result, both, inner.total and outer.total)


def _same(value: bytes) -> bytes:
    return value
