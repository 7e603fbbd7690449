"""Conditions over one value that the proxy evaluates itself: of CHECK constraints over protected columns (spec/sql 4.3).

A condition is data: nested lists, which are written as JSON into the constraint. Three-valued, as SQL is. What PostgreSQL would
answer by a locale that is not known here is refused when it is asked of such a value.
"""

import json
import math
import operator
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from phiproxy.errors import ConfigError, ValueRefused
from phiproxy.index.transform import transform
from phiproxy.policy.regular_expressions import Pattern, PatternRefused, like, regular_expression

VERSION = 1
_NOT_JUDGED = "not judged by a constraint over a protected column here"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"((?:[0-9]{4}-[0-9]{2}-[0-9]{2} )?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)(?:\+00)?")
Term = Callable[[str | None], Any]
Condition = Callable[[str | None], bool | None]


class NotJudged(ValueRefused, sqlstate="0A000", anchor="err-refused"):
    """Whether a value satisfies a constraint cannot be told here (0A000)."""


def written(tree: list[Any]) -> bytes:
    """Return a condition as it is kept."""
    return json.dumps({"condition": tree, "version": VERSION}, ensure_ascii=False).encode("utf-8")


def condition(text: bytes) -> Condition:
    """Return the condition of a text that ``written`` made; ValueError for any other, PatternRefused for a pattern."""
    read = json.loads(text)
    if read["version"] != VERSION:
        raise ValueError("a condition of another version")
    return compiled(read["condition"])


def compiled(tree: list[Any]) -> Condition:
    """Return the function of a condition; ValueError where it is none, PatternRefused for a pattern of it."""
    kind, *arguments = tree
    rule = _RULES.get(kind)
    if rule is None:
        raise ValueError("not a condition")
    return rule(*arguments)


def _junction(*, decisive: bool) -> Callable[..., Term]:
    def rule(*parts: list[Any]) -> Term:
        inside = [compiled(part) for part in parts]

        def evaluate(value: str | None) -> bool | None:
            answer: bool | None = not decisive
            for part in inside:
                part_value = part(value)
                if part_value is decisive:
                    return decisive
                answer = None if part_value is None else answer
            return answer

        return evaluate

    return rule


def _not(part: list[Any]) -> Term:
    inside = compiled(part)

    def evaluate(value: str | None) -> bool | None:
        inner = inside(value)
        return None if inner is None else not inner

    return evaluate


def _null(part: list[Any]) -> Term:
    inside = compiled(part)
    return lambda value: inside(value) is None


def _distinct(one: list[Any], other: list[Any]) -> Term:
    left, right = compiled(one), compiled(other)
    return lambda value: bool(left(value) != right(value))


def _strict(function: Callable[..., Any]) -> Callable[..., Term]:
    """Return the rule of a function that is NULL where one of its arguments is."""

    def rule(*parts: list[Any]) -> Term:
        inside = [compiled(part) for part in parts]

        def evaluate(value: str | None) -> Any:
            values = [part(value) for part in inside]
            return None if None in values else function(*values)

        return evaluate

    return rule


def _matching(make: Callable[..., Pattern], *, negated: bool) -> Callable[..., Term]:
    def rule(part: list[Any], *pattern: str) -> Term:
        inside, compared = compiled(part), make(*pattern)

        def evaluate(value: str | None) -> bool | None:
            text: Any = inside(value)
            if text is None:
                return None
            if not compared.judges(text):
                raise NotJudged(
                    "a value beyond ASCII, or a very long one, cannot be matched with the pattern of a constraint here",
                    hint="Match a pattern without character classes, and with one quantifier that has no upper bound.",
                )
            return compared.matches(text) is not negated

        return evaluate

    return rule


