"""PostgreSQL's arrays: text and binary forms, as psycopg writes them and as the manual's examples spell them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer

from phiproxy.errors import ValueRefused
from phiproxy.wire.arrays import EMPTY, Array, array_from_binary, array_from_text, bytea_array, spell_array, spell_bytea_array

TEXTS = st.one_of(st.none(), st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=6))


def encoded(values: list[str | None]) -> tuple[bytes | None, ...]:
    return tuple(None if v is None else v.encode() for v in values)


@given(st.lists(TEXTS, max_size=5))
def test_reads_what_psycopg_writes(values: list[str | None]) -> None:
    adapter = Transformer()
    text = bytes(adapter.get_dumper(values, PyFormat.TEXT).dump(values) or b"")
    assert array_from_text(text).elements == encoded(values)
    if any(v is not None for v in values):
        binary = bytes(adapter.get_dumper(values, PyFormat.BINARY).dump(values) or b"")
        assert array_from_binary(binary).elements == encoded(values)


@given(st.lists(TEXTS, max_size=5))
def test_psycopg_reads_what_is_written(values: list[str | None]) -> None:
    array = Array(((len(values), 1),), encoded(values)) if values else EMPTY
    adapter = Transformer()
    assert adapter.get_loader(1001, pq.Format.BINARY).load(bytea_array(array)) == list(encoded(values))
    spelled = spell_bytea_array(array)
    assert spelled.endswith(b"'::bytea[]")
    assert adapter.get_loader(1001, pq.Format.TEXT).load(spelled[1:-10]) == list(encoded(values))


@pytest.mark.parametrize(
    ("text", "bounds", "elements"),
    [
        (b"{}", (), ()),
        (b"{{},{}}", (), ()),
        (b' { a , "b c" ,NULL, "NULL", x y , \\,z } ', ((6, 1),), (b"a", b"b c", None, b"NULL", b"x y", b",z")),
        (b"{{a,b},{c,d}}", ((2, 1), (2, 1)), (b"a", b"b", b"c", b"d")),
        (b"[0:1]={a,null}", ((2, 0),), (b"a", None)),
        (b"[2]={a,b}", ((2, 1),), (b"a", b"b")),
        (b'{"",\\ }', ((2, 1),), (b"", b" ")),
    ],
)
def test_text_forms(text: bytes, bounds: tuple[tuple[int, int], ...], elements: tuple[bytes | None, ...]) -> None:
    assert array_from_text(text) == Array(bounds, elements)


@pytest.mark.parametrize(
    "text", ["", "a", "{", "{a}}", "{a,}", "{,a}", "{a,,b}", "{{a},b}", "{a,{b}}", "{{a},{b,c}}", '{"a"b}', "[1:3]={a,b}", '{"a}']
)
def test_what_is_no_array_is_refused_as_by_postgresql(text: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        array_from_text(text.encode())
    assert caught.value.sqlstate == "22P02"


def test_bounds_are_kept() -> None:
    array = array_from_text(b"[0:1][3:3]={{a},{b}}")
    assert spell_bytea_array(array) == b"""'[0:1][3:3]={{"\\\\x61"},{"\\\\x62"}}'::bytea[]"""
    assert struct.unpack_from("!iiIiiii", bytea_array(array)) == (2, 0, 17, 2, 0, 1, 3)
    assert spell_bytea_array(None) == b"NULL::bytea[]"


def test_map_leaves_null() -> None:
    assert array_from_text(b"{a,NULL}").map(bytes.upper).elements == (b"A", None)


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (b"", "22P03"),
        (struct.pack("!iiI", -1, 0, 25), "22P03"),
        (struct.pack("!iiI", 7, 0, 25), "54000"),
        (struct.pack("!iiI", 0, 2, 25), "22P03"),
        (struct.pack("!iiI", 0, 0, 23), "42804"),
        (struct.pack("!iiIii", 1, 0, 25, 2**30, 1), "22P03"),
        (struct.pack("!iiIiii", 1, 0, 25, 1, 1, 5) + b"x", "22P03"),
        (struct.pack("!iiIiii", 1, 0, 25, 1, 1, -1) + b"x", "22P03"),
    ],
)
def test_binary_forms_that_lie_are_refused(data: bytes, sqlstate: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        array_from_binary(data)
    assert caught.value.sqlstate == sqlstate


def test_the_type_of_the_elements_is_the_parameters() -> None:
    assert array_from_binary(struct.pack("!iiI", 0, 0, 1043), 1015) == EMPTY
    with pytest.raises(ValueRefused):
        array_from_binary(struct.pack("!iiI", 0, 0, 25), 1015)


def test_seven_dimensions_are_too_many() -> None:
    with pytest.raises(ValueRefused) as caught:
        array_from_text(b"{{{{{{{a}}}}}}}")
    assert caught.value.sqlstate == "54000"


@pytest.mark.parametrize("elements", [[], [b"a"], [None, b"", b"NULL", b'"\\{},', " é".encode()]])
def test_arrays_are_spelled_as_they_are_read(elements: list[bytes | None]) -> None:
    assert list(array_from_text(spell_array(elements)).elements) == elements
