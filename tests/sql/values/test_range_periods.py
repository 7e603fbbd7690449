"""Ranges and the tags that they are: whatever is answered is true of exactly the values in the range."""

from __future__ import annotations

import datetime as dt
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.index.spelling import Column, read, write
from phiproxy.index.transform import transform
from phiproxy.sql.values.patterns import NotAnswered
from phiproxy.sql.values.range_periods import Range, RangeBounds, within

YEARS, MONTHS, DAYS = "extract('year',@)", "date_trunc('month',@::timestamp)", "@"
OPERATORS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
DATES = st.one_of(
    st.dates(dt.date(1970, 1, 1), dt.date(1990, 12, 31)),
    st.builds(dt.date, st.integers(1970, 1990), st.sampled_from([1, 1, 7, 12]), st.sampled_from([1, 31])),
)


def made(parts: tuple[str, ...], bounds: RangeBounds, own: int = 0) -> Range:
    return Range(parts, "date", "@", own, bounds, "public.people.born", "Ask for whole years.")


def answer(parts: tuple[str, ...], bounds: RangeBounds, lower: bytes | None, upper: bytes | None) -> list[list[bytes] | None]:
    return [made(parts, bounds, own).subjects(lower, upper) for own in range(len(parts))]


@given(
    st.sampled_from([(YEARS,), (YEARS, MONTHS), (DAYS, MONTHS, YEARS), (MONTHS,)]),
    st.sampled_from([">", ">="]),
    st.sampled_from(["<", "<="]),
    DATES,
    DATES,
    DATES,
)
def test_exactly_or_not_at_all(parts: tuple[str, ...], low: str, high: str, lower: dt.date, upper: dt.date, value: dt.date) -> None:
    try:
        answers = answer(parts, RangeBounds(1, low, high), lower.isoformat().encode(), upper.isoformat().encode())
    except NotAnswered:
        assert DAYS not in parts or (upper - lower).days > 900
        return
    inside = OPERATORS[low](value, lower) and OPERATORS[high](value, upper)
    of_value = [transform(part, "date").apply(value.isoformat().encode()) for part in parts]
    tagged = [one in (of or ()) for one, of in zip(of_value, answers, strict=True)]
    assert tagged.count(True) == inside


def test_each_index_has_its_part() -> None:
    answers = answer((DAYS, MONTHS, YEARS), RangeBounds(1), b"1979-12-31", b"1981-01-31")
    assert answers == [[b"1979-12-31"], [b"1981-01-01 00:00:00"], [b"1980"]]


def test_a_range_of_nothing_has_no_periods() -> None:
    assert answer((YEARS,), RangeBounds(1, ">", "<"), b"1980-01-01", b"1980-01-02") == [[]]


@pytest.mark.parametrize("filtered", [False, True])
def test_a_null_bound_answers_nothing_in_a_filter(filtered: bool) -> None:
    bounds = RangeBounds(1, filter=filtered)
    assert answer((YEARS,), bounds, None, None) == [None]
    if filtered:
        assert answer((YEARS,), bounds, None, b"1980-12-31") == [None]
    else:
        with pytest.raises(NotAnswered, match="one end of which is NULL"):
            answer((YEARS,), bounds, None, b"1980-12-31")


def test_symmetric_bounds_may_be_in_either_order() -> None:
    bounds = RangeBounds(1, symmetric=True)
    backwards = answer((YEARS,), bounds, b"1980-12-31", b"1980-01-01")
    assert backwards == answer((YEARS,), bounds, b"1980-01-01", b"1980-12-31") == [[b"1980"]]
    assert answer((YEARS,), bounds, None, b"1980-12-31") == [None]
    for lower, upper in ((b"1980-01-01", b"infinity"), (b"infinity", b"1980-01-01")):
        with pytest.raises(NotAnswered):
            answer((YEARS,), bounds, lower, upper)


def test_infinity_is_one_value() -> None:
    assert answer((YEARS, DAYS), RangeBounds(1), b"infinity", b"infinity") == [[b"Infinity"], []]


def test_a_thousand_and_no_more() -> None:
    assert len(answer((YEARS,), RangeBounds(1), b"1000-01-01", b"1999-12-31")[0] or ()) == 1000
    with pytest.raises(NotAnswered) as refused:
        answer((YEARS,), RangeBounds(1), b"0999-01-01", b"1999-12-31")
    assert (refused.value.sqlstate, refused.value.hint) == ("0A000", "Ask for whole years.")


def test_an_expression_of_what_is_compared() -> None:
    hour = read("date_trunc('hour',@)")
    assert within(hour, hour) == Column()
    assert write(within(read("date_trunc('hour',@)::date"), hour) or Column()) == "@::date"
    assert within(read("date_trunc('day',@)"), hour) is None
    assert within(read("lower(@)"), read("left(@,3)")) is None
