"""interval as the server reads, cuts and writes it, in every IntervalStyle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.intervals import INTERVAL, interval, parts_of, spell_interval
from phiproxy.types.styles import Styles
from tests.types.against import agree, agree_on_assignment, batches, lists, outcome, refuses_alike
from tests.types.server import Oracle

ALIKE = frozenset({"22007", "22008", "22015"})
UNITS = "us|usecs|millisecond|ms|s|secs|second|min|m|minutes|h|hour|hrs|d|days|w|weeks|mon|month|mons|y|years|dec|century|mil|qtr|x"
NUMBERS = "+3|- 4|2147483647|2147483648|9223372036854775807|9223372036854775808|178956970|.5|1.|1e3|-.5"
FRACTIONS = "0|5|25|1|75|125|04|123456|1234567"
TIMES = "04:05:06|-4:05|+1:2:3.4567|25:00|1:60|00:00:60|-00:00:00.000001|1:30.5|100:59:59.9999999|2562047788:00:54.775807"
ISO = "PT1Y|P1Y|2M|3W|4D|T|T5H|6M|7.5S|-8S|-1D|P|PT0S|P1Y2M3DT4H5M6.7S|P0001-02-03|1.5H|p1d"
WORDS = "|1 day ago 2 hours|1 day 1 day|day|1 1 day|ago|@|1 2 hours|\u00e9 days|3 d, 2 h|1d2h|now|epoch"
BARE = "1-2|-1-2|+10-11|1-12|5|-6"


def one_of(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split("|"))


numbers = st.one_of(
    st.integers(-100, 100).map(str),
    st.tuples(st.integers(-20, 20), one_of(FRACTIONS)).map(lambda t: f"{t[0]}.{t[1]}"),
    one_of(NUMBERS),
)
items = st.one_of(st.tuples(numbers, one_of("| | "), one_of(UNITS)).map("".join), one_of(TIMES), one_of(BARE))
spoken = st.tuples(one_of("||@ "), st.lists(items, min_size=1, max_size=4).map(" ".join), one_of("|| ago")).map("".join)
standard = st.tuples(one_of("1-2 |-1-2 |"), one_of("3 |-3 |+3 |"), one_of(TIMES)).map("".join)
iso = st.lists(one_of(ISO), max_size=4).map("".join)
micros = st.one_of(
    st.just(0),
    st.integers(-200_000_000, 200_000_000),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-99, 99).map(lambda hours: hours * 3_600_000_000),
)
whole = st.one_of(st.integers(-40, 40), st.integers(-(2**31), 2**31 - 1))
stored = st.tuples(whole, whole, micros)
SOUP = (
    "1|2|-3|+4|1.5|-0.25|.5|1.|- 6|100|1-2|-1-2|04:05|-04:05:06.7|year|y|mons|m|min|days|d|h|w|s|us|ago|@|,|dec|P|T|1Y|2M|qtr|t|:"
)
soup = st.lists(st.tuples(one_of(SOUP), one_of("| | |, ")).map("".join), max_size=6).map("".join)
texts = st.one_of(spoken, standard, soup, iso, one_of(WORDS), stored.map(lambda parts: spell_interval(*parts).decode())).map(
    str.encode
)
styles = st.sampled_from(["postgres", "postgres_verbose", "sql_standard", "iso_8601"]).map(
    lambda style: Styles(interval_style=style)
)


@batches(70)
@given(lists(texts), styles)
def test_as_the_server(oracle: Oracle, batch: list[bytes], style: Styles) -> None:
    agree(oracle, "interval", INTERVAL, batch, style, alike=ALIKE)


LIMITED = [
    ("year", 327679), ("month", 196607), ("day", 589823), ("hour", 67174399), ("minute", 134283263), ("second(2)", 268435458),
    ("year to month", 458751), ("day to hour", 67698687), ("day to minute", 201916415), ("day to second(1)", 470286337),
    ("hour to minute", 201392127), ("hour to second", 469827583), ("minute to second", 402718719), ("(3)", 2147418115),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "typmod"), LIMITED)
def test_fields(oracle: Oracle, fields: str, typmod: int) -> None:
    texts = [b"-3 years 14 months 5 days -26:05:06.78901", b"1 mon -1 day 03:59:59.9999", b"00:00:00.0000005", b"-00:00:59.95"]
    agree_on_assignment(oracle, "interval", f"interval {fields}", typmod, INTERVAL, texts)
    codec = interval(typmod)
    for text in ("1", "1:30", "1 2", "-2.5", "1-2", "7 05:06", "3 days"):
        found = outcome(lambda given=text: codec.assign(codec.from_text(given.encode(), Styles.CANONICAL), typmod))  # type: ignore[misc]
        if isinstance(found, bytes) or found.sqlstate != "0A000":
            assert (found if isinstance(found, bytes) else found.sqlstate) == oracle.literal(f"interval {fields}", text), text


def test_binary(oracle: Oracle) -> None:
    ends = [b"\0" * 16, b"\xff" * 16, b"\x80" + bytes(15), b"\x7f" + b"\xff" * 7 + bytes(8), b"", bytes(15), bytes(17)]
    refuses_alike(oracle, "interval", INTERVAL, ends)


@given(stored)
def test_canonical_there_and_back(parts: tuple[int, int, int]) -> None:
    assert parts_of(spell_interval(*parts)) == parts
