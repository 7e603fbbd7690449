"""date as the server reads and writes it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.calendar import FIRST_DAY, LAST_DAY, date_of
from phiproxy.types.dates import DATE
from phiproxy.types.styles import Styles
from tests.types.against import agree, batches, lists, refuses_alike
from tests.types.server import Oracle

days = st.one_of(
    st.integers(FIRST_DAY - 3, FIRST_DAY + 400),
    st.integers(LAST_DAY - 400, LAST_DAY + 3),
    st.integers(-800000, 800000),
    st.integers(-40000, 20000),
)


def iso(day: int) -> bytes:
    year, month, dom = date_of(day)
    return (f"{year:04d}-{month:02d}-{dom:02d}" if year > 0 else f"{1 - year:04d}-{month:02d}-{dom:02d} BC").encode()


texts = st.one_of(
    days.map(iso),
    st.tuples(st.integers(1, 9999), st.integers(0, 13), st.integers(0, 32)).map(lambda t: b"%04d-%02d-%02d" % t),
    st.sampled_from([b"infinity", b"-infinity", b" 2001-02-03 "]),
)
styles = st.builds(Styles, st.sampled_from(["ISO", "SQL", "Postgres", "German"]), st.sampled_from(["MDY", "DMY", "YMD"]))


@batches(40)
@given(lists(texts), styles)
def test_as_the_server(oracle: Oracle, batch: list[bytes], style: Styles) -> None:
    agree(oracle, "date", DATE, batch, style)


def test_binary(oracle: Oracle) -> None:
    edges = [FIRST_DAY - 1, FIRST_DAY, -1, 0, LAST_DAY, LAST_DAY + 1, 2**31 - 1, -(2**31), -(2**31) + 1]
    refuses_alike(oracle, "date", DATE, [*(d.to_bytes(4, "big", signed=True) for d in edges), b"", b"\0" * 5])
