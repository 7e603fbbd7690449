"""time and timetz as the server reads, rounds and writes them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import ValueRefused
from phiproxy.types.codec import Codec
from phiproxy.types.styles import Styles
from phiproxy.types.time_and_timetz import TIME, TIMETZ
from tests.types import moments
from tests.types.against import agree, agree_on_assignment, batches, lists, refuses_alike
from tests.types.server import Oracle

BOTH = [("time", TIME), ("timetz", TIMETZ)]
alone = st.tuples(moments.times, st.one_of(st.just(""), moments.offsets)).map("".join)
alone = alone.filter(
    lambda text: not re.search("[apAP][mM][-+]", text)
)  # "am-16" is a zone for the server, which it sends but not receives
dated = st.tuples(st.integers(-40_000, 20_000).map(moments.iso), alone).map(" ".join)
texts = st.one_of(alone, alone, dated, moments.soup, moments.words).map(str.encode)


@pytest.mark.parametrize(("name", "codec"), BOTH)
def test_as_the_server(oracle: Oracle, name: str, codec: Codec) -> None:
    @batches(40)
    @given(lists(texts), moments.styles)
    def run(batch: list[bytes], styles: Styles) -> None:
        agree(oracle, name, codec, batch, styles, alike=frozenset({"22007", "22008", "22009", "22023"}))

    run()


@pytest.mark.parametrize(("name", "codec"), BOTH)
def test_precision(oracle: Oracle, name: str, codec: Codec) -> None:
    times = [b"04:05:06.5555555+02", b"23:59:59.5+02", b"23:59:59.45-03:30", b"00:00:00.000005Z", b"24:00:00Z"]
    for precision in range(7):
        agree_on_assignment(oracle, name, f"{name}({precision})", precision, codec, times)


def test_binary(oracle: Oracle) -> None:
    edges = [(n).to_bytes(8, "big", signed=True) for n in (0, 1, 86_400_000_000, 86_400_000_001, -1)]
    refuses_alike(oracle, "time", TIME, [*edges, b"", b"\0" * 9])
    zones = [n.to_bytes(4, "big", signed=True) for n in (0, 3600, -3208, 57599, 57600, -57599, -57600)]
    refuses_alike(oracle, "timetz", TIMETZ, [time + west for time in edges for west in zones] + [b"\0" * 11])


def test_equal_only_in_the_same_zone(oracle: Oracle) -> None:
    agree(oracle, "timetz", TIMETZ, [b"12:00+02", b"11:00+01", b"12:00:00+02:00", b"24:00+00", b"00:00+00"])


def test_a_time_without_offset_where_the_season_decides() -> None:
    with pytest.raises(ValueRefused) as error:
        TIMETZ.from_text(b"12:00", Styles(time_zone="Europe/Berlin"))
    assert error.value.sqlstate == "0A000"
    assert TIMETZ.from_text(b"12:00", Styles(time_zone="Asia/Kolkata")) == b"12:00:00+05:30"
