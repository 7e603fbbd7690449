"""Periods: an expression is the same all through one, and nowhere else; ranges are made of them and of nothing else."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.index.cover_range import Axis, Period, Unbounded, axis, cover, period, span
from phiproxy.index.spelling import Column, read
from phiproxy.index.transform import transform
from phiproxy.types.calendar import date_of, day_of
from phiproxy.types.times_of_day import DAY

_UTC = "timezone('UTC',@)"
_UNITS = ("month", "quarter", "year", "decade", "century", "millennium", "week", "day")
_OF_DAYS = [
    *(("date", f"date_trunc('{unit}',@::timestamp)") for unit in _UNITS),
    *(("date", f"{name}('{unit}',@)") for name in ("extract", "date_part") for unit in ("year", "decade", "century", "millennium")),
    ("date", "@"),
    ("date", "@::timestamp"),
    ("date", "date_trunc('month',@::timestamp)::date"),
]
_OF_MOMENTS = [
    *(("timestamp", f"date_trunc('{unit}',@)") for unit in (*_UNITS, "hour", "minute", "second", "milliseconds", "microseconds")),
    *(("timestamptz", f"date_trunc('{unit}',{_UTC})") for unit in (*_UNITS, "hour")),
    ("timestamp", "extract('year',@)"),
    ("timestamptz", f"extract('year',{_UTC})"),
    ("timestamp", "@::date"),
    ("timestamptz", f"{_UTC}::date"),
    ("timestamp", "extract('year',@::date)"),
    ("timestamp", "@"),
    ("timestamptz", "@"),
]
_CENTURIES = 400 * 365


def of(type_name: str) -> Axis:
    found = axis(type_name, Column())
    assert found is not None
    return found


@given(st.sampled_from(_OF_DAYS + _OF_MOMENTS), st.integers(-10 * _CENTURIES, 100 * _CENTURIES), st.floats(0, 1))
def test_an_expression_is_the_same_all_through_a_period_and_nowhere_else(which: tuple[str, str], near: int, inside: float) -> None:
    type_name, expression = which
    counted = of(type_name)
    made = transform(expression, type_name).apply
    cut = period(expression, counted)
    assert cut is not None
    start = _start(counted, cut, near)
    behind = cut.following(start)
    assert cut.starts(behind)
    between = min(start + int(inside * (behind - start)), behind - 1)
    values = [made(counted.value(number)) for number in (start, between, behind - 1)]
    assert len(set(values)) == 1
    assert made(counted.value(start - 1)) != values[0] != made(counted.value(behind))
    assert not any(cut.starts(n) for n in (between, behind - 1) if n != start)


def _start(counted: Axis, cut: Period, day: int) -> int:
    """Return where a period begins, in the next days or on a New Year's day of the next thousand years."""
    year, _, _ = date_of(day)
    days = [*range(day, day + 100), *(day_of(y, 1, 1) for y in range(year + 1, year + 1002))]
    found: int = next(number for number in (d * DAY if counted.fine else d for d in days) if cut.starts(number))
    return found


@pytest.mark.parametrize(
    ("type_name", "expression"),
    [
        ("date", "extract('month',@)"),
        ("date", "extract('dow',@)"),
        ("date", "extract('isoyear',@)"),
        ("timestamp", "extract('epoch',@)"),
        ("timestamp", "@::time"),
        ("timestamp", "date_trunc('century',date_trunc('decade',@))"),
        ("timestamp", "date_trunc('month',date_trunc('week',@))"),
        ("int4", "@::text"),
        ("int4", "date_trunc('year',@)"),
    ],
)
def test_what_comes_again_or_is_not_known_has_none(type_name: str, expression: str) -> None:
    assert period(expression, of(type_name)) is None


@pytest.mark.parametrize("type_name", ["text", "numeric", "float8", "time", "interval", "bool"])
def test_what_cannot_be_counted_has_no_axis(type_name: str) -> None:
    assert axis(type_name, Column()) is None


def test_a_field_is_a_whole_number() -> None:
    assert axis("numeric", read("extract('year',@)")) is not None
    assert axis("numeric", read("extract('epoch',@)")) is None