def _indexed(expression: str, type_name: str, part: list[Any]) -> Term:
    inside = compiled(part)
    try:
        apply = transform(expression, type_name).apply
    except ConfigError:
        raise ValueError("not an index expression") from None

    def evaluate(value: str | None) -> str | None:
        text: Any = inside(value)
        result = None if text is None else apply(text.encode("utf-8"))
        return None if result is None else result.decode("utf-8")

    return evaluate


def _ascii(function: Callable[[str], str]) -> Callable[[str], str]:
    def mapped(value: str) -> str:
        if not value.isascii():
            raise NotJudged(
                "lower() and upper() in a constraint over a protected column are computed here only where the value is ASCII",
                hint="Compute it in the application, and take it out of the constraint.",
            )
        return function(value)

    return mapped


def _number(value: Any) -> Decimal:
    """Return the number of a canonical form; NaN and the infinities have an order of their own, which is not known here."""
    number = Decimal(value)
    if not number.is_finite():
        raise NotJudged(f"NaN and infinite numbers are {_NOT_JUDGED}", hint="Leave them out.")
    return number


def _day(value: str) -> str:
    """Return a date of the years 1 to 9999, as texts in whose order the days are."""
    if not _DAY.fullmatch(value):
        raise NotJudged(f"a date before the year 1 or after 9999 is {_NOT_JUDGED}", hint="Leave it out.")
    return value


def _moment(value: str) -> str:
    """Return a time, or a timestamp of the years 1 to 9999, as texts in whose order they are."""
    match = _MOMENT.fullmatch(value)
    if match is None:
        raise NotJudged(f"a timestamp before the year 1, after 9999 or infinite is {_NOT_JUDGED}", hint="Leave it out.")
    return match[1]


def _double(value: str) -> tuple[bool, float]:
    """Return a float8 in the order that PostgreSQL has them in: NaN is equal to itself, and above all others."""
    number = float(value)
    return (True, 0.0) if math.isnan(number) else (False, number)


def _single(value: str) -> tuple[bool, float]:
    """Return a float4 as the float8 that it is compared as."""
    return _double(_SINGLE.unpack(_SINGLE.pack(float(value)))[0])


_SINGLE = struct.Struct("f")


_RULES: dict[str, Callable[..., Term]] = {
    "value": lambda: lambda value: value,
    "constant": lambda constant: lambda _value: constant,
    "index": _indexed,
    "and": _junction(decisive=False),
    "or": _junction(decisive=True),
    "not": _not,
    "null": _null,
    "distinct": _distinct,
    "=": _strict(operator.eq),
    "<>": _strict(operator.ne),
    "<": _strict(operator.lt),
    "<=": _strict(operator.le),
    ">": _strict(operator.gt),
    ">=": _strict(operator.ge),
    "number": _strict(_number),
    "day": _strict(_day),
    "moment": _strict(_moment),
    "double": _strict(_double),
    "single": _strict(_single),
    "truth": _strict(lambda value: value == "t"),
    "octets": _strict(lambda value: len(value) // 2 - 1),
    "length": _strict(len),
    "octet_length": _strict(lambda value: len(value.encode("utf-8"))),
    "lower": _strict(_ascii(str.lower)),
    "upper": _strict(_ascii(str.upper)),
    "btrim": _strict(lambda value, characters=" ": value.strip(characters) if characters else value),
    "ltrim": _strict(lambda value, characters=" ": value.lstrip(characters) if characters else value),
    "rtrim": _strict(lambda value, characters=" ": value.rstrip(characters) if characters else value),
    "~": _matching(regular_expression, negated=False),
    "!~": _matching(regular_expression, negated=True),
    "~*": _matching(lambda pattern: regular_expression(pattern, ignore_case=True), negated=False),
    "!~*": _matching(lambda pattern: regular_expression(pattern, ignore_case=True), negated=True),
    "~~": _matching(like, negated=False),
    "!~~": _matching(like, negated=True),
}
__all__ = ["VERSION", "Condition", "NotJudged", "PatternRefused", "compiled", "condition", "written"]
