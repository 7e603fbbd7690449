"""text, varchar(n), char(n), citext and enums as the server reads and writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import ValueRefused
from phiproxy.types.styles import Styles
from phiproxy.types.text_types import CHAR, TEXT, VARCHAR, citext, enum
from tests.types.against import agree, agree_on_assignment, batches, lists, refuses_alike
from tests.types.server import Oracle

LABELS = ("sad", "ok", "ünï 😀", "it's")
some = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    st.text(st.sampled_from("ab é😀 "), max_size=8),
).map(str.encode)


@batches(15)
@given(lists(some))
def test_text(oracle: Oracle, batch: list[bytes]) -> None:
    assert agree(oracle, "text", TEXT, batch) == len(batch)
    assert agree(oracle, "varchar", VARCHAR, batch) == len(batch)
    assert agree(oracle, "bpchar", CHAR, batch) == len(batch)


@batches(15)
@given(lists(some), st.integers(1, 6))
def test_lengths(oracle: Oracle, batch: list[bytes], length: int) -> None:
    agree_on_assignment(oracle, "varchar", f"varchar({length})", length + 4, VARCHAR, batch)
    agree_on_assignment(oracle, "bpchar", f"char({length})", length + 4, CHAR, batch)


@batches(10)
@given(lists(st.text("abAB ", max_size=4).map(str.encode)))
def test_citext(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "citext", citext(bytes.lower), batch)


@batches(10)
@given(lists(st.sampled_from([*LABELS, "SAD", "", " ok", "happy"]).map(str.encode)))
def test_enum(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "mood", enum("mood", LABELS), batch)


def test_binary(oracle: Oracle) -> None:
    for name, codec in (("text", TEXT), ("varchar", VARCHAR), ("bpchar", CHAR)):
        refuses_alike(oracle, name, codec, [b"", "😀".encode(), b"\xff", b"a\0b", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
    refuses_alike(oracle, "mood", enum("mood", LABELS), [b"sad", b"Sad", b""])


def test_an_enum_says_its_name() -> None:
    with pytest.raises(ValueRefused, match=r"^invalid input value for enum mood$"):
        enum("mood", LABELS).from_text(b"happy", Styles.CANONICAL)
