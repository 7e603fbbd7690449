"""bool, uuid and bytea as the server reads and writes them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.scalars import BOOL, BYTEA, UUID
from phiproxy.types.styles import Styles
from tests.types.against import agree, batches, lists, refuses_alike
from tests.types.server import Oracle

WORDS = "t|tr|true|f|fal|false|y|yes|ye|n|no|on|of|off|o|1|0|10|2|TRUE|Off|nope|| |t t|tru\xe9"
words = st.sampled_from(WORDS.split("|"))
booleans = st.tuples(st.sampled_from(["", " ", "\n\t"]), words, st.sampled_from(["", " ", "\v"])).map("".join).map(str.encode)

hexadecimal = st.text("0123456789abcdefABCDEF", min_size=30, max_size=34)
uuids = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda u: str(u).upper()),
    st.uuids().map(lambda u: "{" + str(u) + "}"),
    st.uuids().map(lambda u: u.hex),
    hexadecimal,
    st.tuples(st.uuids().map(lambda u: u.hex), st.lists(st.integers(0, 32), max_size=4)).map(
        lambda t: "".join(("-" if i in t[1] else "") + c for i, c in enumerate(t[0] + " ")).strip(" ")
    ),
    st.sampled_from(["", "{}", "{", "x" * 36, "urn:uuid:00000000-0000-0000-0000-000000000000", "g" * 32]),
).map(str.encode)

byteas = st.one_of(
    st.binary(max_size=30).map(lambda b: "\\x" + b.hex()),
    st.text("0123456789abcdefABCDEFgG \n\t\r\v\u00e9", max_size=12).map(lambda s: "\\x" + s),
    st.text("01234567ab\\\u00e9 ", max_size=12),
    st.lists(st.sampled_from(["\\\\", "\\000", "\\377", "\\400", "\\12", "a", "é", "'", "\n", "\x7f"]), max_size=8).map("".join),
    st.just("\\X00"),
).map(str.encode)


@batches(15)
@given(lists(booleans))
def test_bool(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "bool", BOOL, batch)


@batches(25)
@given(lists(uuids))
def test_uuid(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "uuid", UUID, batch)


@batches(30)
@given(lists(byteas), st.sampled_from(["hex", "escape"]))
def test_bytea(oracle: Oracle, batch: list[bytes], output: str) -> None:
    agree(oracle, "bytea", BYTEA, batch, Styles(bytea_output=output))


def test_binary(oracle: Oracle) -> None:
    refuses_alike(oracle, "bool", BOOL, [b"\0", b"\1", b"\2", b"\xff", b"", b"\0\0"])
    refuses_alike(oracle, "uuid", UUID, [bytes(16), bytes(range(16)), bytes(15), bytes(17), b""])
    refuses_alike(oracle, "bytea", BYTEA, [b"", b"\0\xff"])
