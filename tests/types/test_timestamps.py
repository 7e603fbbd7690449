"""timestamp and timestamptz as the server reads, rounds and writes them, in every style and zone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.codec import Codec
from phiproxy.types.styles import Styles
from phiproxy.types.timestamps import TIMESTAMP, TIMESTAMPTZ
from tests.types import moments
from tests.types.against import agree, agree_on_assignment, batches, lists, outcome, refuses_alike
from tests.types.server import Oracle

BOTH = [("timestamp", TIMESTAMP), ("timestamptz", TIMESTAMPTZ)]
plain = st.tuples(moments.stamp_days.map(moments.iso), moments.times, st.one_of(st.just(""), moments.offsets))
iso = plain.map(lambda t: (f"{t[0][:-3]} {t[1]}{t[2]} BC" if t[0].endswith("BC") else f"{t[0]} {t[1]}{t[2]}").encode())
spoken = (
    st.tuples(moments.dates, st.one_of(st.just(""), moments.times.map(" {}".format)), moments.eras).map("".join).map(str.encode)
)
texts = st.one_of(iso, iso, spoken, moments.soup.map(str.encode), moments.words.map(str.encode))


@pytest.mark.parametrize(("name", "codec"), BOTH)
def test_as_the_server(oracle: Oracle, name: str, codec: Codec) -> None:
    @batches(60)
    @given(lists(texts), moments.styles)
    def run(batch: list[bytes], styles: Styles) -> None:
        agree(oracle, name, codec, batch, styles, alike=frozenset({"22007", "22008", "22009", "22023"}))

    run()


@pytest.mark.parametrize(("name", "codec"), BOTH)
def test_what_a_session_shows_it_reads(oracle: Oracle, name: str, codec: Codec) -> None:
    @batches(20)
    @given(st.lists(st.integers(-40_000, 20_000).map(moments.iso), min_size=1, max_size=20), moments.styles)
    def run(batch: list[str], styles: Styles) -> None:
        known = oracle.read(name, [f"{date} 04:05:06.7".encode() for date in batch], styles)
        for one in known:
            # German under MDY is read by nobody; and some abbreviations mean more than one thing.
            if name == "timestamp" or styles.date_style == "ISO":
                found = outcome(lambda shown=one.shown: codec.from_text(shown, styles))  # type: ignore[misc]
                assert isinstance(found, bytes) or found.sqlstate != "0A000"
        agree(oracle, name, codec, [one.shown for one in known], styles)

    run()


@pytest.mark.parametrize(("name", "codec"), BOTH)
def test_around_the_changes_of_the_clock(oracle: Oracle, name: str, codec: Codec) -> None:
    changes = [
        ("Europe/Berlin", "2024-03-31"), ("Europe/Berlin", "2024-10-27"), ("America/New_York", "2024-03-10"),
        ("Europe/Dublin", "1971-10-31"), ("America/New_York", "2024-11-03"), ("Pacific/Apia", "2011-12-30"),
        ("Australia/Lord_Howe", "2024-04-07"), ("Europe/Moscow", "2014-10-26"), ("Europe/Berlin", "12024-03-31"),
        ("America/New_York", "290000-11-05"), ("Europe/Berlin", "1893-04-01"),
    ]  # fmt: skip
    for zone, day in changes:
        batch = [f"{day} {hour:02}:{minute:02}:17".encode() for hour in range(24) for minute in (0, 15, 30, 45)]
        assert agree(oracle, name, codec, batch, Styles("Postgres", time_zone=zone)) == len(batch)


@pytest.mark.parametrize(("name", "codec"), BOTH)
def test_precision(oracle: Oracle, name: str, codec: Codec) -> None:
    texts = [
        "2001-02-03 04:05:06.5555555",
        "1999-12-31 23:59:59.5",
        "1999-12-31 23:59:59.45",
        "1000-01-01 00:00:00.000005 BC",
        "infinity",
    ]
    for precision in range(7):
        agree_on_assignment(oracle, name, f"{name}({precision})", precision, codec, [t.encode() for t in texts])


@pytest.mark.parametrize(("name", "codec"), BOTH)
def test_binary(oracle: Oracle, name: str, codec: Codec) -> None:
    edges = [
        0,
        -1,
        -211813488000000000,
        -211813488000000001,
        9223371331200000000,
        9223371331199999999,
        2**63 - 1,
        -(2**63),
        86_400_000_000,
    ]
    refuses_alike(oracle, name, codec, [*(e.to_bytes(8, "big", signed=True) for e in edges), b"", b"\0" * 9])
