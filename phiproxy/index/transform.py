"""An index expression as one function: canonical bytes of the column's type in, canonical bytes of the result's type out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from phiproxy.errors import ConfigError
from phiproxy.index import table
from phiproxy.index.characters import ASCII, Characters
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read, write

NORMALISER = 1

_SHORT = {
    "character varying": "varchar",
    "character": "bpchar",
    "char": "bpchar",
    "smallint": "int2",
    "int": "int4",
    "integer": "int4",
    "bigint": "int8",
    "decimal": "numeric",
    "real": "float4",
    "double precision": "float8",
    "boolean": "bool",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
_ZONE = "; write (… AT TIME ZONE 'UTC'), since what a time zone is changes"
_CITEXT = "; write …::text, since over citext it ignores case"
_HINTS = {
    ("date_trunc", "date"): "; write …::timestamp, since of a date it depends on the time zone",
    ("date_trunc", "timestamptz"): _ZONE,
    ("extract", "timestamptz"): _ZONE,
    ("date_part", "timestamptz"): _ZONE,
    ("replace", "citext"): _CITEXT,
    ("translate", "citext"): _CITEXT,
}


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
    return Transform(expression, NORMALISER, step.total, step.result, step.apply)


def result_type(expression: Expression, type_name: str) -> str:
    """Return the type of an expression's values; ConfigError as of ``transform``."""
    return _step(expression, type_name, ASCII).result


def _step(expression: Expression, type_name: str, characters: Characters) -> table.Step:
    match expression:
        case Column():
            if short_type(type_name) == "json":
                raise ConfigError("a column of type json cannot be indexed: PostgreSQL has no equality of it (jsonb has)")
            return table.Step(type_name, _same)
        case Call(name=name, arguments=arguments):
            return _call(name, arguments, expression, type_name, characters)
        case Cast(argument=argument, type=target):
            return _cast(argument, target, expression, type_name, characters)
        case Constant():
            raise ConfigError(f"{write(expression)} is no index expression")


def _call(name: str, arguments: tuple[Expression, ...], whole: Call, type_name: str, characters: Characters) -> table.Step:
    row = table.row(name)
    if row is None:
        raise ConfigError(f"{name}() is not among the functions that an index may use: {', '.join(table.usages())}")
    constants = [a.value for i, a in enumerate(arguments) if i != row.operand and isinstance(a, Constant)]
    fewest = len(row.constants) - row.optional
    if len(arguments) != len(constants) + 1 or not fewest <= len(constants) <= len(row.constants):
        raise ConfigError(f"{write(whole)}: an index is written {row.usage}, with constants around what is indexed")
    for constant, kind in zip(constants, row.constants, strict=False):
        if not isinstance(constant, kind) or (isinstance(constant, int) and constant not in table.INTEGERS):
            raise ConfigError(f"{write(whole)}: an index is written {row.usage}; {constant!r} does not fit there")
    inner = _step(arguments[row.operand], type_name, characters)
    operand = short_type(inner.result)
    if operand not in row.takes:
        hint = _HINTS.get((name, operand), "")
        raise ConfigError(
            f"{write(whole)}: {name}() takes {', '.join(sorted(row.takes))}, and {write(arguments[row.operand])} is {operand}{hint}"
        )
    try:
        outer = row.build(operand, constants, characters)
    except table.Misused as misused:
        raise ConfigError(f"{write(whole)}: {misused}") from None
    return _after(_as_text(inner) if operand == "bpchar" else inner, outer)


def _cast(argument: Expression, target: str, whole: Cast, type_name: str, characters: Characters) -> table.Step:
    inner = _step(argument, type_name, characters)
    operand = short_type(inner.result)
    found = table.cast(operand, target)
    if found is None:
        known = ", ".join(f"{one} to {other}" for one, other in table.casts())
        raise ConfigError(
            f"{write(whole)}: a cast of {operand} to {target} is not in the table of those that an index may use: {known}"
        )
    return _after(inner, found)


def _as_text(step: table.Step) -> table.Step:
    """Cast char(n) to text, as every function over text does: without the blanks at its end."""
    return _after(step, table.Step("text", lambda value: value.rstrip(b" ")))


def _after(inner: table.Step, outer: table.Step) -> table.Step:
    first, second = inner.apply, outer.apply
    if first is _same:
        return outer

    def both(value: bytes) -> bytes | None:
        between = first(value)
        return None if between is None else second(between)

    return table.Step(outer.result, both, inner.total and outer.total)


def _same(value: bytes) -> bytes:
    return value
