"""Conditions over one value that the proxy evaluates itself: of CHECK constraints over protected columns (sql.md section 4).

A condition is data: nested lists, which are written as JSON into the constraint. Three-valued, as SQL is. What PostgreSQL would
answer by a locale that is not known here is refused when it is asked of such a value.
"""

from __future__ import annotations

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
from phiproxy.policy.patterns import Pattern, PatternRefused, like, regular_expression

VERSION = 1
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"((?:[0-9]{4}-[0-9]{2}-[0-9]{2} )?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?)(?:\+00)?")
Term = Callable[[str | None], Any]
Condition = Callable[[str | None], bool | None]


class NotJudged(ValueRefused):
    """Whether a value satisfies a constraint cannot be told here (0A000)."""

    sqlstate = "0A000"
    anchor = "err-refused"


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


def _and(*parts: list[Any]) -> Term:
    inside = [compiled(part) for part in parts]

    def evaluate(value: str | None) -> bool | None:
        answer: bool | None = True
        for part in inside:
            found = part(value)
            if found is False:
                return False
            answer = answer and found
        return answer

    return evaluate


def _or(*parts: list[Any]) -> Term:
    inside = [compiled(part) for part in parts]

    def evaluate(value: str | None) -> bool | None:
        answer: bool | None = False
        for part in inside:
            found = part(value)
            if found:
                return True
            answer = None if found is None else answer
        return answer

    return evaluate


def _not(part: list[Any]) -> Term:
    inside = compiled(part)

    def evaluate(value: str | None) -> bool | None:
        found = inside(value)
        return None if found is None else not found

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
            found = [part(value) for part in inside]
            return None if None in found else function(*found)

        return evaluate

    return rule


def _matching(make: Callable[..., Pattern], *, negated: bool) -> Callable[..., Term]:
    def rule(part: list[Any], *pattern: str) -> Term:
        inside, compared = compiled(part), make(*pattern)

        def evaluate(value: str | None) -> bool | None:
            found: Any = inside(value)
            if found is None:
                return None
            if not compared.judges(found):
                raise NotJudged(
                    "a value beyond ASCII, or a very long one, cannot be matched with the pattern of a constraint here",
                    hint="Match a pattern without character classes, and with one quantifier that has no upper bound.",
                )
            return compared.matches(found) is not negated

        return evaluate

    return rule


def _indexed(expression: str, type_name: str, part: list[Any]) -> Term:
    """Return what an index expression makes of a value of a type."""
    inside = compiled(part)
    try:
        apply = transform(expression, type_name).apply
    except ConfigError:
        raise ValueError("not an index expression") from None

    def evaluate(value: str | None) -> str | None:
        found: Any = inside(value)
        made = None if found is None else apply(found.encode("utf-8"))
        return None if made is None else made.decode("utf-8")

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


def _trimmed(value: str, characters: str = " ") -> str:
    return value.strip(characters) if characters else value


def _number(value: Any) -> Decimal:
    """Return the number of a canonical form; NaN and the infinities have an order of their own, which is not known here."""
    found = Decimal(value)
    if not found.is_finite():
        raise NotJudged(
            "NaN and infinite numbers are not judged by a constraint over a protected column here", hint="Leave them out."
        )
    return found


def _day(value: str) -> str:
    """Return a date of the years 1 to 9999, as texts in whose order the days are."""
    if not _DAY.fullmatch(value):
        raise NotJudged(
            "a date before the year 1 or after 9999 is not judged by a constraint over a protected column here",
            hint="Leave it out.",
        )
    return value


def _moment(value: str) -> str:
    """Return a time, or a timestamp of the years 1 to 9999, as texts in whose order they are."""
    found = _MOMENT.fullmatch(value)
    if found is None:
        raise NotJudged(
            "a timestamp before the year 1, after 9999 or infinite is not judged by a constraint over a protected column here",
            hint="Leave it out.",
        )
    return found[1]


def _double(value: str) -> tuple[bool, float]:
    """Return a float8 in the order that PostgreSQL has them in: NaN is equal to itself, and above all others."""
    found = float(value)
    return (True, 0.0) if math.isnan(found) else (False, found)


def _single(value: str) -> tuple[bool, float]:
    """Return a float4 as the float8 that it is compared as."""
    return _double(_SINGLE.unpack(_SINGLE.pack(float(value)))[0])


_SINGLE = struct.Struct("f")


def _constant(value: Any) -> Term:
    return lambda _value: value


_RULES: dict[str, Callable[..., Term]] = {
    "value": lambda: lambda value: value,
    "constant": _constant,
    "index": _indexed,
    "and": _and,
    "or": _or,
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
    "btrim": _strict(_trimmed),
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
