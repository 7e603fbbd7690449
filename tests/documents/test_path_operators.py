"""Steps of paths, and what is at them."""

from __future__ import annotations

import pytest

from phiproxy.documents.path_operators import ABSENT, Key, KeyOrPosition, Path, Position, text_step
from phiproxy.types.json_types import parse


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("-1", -1), (" +7", 7), ("\t007", 7), ("2147483647", 2147483647), ("-2147483647", -2147483647)],
)
def test_integers_are_keys_or_positions(text: str, number: int) -> None:
    step = text_step(text)
    assert step == KeyOrPosition(text)
    assert isinstance(step, KeyOrPosition)
    assert step.number == number


@pytest.mark.parametrize("text", ["", "a", "1a", "1 ", "+", "- 1", "1.0", "2147483648", "-2147483648", "\u0661"])
def test_other_texts_are_keys(text: str) -> None:
    assert text_step(text) == Key(text)


def test_paths_of_texts_and_of_keys_are_equal() -> None:
    assert Path.of_texts(["name", "family"]) == Path((Key("name"),)).then(Key("family"))
    assert Path.of_texts(["a", "0"]) != Path((Key("a"), Position(0)))


def test_keys() -> None:
    assert Path.of_texts(["name", "family"]).keys == ("name", "family")
    assert Path.of_texts(["a", "0"]).keys is None
    assert Path((Key("a"), Position(0))).keys is None
    assert Path().keys == ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (Path(), {"a": [b"1", {"b": None}], "0": "zero"}),
        (Path((Key("0"),)), "zero"),
        (Path((Position(0),)), ABSENT),
        (Path((KeyOrPosition("0"),)), "zero"),
        (Path((Key("a"), Position(-2))), b"1"),
        (Path((Key("a"), KeyOrPosition("0"))), b"1"),
        (Path((Key("a"), Key("0"))), ABSENT),
        (Path((Key("a"), Position(1), Key("b"))), None),
        (Path((Key("a"), Position(1), Key("b"), Key("c"))), ABSENT),
        (Path((Key("a"), Position(2))), ABSENT),
        (Path((Key("a"), Position(-3))), ABSENT),
        (Path((Key("a"), Position(0), Position(0), Position(-1))), b"1"),
        (Path((Key("a"), Position(0), KeyOrPosition("0"))), ABSENT),
    ],
)
def test_find(path: Path, value: object) -> None:
    assert path.find(parse(b'{"a": [1, {"b": null}], "0": "zero"}')) == value
