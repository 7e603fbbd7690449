"""int2, int4 and int8 as the server reads and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import ValueRefused
from phiproxy.types.codec import Codec
from phiproxy.types.integers import INT2, INT4, INT8
from phiproxy.types.styles import Styles
from tests.types.against import agree, batches, lists, refuses_alike
from tests.types.server import Oracle

NEAR = [0, 2**15, 2**31, 2**63, 2**64, 10**30]
numbers = st.one_of(
    st.sampled_from(NEAR).flatmap(lambda n: st.integers(-2, 2).map(lambda d: n + d)),
    st.integers(-(2**66), 2**66),
    st.integers(-40000, 40000),
)
texts = st.one_of(
    st.tuples(
        st.sampled_from(["", " ", "\t\n\r\v\f ", "\xa0"]),
        st.sampled_from(["", "-", "+", "--"]),
        st.sampled_from(["", "0", "000000000000000000000000000"]),
        numbers.map(str),
        st.sampled_from(["", " "]),
    ).map("".join),
    # Of two errors, which one is found first depends on the version: garbage follows small numbers only.
    st.tuples(st.integers(-9, 9).map(str), st.sampled_from([".0", "e1", "x", " 1", ".", "_", "-"])).map("".join),
    numbers.map(str),
    st.sampled_from(["", " ", "-", "+", "0x1F", "1_000", "-0b1", "0o7", "٣", "1 2", "NaN", "-0"]),
).map(str.encode)


@pytest.mark.parametrize(("name", "codec"), [("int2", INT2), ("int4", INT4), ("int8", INT8)])
def test_as_the_server(oracle: Oracle, name: str, codec: Codec) -> None:
    @batches(25)
    @given(lists(texts))
    def run(batch: list[bytes]) -> None:
        agree(oracle, name, codec, batch)

    run()


def test_binary(oracle: Oracle) -> None:
    refuses_alike(oracle, "int4", INT4, [b"\x80\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0", b"\0\0\0\0\0", b""])


@pytest.mark.parametrize(
    ("text", "sqlstate", "message"),
    [
        (b"abc", "22P02", "invalid input syntax for type integer"),
        (b"2147483648", "22003", "value is out of range for type integer"),
        (b"0x10", "0A000", "this spelling of type integer is not read the same by every PostgreSQL"),
    ],
)
def test_messages(text: bytes, sqlstate: str, message: str) -> None:
    with pytest.raises(ValueRefused) as error:
        INT4.from_text(text, Styles.CANONICAL)
    assert (error.value.sqlstate, error.value.message) == (sqlstate, message)
