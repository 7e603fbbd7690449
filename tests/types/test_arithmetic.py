"""Arithmetic of dates and timestamps: what the server itself says of the same."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.arithmetic import (
    Interval,
    OutOfRange,
    add_days,
    add_interval,
    days_between,
    integer,
    make_date,
    negative,
)
from phiproxy.types.dates import spell_date
from phiproxy.types.timestamps import spell
from tests.harness.server import PostgresServer
from tests.types.against import batches

DATES = st.dates().map(lambda d: spell_date(d.year, d.month, d.day))
MOMENTS = st.integers(-63_000_000_000_000_000, 252_000_000_000_000_000).map(spell)
INTERVALS = st.tuples(st.integers(-9_000, 9_000), st.integers(-300_000, 300_000), st.integers(-(10**16), 10**16))
CASES = st.tuples(DATES, DATES, st.integers(-400_000, 400_000), MOMENTS, INTERVALS)
QUERY = """
SELECT (d + n)::text, (d - o)::text, (t + i)::text, (t - i)::text
  FROM unnest(%s::date[], %s::date[], %s::int[], %s::timestamp[], %s::interval[]) AS v (d, o, n, t, i)
"""
Case = tuple[bytes, bytes, int, bytes, Interval]


@pytest.fixture(scope="module")
def conn(postgres_server: PostgresServer) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with postgres_server.connect("postgres") as found:
        yield found


def told(function: Callable[[], bytes]) -> bytes | None:
    """Return a result, None where it is out of range."""
    try:
        return function()
    except OutOfRange:
        return None


def spelled(interval: Interval) -> str:
    months, days, micros = interval
    return f"{months} mons {days} days {micros} us"


@given(st.lists(CASES, min_size=1, max_size=60))
@batches(12)
def test_as_the_server(conn: psycopg.Connection[tuple[object, ...]], cases: list[Case]) -> None:
    columns = [[value.decode() if isinstance(value, bytes) else value for value in column] for column in zip(*cases, strict=True)]
    columns[4] = [spelled(interval) for *_, interval in cases]
    answers = conn.execute(QUERY.encode(), columns).fetchall()
    for (date, other, days, moment, interval), answer in zip(cases, answers, strict=True):
        found = (
            told(lambda: add_days(date, days)),  # noqa: B023
            told(lambda: days_between(date, other)),  # noqa: B023
            told(lambda: add_interval(moment, interval)),  # noqa: B023
            told(lambda: add_interval(moment, negative(interval))),  # noqa: B023
        )
        for said, known in zip(found, answer, strict=True):
            if said is None:
                assert str(known).endswith("BC") or len(str(known).partition("-")[0]) > 4
            else:
                assert said == str(known).encode()


@pytest.mark.parametrize(
    ("moment", "interval", "then"),
    [
        (b"2000-01-31 12:00:00", (1, 0, 0), b"2000-02-29 12:00:00"),
        (b"2000-02-29 00:00:00", (12, 0, 0), b"2001-02-28 00:00:00"),
        (b"2000-03-31 00:00:00", (-1, -1, -1), b"2000-02-27 23:59:59.999999"),
        (b"2000-12-31 23:00:00", (2, 1, 3_600_000_000), b"2001-03-02 00:00:00"),
        (b"9999-12-31 00:00:00", (0, 1, 0), None),
        (b"0001-01-01 00:00:00", (0, 0, -1), None),
        (b"0001-01-01 00:00:00", (-1, 31, 0), None),
    ],
)
def test_months_come_first(moment: bytes, interval: Interval, then: bytes | None) -> None:
    assert told(lambda: add_interval(moment, interval)) == then


@pytest.mark.parametrize(
    ("parts", "date"),
    [((2000, 2, 29), b"2000-02-29"), ((1, 1, 1), b"0001-01-01"), ((2001, 2, 29), None), ((2001, 13, 1), None), ((-1, 1, 1), None)],
)
def test_a_date_of_its_parts(parts: tuple[int, int, int], date: bytes | None) -> None:
    assert told(lambda: make_date(*parts)) == date


def test_an_integer_has_32_bits() -> None:
    assert integer(-(1 << 31)) == b"-2147483648"
    for number in (1 << 31, -(1 << 31) - 1):
        with pytest.raises(OutOfRange):
            integer(number)


def test_dates_of_other_eras_are_not_given() -> None:
    assert (told(lambda: add_days(b"9999-12-31", 1)), told(lambda: add_days(b"0001-01-01", -1))) == (None, None)
    assert dt.date.fromisoformat(add_days(b"2024-02-28", 1).decode()).day == 29
