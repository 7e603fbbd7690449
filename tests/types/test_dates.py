"""date as the server reads and writes it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.calendar import FIRST_DAY, LAST_DAY
from phiproxy.types.dates import DATE
from phiproxy.types.styles import Styles
from tests.types import moments
from tests.types.against import agree, batches, lists, refuses_alike
from tests.types.server import Oracle

iso = moments.days.map(moments.iso)
spoken = st.tuples(moments.dates, moments.eras).map("".join)
texts = st.one_of(iso, spoken, spoken, st.tuples(iso, moments.times).map(" ".join), moments.soup, moments.words).map(str.encode)


@batches(40)
@given(lists(texts), moments.styles)
def test_as_the_server(oracle: Oracle, batch: list[bytes], styles: Styles) -> None:
    agree(oracle, "date", DATE, batch, styles, alike=frozenset({"22007", "22008", "22009"}))


def test_binary(oracle: Oracle) -> None:
    edges = [FIRST_DAY - 1, FIRST_DAY, -1, 0, LAST_DAY, LAST_DAY + 1, 2**31 - 1, -(2**31), -(2**31) + 1]
    refuses_alike(oracle, "date", DATE, [*(d.to_bytes(4, "big", signed=True) for d in edges), b"", b"\0" * 5])
