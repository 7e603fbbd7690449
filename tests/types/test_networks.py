"""inet and cidr as the server reads and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.codec import Codec
from phiproxy.types.networks import CIDR, INET
from tests.types.against import agree, batches, lists, refuses_alike
from tests.types.server import Oracle

octet = st.one_of(st.integers(0, 256).map(str), st.sampled_from(["0", "00", "010", "0001", "", "x"]))
v4 = st.one_of(st.ip_addresses(v=4).map(str), st.lists(octet, min_size=1, max_size=5).map(".".join))
word = st.sampled_from(["0", "0", "0", "1", "ffff", "A", "00ab", "12345", ""])
v6 = st.one_of(
    st.ip_addresses(v=6).map(str),
    st.lists(word, min_size=6, max_size=9).map(":".join),
    st.tuples(st.lists(word, max_size=6), st.lists(word, max_size=6)).map(lambda t: ":".join(t[0]) + "::" + ":".join(t[1])),
    st.tuples(st.sampled_from(["::", "::ffff:", "1:2:3:4:5:6:", "::1:", "0:0:0:0:0:0:", "::ffff:0:"]), v4).map("".join),
)
bits = st.one_of(st.just(""), st.integers(0, 129).map("/{}".format), st.sampled_from(["/", "/08", "/ 8", "/8 ", "/00", "/-1"]))
texts = st.one_of(st.tuples(st.one_of(v4, v6), bits).map("".join), st.sampled_from(["", " ::1", "::1%eth0", ":", "0x0a"])).map(
    str.encode
)
networks = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32))
    .map(lambda t: (t[0] >> (32 - t[1]) << (32 - t[1]), t[1]))
    .map(lambda t: b"%d.%d.%d.%d/%d" % (*t[0].to_bytes(4, "big"), t[1])),
    texts,
)


@pytest.mark.parametrize(("name", "codec", "values"), [("inet", INET, texts), ("cidr", CIDR, networks)])
def test_as_the_server(oracle: Oracle, name: str, codec: Codec, values: st.SearchStrategy[bytes]) -> None:
    @batches(40)
    @given(lists(values))
    def run(batch: list[bytes]) -> None:
        agree(oracle, name, codec, batch)

    run()


def test_binary(oracle: Oracle) -> None:
    v6_address = bytes(15) + b"\1"
    fields = [
        b"\2\x20\0\4\1\2\3\4",
        b"\2\x08\1\4\1\2\3\4",
        b"\2\x21\0\4\1\2\3\4",
        b"\4\x20\0\4\1\2\3\4",
        b"\2\x20\0\5\1\2\3\4",
        b"\2\x20\0",
    ]
    fields += [
        b"\3\x80\0\x10" + v6_address,
        b"\3\x40\1\x10" + v6_address,
        b"\3\x80\0\4\1\2\3\4",
        b"\2\x20\0\4\1\2\3",
        b"\2\x20\0\4\1\2\3\4\5",
    ]
    refuses_alike(oracle, "inet", INET, fields)
    refuses_alike(oracle, "cidr", CIDR, fields)
