"""Expressions that cut a type whose values can be counted into periods: years, months, days, or single values, for each a tag.

A range that is made of whole periods is exactly the values that have the tags of these. Knows no SQL and no keys.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache

from phiproxy.errors import ConfigError
from phiproxy.index.date_functions import TIME_UNITS, is_whole
from phiproxy.index.spelling import Call, Cast, Column, Constant, Expression, read
from phiproxy.index.transform import short_type
from phiproxy.types.calendar import date_of, day_of
from phiproxy.types.dates import day_number, spell_date
from phiproxy.types.times_of_day import DAY
from phiproxy.types.timestamps import micros_from, spell


class Unbounded(Exception):
    """A range has no end on one side, be it that it ends in infinity."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A type whose values are counted by whole numbers.

    ``number`` gives that of the last value that is not greater than a bound, and whether the bound is that value; ``value`` the
    canonical form of the value of a number. What has a ``calendar`` is counted in days, or microseconds (``fine``).
    ``infinite``: there are values before and behind all others.
    """

    number: Callable[[bytes], tuple[int, bool]]
    value: Callable[[int], bytes]
    calendar: bool = True
    fine: bool = False
    infinite: bool = True


@dataclass(frozen=True, slots=True)
class Period:
    """What an expression makes of an axis: ``starts`` tells whether a period begins at a number, ``following`` where the next.

    Of two periods the longer one has the greater ``size``.
    """

    size: int
    starts: Callable[[int], bool]
    following: Callable[[int], int]


def _day(bound: bytes) -> tuple[int, bool]:
    if b":" not in bound:
        return day_number(bound), True
    days, rest = divmod(micros_from(bound), DAY)
    return days, not rest


def _integer(bound: bytes) -> tuple[int, bool]:
    number = Decimal(bound.decode())
    floor = number.to_integral_value(ROUND_FLOOR)
    return int(floor), floor == number


_FIELDS = Axis(_integer, lambda number: b"%d" % number, calendar=False)
_AXES = {
    "date": Axis(_day, lambda number: spell_date(*date_of(number))),
    "timestamp": Axis(lambda bound: (micros_from(bound), True), spell, fine=True),
    "timestamptz": Axis(lambda bound: (micros_from(bound), True), lambda number: spell(number, b"+00"), fine=True),
    **dict.fromkeys(("int2", "int4", "int8"), replace(_FIELDS, infinite=False)),
}


def axis(type_name: str, expression: Expression) -> Axis | None:
    """Return the axis of a type, or of what an expression is of that type; None where values lie between any two."""
    match expression:
        case Call(name="extract" | "date_part", arguments=(Constant(value=str(field)), _)) if is_whole(field):
            # whole numbers, of which none lies between two
            return _FIELDS
    return _AXES.get(short_type(type_name))


# -- periods -------------------------------------------------------------------------------------------------------------------

_MONTHS = {"month": (1, 0), "quarter": (3, 0), "year": (12, 0), "decade": (120, 0), "century": (1200, 1), "millennium": (12000, 1)}
_GROWING = frozenset({"year", "decade", "century", "millennium"})
_VALUE = "value"


def _months(count: int, first_year: int) -> tuple[Callable[[int], bool], Callable[[int], int]]:
    def starts(day: int) -> bool:
        year, month, of_month = date_of(day)
        return of_month == 1 and ((year - first_year) * 12 + month - 1) % count == 0

    def following(day: int) -> int:
        year, month, _ = date_of(day)
        years, months = divmod(month - 1 + count, 12)
        return day_of(year + years, months + 1, 1)

    return starts, following


def _each(step: int, first: int = 0) -> tuple[Callable[[int], bool], Callable[[int], int]]:
    return (lambda number: (number - first) % step == 0), (lambda number: number + step)


_MONDAY = day_of(2001, 1, 1)
_DAYS = {
    "day": _each(1),
    "week": _each(7, _MONDAY),
    **{unit: _months(*how) for unit, how in _MONTHS.items()},
}
_SIZES = {unit: size for size, unit in enumerate((_VALUE, *TIME_UNITS, *_DAYS))}


@lru_cache(maxsize=1024)
def period(expression: str, of: Axis) -> Period | None:
    """Return the periods into which an expression, in phiproxy's own spelling, cuts an axis; None where it is not known to."""
    try:
        unit = _unit(read(expression))
    except ConfigError:
        return None
    if unit is None or (unit != _VALUE and not of.calendar):
        return None
    if unit == _VALUE:
        return Period(0, *_each(1))
    if unit in TIME_UNITS:
        return Period(_SIZES[unit], *_each(TIME_UNITS[unit])) if of.fine else None
    starts, following = _DAYS[unit]
    if not of.fine:
        return Period(_SIZES[unit], starts, following)
    return Period(_SIZES[unit], lambda n: n % DAY == 0 and starts(n // DAY), lambda n: following(n // DAY) * DAY)


def _unit(expression: Expression) -> str | None:
    """Return how long the periods are, by the name of the field; what is cut may be cut before only into days and less."""
    match expression:
        case Column():
            return _VALUE
        case Cast(argument=argument, type="timestamp") | Call(name="timezone", arguments=(Constant(value="UTC"), argument)):
            return _unit(argument)
        case Cast(argument=argument, type="date"):
            inner = _unit(argument)
            return inner if inner is not None and _SIZES[inner] > _SIZES["day"] else _coarser(inner, "day")
        case Call(name="date_trunc", arguments=(Constant(value=str(field)), argument)) if field in _SIZES:
            return _coarser(_unit(argument), field)
        case Call(name="extract" | "date_part", arguments=(Constant(value=str(field)), argument)) if field in _GROWING:
            return _coarser(_unit(argument), field)
    return None


def _coarser(inner: str | None, outer: str) -> str | None:
    if inner is None or (_SIZES[inner] > _SIZES["day"] and inner != outer):
        return None
    return max(inner, outer, key=_SIZES.__getitem__)


# -- ranges --------------------------------------------------------------------------------------------------------------------


def _rank(bound: bytes) -> int:
    return {b"-infinity": -1, b"infinity": 1, b"nan": 2}.get(bound.lower(), 0)


def span(of: Axis, lower: bytes, upper: bytes, *, closed: tuple[bool, bool]) -> tuple[int, int] | bytes | None:
    """Return the first number of a range and the one behind its last; ``closed`` says whether the bounds are part of it.

    Or the one value in it that has no number, as infinity; None where it is empty. Unbounded where it has no end.
    """
    one, other = _rank(lower), _rank(upper)
    if one == other == 0:
        first, end = _from(of, lower, closed=closed[0]), _from(of, upper, closed=not closed[1])
        return (first, end) if first < end else None
    if one < other:
        raise Unbounded
    return lower if of.infinite and one == other and all(closed) else None


def _from(of: Axis, bound: bytes, *, closed: bool) -> int:
    """Return the first number from a bound on."""
    number, exact = of.number(bound)
    return number if exact and closed else number + 1


def cover(periods: Sequence[Period], first: int, end: int, most: int) -> list[list[int]] | None:
    """Return, for each of several periods, the starts of those of which the numbers from ``first`` to before ``end`` are made.

    None where they are not made of whole ones, or of more than ``most``.
    """
    tags = _cover(periods, first, end, most)
    for i, one_period in enumerate(periods if tags is None else ()):
        if (single := _cover([one_period], first, end, most)) is not None:
            return [single[0] if i == j else [] for j in range(len(periods))]
    return tags


def _cover(periods: Sequence[Period], first: int, end: int, most: int) -> list[list[int]] | None:
    longest_first = sorted(range(len(periods)), key=lambda i: -periods[i].size)
    tags: list[list[int]] = [[] for _ in periods]
    at = first
    for _ in range(most):
        for i in longest_first:
            following = periods[i].following(at) if periods[i].starts(at) else math.inf
            if following <= end:
                tags[i].append(at)
                at = int(following)
                break
        else:
            return None
        if at == end:
            return tags
    return None
