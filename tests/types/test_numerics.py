"""numeric as the server reads, rounds and writes it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.types.numerics import NUMERIC
from phiproxy.types.styles import Styles
from tests.types.against import agree, agree_on_assignment, batches, lists, refuses_alike
from tests.types.server import Oracle

digits = st.one_of(st.text("0123456789", max_size=12), st.text("09", max_size=30), st.sampled_from(["", "9" * 500, "0" * 40 + "1"]))
exponents = st.one_of(st.just(""), st.integers(-40, 40).map("e{}".format), st.sampled_from(["E+5", "e", "e-16380", "e131060"]))
SIGNS = ["", "-", "+", " -", "- "]
numbers = st.tuples(st.sampled_from(SIGNS), digits, st.sampled_from(["", ".", "."]), digits, exponents).map("".join)
WORDS = "NaN|nan|-NaN|Infinity|inf|-inf|+Infinity|-infinity| Infinity |infinit|x||.|-|1_000|0x1f|1e|1.2.3|-0.000"
words = st.sampled_from(WORDS.split("|"))
texts = st.one_of(numbers, numbers, words).map(str.encode)


@batches(50)
@given(lists(texts))
def test_as_the_server(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "numeric", NUMERIC, batch)


EDGES = [
    "1e131071", "9.5e131071", "1e131072", "1e-16383", "1e-16384", "0e-16383", "0e-16384", "0e200000", "1.5e-16382", "1e999999999",
    "1e 5", "0e999999999", "1e-999999999", "1e99999999999999999999", "000000e5", "-0", "-0.0", "9" * 1000 + "." + "1" * 1000,
    "1e2147483647", "1e" + "0" * 5000 + "5",
]  # fmt: skip


def test_edges(oracle: Oracle) -> None:
    assert agree(oracle, "numeric", NUMERIC, [e.encode() for e in EDGES]) >= 10


@batches(30)
@given(lists(texts), st.integers(1, 12), st.integers(0, 14))
def test_precision_and_scale(oracle: Oracle, batch: list[bytes], precision: int, scale: int) -> None:
    typmod = (precision << 16 | scale) + 4
    scale = scale if oracle.version >= 15 else min(scale, precision)
    agree_on_assignment(oracle, "numeric", f"numeric({precision},{scale})", typmod, NUMERIC, batch)


def test_negative_scale(oracle: Oracle) -> None:
    if oracle.version < 15:
        return
    texts = [b"12345.678", b"99950", b"-49", b"50", b"999999", b"0", b"NaN", b"inf", b"5", b"-500"]
    agree_on_assignment(oracle, "numeric", "numeric(3,-2)", (3 << 16 | (-2 & 0x7FF)) + 4, NUMERIC, texts)


def binary(weight: int, sign: int, scale: int, *groups: int) -> bytes:
    return struct.pack(f"!HhHH{len(groups)}H", len(groups), weight, sign, scale, *groups)


def test_binary(oracle: Oracle) -> None:
    fields = [
        binary(0, 0, 0), binary(5, 0x4000, 3), binary(0, 0, 2, 1, 2345), binary(0, 0x4000, 0, 0, 9999), binary(2, 0, 1, 0, 0, 7),
        binary(-3, 0, 12, 1234), binary(0, 0xC000, 0), binary(0, 0xD000, 0), binary(0, 0xF000, 0), binary(0, 0x1000, 0, 1),
        binary(0, 0, 0x4000, 1), binary(0, 0, 0, 10000), b"", b"\0" * 7, binary(0, 0, 0, 1)[:-1], binary(0, 0, 0, 1) + b"\0",
        binary(-5, 0, 2, 1), binary(3, 0x4000, 5, 10, 0, 0),
    ]  # fmt: skip
    refuses_alike(oracle, "numeric", NUMERIC, fields)


@pytest.mark.parametrize("text", [b"0", b"1.50", b"-0.001"])
def test_canonical_is_untouched(text: bytes) -> None:
    assert NUMERIC.from_text(text, Styles.CANONICAL) is text
