"""Arithmetic of dates, timestamps and integers as PostgreSQL does it (manual 9.9), over canonical forms.

Of the years 1 to 9999 only, and within an integer: whatever leaves them is ``OutOfRange``, be it an error of the server's or not.
"""

from phiproxy.types.calendar import date_of, day_of, days_in
from phiproxy.types.dates import day_number, spell_date
from phiproxy.types.times_of_day import DAY
from phiproxy.types.timestamps import micros_from, spell

Interval = tuple[int, int, int]
"""Months, days and microseconds."""
_FIRST, _END = day_of(1, 1, 1), day_of(10_000, 1, 1)


class OutOfRange(ValueError):
    """A result that is not computed here."""


def integer(number: int) -> bytes:
    """Return an int4."""
    if not -(1 << 31) <= number < 1 << 31:
        raise OutOfRange
    return b"%d" % number


def make_date(year: int, month: int, day: int) -> bytes:
    """Return what ``make_date`` gives."""
    if not (0 < year < 10_000 and 0 < month < 13 and 0 < day <= days_in(year, month)):
        raise OutOfRange
    return spell_date(year, month, day)


def add_days(date: bytes, days: int) -> bytes:
    """Return a date so many days later."""
    return spell_date(*date_of(_within(day_number(date) + days)))


def days_between(one: bytes, other: bytes) -> bytes:
    """Return how many days the first date is behind the other."""
    return integer(day_number(one) - day_number(other))


def add_interval(timestamp: bytes, interval: Interval) -> bytes:
    """Return a timestamp so much later: by months first, of which the last day is not passed, then by days and time."""
    months, days, micros = interval
    day, rest = divmod(micros_from(timestamp), DAY)
    year, month, of_month = date_of(day)
    years, month = divmod(month - 1 + months, 12)
    year, month = year + years, month + 1
    _within(day_of(year, month, 1))
    day = _within(day_of(year, month, min(of_month, days_in(year, month)))) + days
    _within(day)
    moment = day * DAY + rest + micros
    _within(moment // DAY)
    return spell(moment)


def negative(interval: Interval) -> Interval:
    """Return the interval that goes as far back."""
    months, days, micros = interval
    return -months, -days, -micros


def _within(day: int) -> int:
    if not _FIRST <= day < _END:
        raise OutOfRange
    return day
