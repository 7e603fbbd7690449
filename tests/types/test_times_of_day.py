"""Times of day and offsets, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.times_of_day import DAY, micros_of, round_micros, seconds_of, spell_offset, spell_time


@given(st.integers(0, DAY))
def test_time_there_and_back(micros: int) -> None:
    assert micros_of(spell_time(micros)) == micros


@given(st.integers(-57_599, 57_599))
def test_offset_there_and_back(seconds: int) -> None:
    assert seconds_of(spell_offset(seconds)) == seconds


@pytest.mark.parametrize(
    ("micros", "precision", "rounded"), [(1_500_000, 0, 2_000_000), (-1_500_000, 0, -2_000_000), (5, 5, 10), (4, 5, 0)]
)
def test_half_goes_away_from_zero(micros: int, precision: int, rounded: int) -> None:
    assert round_micros(micros, precision) == rounded


def test_spelling() -> None:
    assert spell_time(DAY) == b"24:00:00"
    assert spell_time(100_000) == b"00:00:00.1"
    assert (spell_offset(-12_600), spell_offset(3208), spell_offset(0)) == (b"-03:30", b"+00:53:28", b"+00")