@given(st.sampled_from(["date", "timestamp", "timestamptz"]), st.integers(-4_700 * 365, 292_000 * 365))
def test_numbers_and_values(type_name: str, day: int) -> None:
    counted = of(type_name)
    number = day * 86_400_000_000 + 1 if counted.fine else day
    assert counted.number(counted.value(number)) == (number, True)


def test_a_date_is_not_the_moment_behind_its_beginning() -> None:
    assert of("date").number(b"2000-01-02 00:00:00.000001") == (1, False)
    assert of("date").number(b"1999-12-31 23:59:59") == (-1, False)
    assert of("int4").number(b"-1.5") == (-2, False)


@given(st.decimals(-9, 9, places=1), st.decimals(-9, 9, places=1), st.booleans(), st.booleans(), st.integers(-12, 12))
def test_spans(lower: object, upper: object, from_: bool, to: bool, value: int) -> None:
    found = span(of("int4"), str(lower).encode(), str(upper).encode(), closed=(from_, to))
    above = value >= lower if from_ else value > lower  # type: ignore[operator]
    below = value <= upper if to else value < upper  # type: ignore[operator]
    assert (isinstance(found, tuple) and found[0] <= value < found[1]) == (above and below)


@pytest.mark.parametrize(
    ("lower", "upper", "closed", "found"),
    [
        (b"infinity", b"infinity", (True, True), b"infinity"),
        (b"infinity", b"infinity", (True, False), None),
        (b"-infinity", b"-infinity", (True, True), b"-infinity"),
        (b"infinity", b"2000-01-01", (True, True), None),
        (b"infinity", b"-infinity", (True, True), None),
        (b"2000-01-01", b"-infinity", (True, True), None),
    ],
)
def test_infinite_ends(lower: bytes, upper: bytes, closed: tuple[bool, bool], found: bytes | None) -> None:
    assert span(of("date"), lower, upper, closed=closed) == found


@pytest.mark.parametrize(
    ("lower", "upper"), [(b"2000-01-01", b"infinity"), (b"-infinity", b"2000-01-01"), (b"-infinity", b"infinity")]
)
def test_without_an_end(lower: bytes, upper: bytes) -> None:
    with pytest.raises(Unbounded):
        span(of("date"), lower, upper, closed=(True, False))


def test_no_integer_is_infinite() -> None:
    assert span(of("int8"), b"Infinity", b"Infinity", closed=(True, True)) is None


_DAYS = st.dates(dt.date(1960, 1, 1), dt.date(2040, 1, 1)).map(lambda d: (d - dt.date(2000, 1, 1)).days)
_FORMS = st.lists(st.sampled_from([e for t, e in _OF_DAYS if t == "date"]), min_size=1, max_size=3, unique=True)


@given(_FORMS, _DAYS, _DAYS, st.integers(1, 400))
def test_a_cover_is_the_range_and_nothing_else(forms: list[str], first: int, end: int, most: int) -> None:
    found_periods = [period(form, of("date")) for form in forms]
    periods = [p for p in found_periods if p is not None]
    first, end = min(first, end), max(first, end) + 1
    found = cover(periods, first, end, most)
    if found is None:
        assert "@" not in forms or end - first > most
        return
    pieces = sorted((start, p.following(start)) for p, starts in zip(periods, found, strict=True) for start in starts)
    assert len(pieces) <= most
    assert pieces[0][0] == first
    assert pieces[-1][1] == end
    assert all(one[1] == other[0] for one, other in itertools.pairwise(pieces))


def test_long_periods_come_first_and_short_ones_fill_up() -> None:
    year, day = period("extract('year',@)", of("date")), period("@", of("date"))
    assert year is not None
    assert day is not None
    first, _ = of("date").number(b"1979-12-31")
    assert [len(starts) for starts in cover([day, year], first, first + 1 + 366 + 365, 1000) or ()] == [1, 2]


def test_weeks_alone_where_months_lead_nowhere() -> None:
    month, week = (period(f"date_trunc('{unit}',@::timestamp)", of("date")) for unit in ("month", "week"))
    assert month is not None
    assert week is not None
    first, _ = of("date").number(b"2001-01-01")  # a Monday
    assert [len(starts) for starts in cover([month, week], first, first + 35, 1000) or ()] == [0, 5]
