"""Long and deep JSON is read as Python's own reader does it, whose grammar is PostgreSQL's."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given

from phiproxy.types import json_reader
from phiproxy.types.json_reader import TooDeep, read
from tests.types.test_json_types import texts


def _refuse(name: str) -> Any:
    raise ValueError(name)


def outcome(reader: Any, text: str) -> object:
    try:
        return reader(text)
    except ValueError:
        return ValueError


OWN = json.JSONDecoder(parse_float=str.upper, parse_int=str.upper, parse_constant=_refuse, object_pairs_hook=tuple)


@given(texts)
def test_it_reads_what_python_reads(text: bytes) -> None:
    assert outcome(lambda t: read(t, OWN, tuple, 200_000), text.decode()) == outcome(OWN.decode, text.decode())


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_long_string_is_read_in_pieces(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape is cut, nor the two of one character."""
    monkeypatch.setattr(json_reader, "_PIECE", size)
    parts = ("a", "é", '"', "\\", "\\n", '\\"', "\\\\", "\\u0041", "\\ud83d", "\\ude00", "\\u00", "\n")
    for some in product(parts, repeat=3):
        text = f'"{"".join(some)}"'
        assert outcome(lambda t: read(t, OWN, tuple, 200_000), text) == outcome(OWN.decode, text), some
    text = '"' + "\\ud83d\\ude00" * 50 + '"'
    assert read(text, OWN, tuple, 200_000) == "\U0001f600" * 50


@pytest.mark.parametrize("blanks", [0, 3, 4, 5, 8, 9])
def test_blanks_are_read_in_pieces(blanks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reader, "PIECE", 4)
    assert read("[" + " " * blanks + "1" + "\n" * blanks + "]", OWN, tuple, 200_000) == ["1"]


NO_JSON = [
    "[1 2]",
    '{"a" 1}',
    '{"a":1,}',
    '{"a":1 "b":2}',
    "[",
    "{",
    '{"a"',
    '{"a":',
    "[1",
    "]",
    "1]",
    "\u0661",
    "1\u0661",
    "[]]",
    '"a',
    "-x",
]


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of the standard library, with its words
        read(text, OWN, tuple, 200_000)


@given(texts)
def test_between_long_values(text: bytes) -> None:
    around = '{"long": "' + 5000 * "x" + '", "it": [%s, [' + "[1], " * 2000 + "2]]}"
    whole = around % text.decode()
    assert outcome(lambda t: read(t, OWN, tuple, 200_000), whole) == outcome(OWN.decode, whole)


def test_any_depth() -> None:
    value = read("[" * 100_000 + "7" + "]" * 100_000, OWN, tuple, 200_000)
    depth = 0
    while isinstance(value, list):
        (value,), depth = value, depth + 1
    assert (value, depth) == ("7", 100_000)


@pytest.mark.parametrize("before", ["", "[" + "1, " * 5_000])
def test_no_deeper_than_it_is_asked_for(before: str) -> None:
    after = "]" * (before != "")
    for deepest in (1_000, 3_000):
        depth = deepest - len(after)
        read(before + "[" * depth + "]" * depth + after, OWN, tuple, deepest)
        with pytest.raises(TooDeep):
            read(before + "[" * (depth + 1) + "]" * (depth + 1) + after, OWN, tuple, deepest)
