"""The calendar."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.index.moments import Moment, parse
from phiproxy.types.calendar import date_of
from phiproxy.types.value_errors import DatetimeFieldOverflow


@settings(derandomize=True, database=None)
@given(st.dates())
def test_as_pythons_where_it_has_one(date: dt.date) -> None:
    day = (date - dt.date(2000, 1, 1)).days
    moment = Moment(*date_of(day))
    assert (moment.year, moment.month, moment.day) == (date.year, date.month, date.day)
    assert (moment.days, moment.weekday, moment.iso) == (day, date.weekday(), date.isocalendar()[:2])


@settings(derandomize=True, database=None)
@given(st.integers(-2_451_545, 2_145_000_000))
def test_days_there_and_back(days: int) -> None:
    assert Moment(*date_of(days)).days == days


@pytest.mark.parametrize(
    "text", ["2020-02-29", "2020-02-29 13:14:15.5", "0044-03-15 00:00:00 BC", "0001-01-01 BC", "294276-12-31 23:59:59.999999"]
)
def test_canonical_forms(text: str) -> None:
    moment = parse(text.encode())
    assert (moment.written() if ":" in text else moment.written_date()) == text.encode()


def test_times() -> None:
    assert parse(b"24:00:00").written_time() == b"24:00:00"
    assert parse(b"00:00:00.000001").micros == 1
    with pytest.raises(ValueError, match="not the canonical form"):
        parse(b"1/2/2020")
    with pytest.raises(DatetimeFieldOverflow):
        Moment(-4713, 11, 23).written()
