"""The calendar against Python's own, where that reaches, and itself beyond."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.calendar import FIRST_DAY, LAST_DAY, date_of, day_of, days_in, weekday

EPOCH = dt.date(2000, 1, 1)


@given(st.dates())
def test_as_python(date: dt.date) -> None:
    number = (date - EPOCH).days
    assert day_of(date.year, date.month, date.day) == number
    assert date_of(number) == (date.year, date.month, date.day)
    assert weekday(number) == date.strftime("%a")


@given(st.integers(FIRST_DAY, LAST_DAY))
def test_there_and_back(day: int) -> None:
    year, month, dom = date_of(day)
    assert day_of(year, month, dom) == day
    assert 1 <= dom <= days_in(year, month)


def test_the_edges() -> None:
    assert date_of(FIRST_DAY) == (-4713, 11, 24)
    assert date_of(LAST_DAY) == (5874897, 12, 31)
    assert days_in(0, 2) == 29
    assert days_in(-100, 2) == 28
    assert days_in(1900, 2) == 28
