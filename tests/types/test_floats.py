"""float4 and float8 as the server reads and writes them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.codec import Codec
from phiproxy.types.floats import FLOAT4, FLOAT8
from phiproxy.types.styles import Styles
from tests.types.against import agree, batches, lists, refuses_alike
from tests.types.server import Oracle

powers = st.tuples(st.integers(-1080, 1025), st.integers(-2, 2)).map(lambda t: repr(2.0 ** min(t[0], 1023) * (1 + t[1] * 2.0**-52)))
middles = st.tuples(st.integers(2**53, 2**54), st.integers(0, 70)).map(lambda t: str((2 * t[0] + 1) * 2 ** t[1]))
decimals = st.tuples(st.integers(1, 10**17), st.integers(0, 30)).map(lambda t: f"{t[0]}e{t[1]}")
singles = st.integers(0, 2**32 - 1).map(lambda n: struct.unpack("!f", n.to_bytes(4, "big"))[0])
single_ties = st.tuples(st.integers(2**23, 2**24), st.integers(-149, 104), st.sampled_from(["", "0000000000000000000001"])).map(
    lambda t: f"{(2 * t[0] + 1)}{'.' if t[2] else ''}{t[2]}" if t[1] > 90 else f"{(2 * t[0] + 1) * 2.0 ** min(t[1], 60)!r}"
)
WORDS = (
    "NaN|nan|-nan|inf|-Infinity|+inf| Infinity |infinit|1e400|-1e400|1e-400|0e-500|4.9e-324|2e-324|3e-324|0x1p3|nan(1)|x||.|1e|1_0|"
    "-0|3.4028235e38|3.40282356e38|3.4028235677973366e38|3.4028236e38|1e-45|7e-46|7.1e-46|1e23|9007199254740993|1e15|1e14|123456|1234567|"
    "0.0001|0.00001|1e22|5e-324|1.7976931348623157e308|1.7976931348623159e308|16777217|16777217.0000001|33554435|8.5e37"
)
words = st.sampled_from(WORDS.split("|"))
floats = st.floats(allow_subnormal=True).map(repr)
texts = st.one_of(floats, powers, middles, decimals, words, singles.map(repr), single_ties).map(str.encode)
styles = st.integers(-15, 3).map(lambda n: Styles(extra_float_digits=n))


@pytest.mark.parametrize(("name", "codec"), [("float8", FLOAT8), ("float4", FLOAT4)])
def test_as_the_server(oracle: Oracle, name: str, codec: Codec) -> None:
    @batches(50)
    @given(lists(texts), styles)
    def run(batch: list[bytes], style: Styles) -> None:
        agree(oracle, name, codec, batch, style)

    run()


def test_binary(oracle: Oracle) -> None:
    quiet = [b"\x7f\xf8" + bytes(6), b"\xff\xf8" + bytes(6), b"\x7f\xf8" + bytes(5) + b"\1", b"\x80" + bytes(7), bytes(7), bytes(9)]
    refuses_alike(oracle, "float8", FLOAT8, quiet)
    refuses_alike(oracle, "float4", FLOAT4, [b"\x7f\xc0\0\0", b"\xff\xc0\0\1", b"\x80\0\0\0", b"\0\0\0\1", bytes(3)])
