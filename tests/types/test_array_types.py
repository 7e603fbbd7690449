"""Arrays as the server reads and writes them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.array_types import array
from phiproxy.types.dates import DATE
from phiproxy.types.integers import INT4
from phiproxy.types.numerics import NUMERIC
from phiproxy.types.styles import Styles
from phiproxy.types.text_types import TEXT, VARCHAR
from tests.types.against import agree, agree_on_assignment, batches, lists, refuses_alike
from tests.types.server import Oracle

elements = st.sampled_from(
    ["a", "b", "NULL", "null", '"NULL"', '""', '"a b"', '"\\""', "\\\\", "a\\,b", '"{"', "\u00e9", " a", "'", ";"]
)
rows = st.lists(elements, max_size=4).map(lambda v: "{" + ",".join(v) + "}")
nested = st.one_of(rows, st.lists(st.just("{a,b}"), max_size=3).map(lambda v: "{" + ",".join(v) + "}"))
bounds = st.sampled_from(["", "", "", "[0:1]=", "[-1:0]=", "[1:2]=", "[2:3] = ", "[1:1][1:2]="])
texts = st.one_of(
    st.tuples(bounds, nested).map("".join), st.sampled_from(["", "{", "}", "{a", "{,}", "{a,}", "{} x", "{{}}", "{{},{}}", "a"])
).map(str.encode)
numbers = st.lists(st.sampled_from(["1", "1.0", "NULL", "-0", "2.50", "NaN", "7e1"]), max_size=4).map(
    lambda v: ("{" + ",".join(v) + "}").encode()
)
dates = st.lists(st.sampled_from(["2001-02-03", "NULL", "infinity", "0044-03-15 BC"]), max_size=3).map(
    lambda v: ("{" + ",".join(v) + "}").encode()
)


@batches(30)
@given(lists(texts))
def test_text(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "text[]", array(TEXT, 25), batch)


@batches(10)
@given(lists(numbers))
def test_numeric(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "numeric[]", array(NUMERIC, 1700), batch)
    agree_on_assignment(oracle, "numeric[]", "numeric(3,1)[]", (3 << 16 | 1) + 4, array(NUMERIC, 1700), batch)


@batches(10)
@given(lists(dates))
def test_dates_in_the_style_of_the_session(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "date[]", array(DATE, 1082), batch, Styles("SQL", "DMY"))


def test_lengths(oracle: Oracle) -> None:
    agree_on_assignment(
        oracle, "varchar[]", "varchar(2)[]", 6, array(VARCHAR, 1043), [b"{ab,abc}", b'{"ab ",NULL}', b"{}", b"{a,ab}"]
    )


def test_binary(oracle: Oracle) -> None:
    codec = array(INT4, 23)
    one = b"\0\0\0\1\0\0\0\0\0\0\0\x17\0\0\0\1\0\0\0\1\0\0\0\4\0\0\0\7"
    refuses_alike(oracle, "int4[]", codec, [one, b"\0" * 8 + b"\0\0\0\x17", one.replace(b"\x17", b"\x19")])
