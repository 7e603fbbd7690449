"""Time zones: offsets as zoneinfo has them, names as sessions say them."""

from __future__ import annotations

import pytest

from phiproxy.errors import ValueRefused
from phiproxy.types.zones import ABBREVIATIONS, UTC, abbreviation, is_utc, known_zone, zone
from tests.types.server import Oracle

DAY = 86_400


def test_a_gap_counts_before_and_an_overlap_after() -> None:
    berlin = zone("Europe/Berlin")
    gap = 8856 * DAY + 2 * 3600 + 1800  # 2024-03-31 02:30
    overlap = 9066 * DAY + 2 * 3600 + 1800  # 2024-10-27 02:30
    assert (berlin.offset_of(gap), berlin.offset_of(overlap)) == (3600, 3600)
    assert berlin.at(0) == (3600, "CET")


def test_years_beyond_datetime() -> None:
    berlin = zone("Europe/Berlin")
    cycle = 146_097 * DAY
    assert berlin.at(100 * cycle + 180 * DAY) == berlin.at(20 * cycle + 180 * DAY) == (7200, "CEST")
    assert berlin.at(-10 * cycle)[1] == "LMT"


def test_posix_names() -> None:
    assert zone("<-08>+08").at(0) == (-8 * 3600, "-08")
    assert zone("<+0530>-05:30").offset_of(0) == 19_800
    assert zone("FOO3").at(0) == (-3 * 3600, "FOO")


@pytest.mark.parametrize("name", ["Mars/Base", "FOO3BAR", "../etc/passwd", "", "FOO99"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueRefused, match="not known here"):
        zone(name)
    assert known_zone(name) is None


def test_names_of_utc() -> None:
    assert is_utc("UTC")
    assert is_utc("Etc/UTC")
    assert not is_utc("Europe/London")


def test_abbreviations_are_the_sessions_own() -> None:
    assert abbreviation("z", "Europe/Berlin") is UTC
    est = abbreviation("est", "America/New_York")
    assert est is not None
    assert est.offset_of(0) == -18_000
    assert abbreviation("est", "Europe/Berlin") is None
    assert abbreviation("cst", "Asia/Shanghai") is None


def test_abbreviations_mean_what_the_server_says(oracle: Oracle) -> None:
    server = oracle.abbreviations()
    assert {word: int(hours * 3600) for word, hours in ABBREVIATIONS.items()} == {word: server[word] for word in ABBREVIATIONS}
