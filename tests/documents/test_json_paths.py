"""What is at a path of a json, in its own text."""

from __future__ import annotations

import pytest

from phiproxy.documents.json_paths import at_path
from phiproxy.documents.path_operators import Key, Path, Position
from phiproxy.errors import ValueRefused


@pytest.mark.parametrize(
    ("document", "path", "piece", "text"),
    [
        ('{"a": 1.50e+3 }', Path((Key("a"),)), "1.50e+3", "1.50e+3"),
        ('{"a" : "\\u00e9\\n"}', Path((Key("a"),)), '"\\u00e9\\n"', "é\n"),
        ('{"\\u0061": true}', Path((Key("a"),)), "true", "true"),
        ('{"a": null}', Path((Key("a"),)), "null", None),
        ('{"a": [1, 2 ,{"x":1}]}', Path((Key("a"),)), '[1, 2 ,{"x":1}]', '[1, 2 ,{"x":1}]'),
        ('{"a":1,"a":2}', Path((Key("a"),)), "2", "2"),
        ('{"a":{"b":1},"a":5}', Path.of_texts(["a", "b"]), "1", "1"),
        ('{"a":[{"b":"x"}]}', Path.of_texts(["a", "0", "b"]), '"x"', "x"),
        ("[[1],[2,3]]", Path((Position(1),)), "[2,3]", "[2,3]"),
        ('{"0": 1}', Path((Position(0),)), None, None),
        ("5", Path((Position(0),)), None, None),
        (' {"a": 1} ', Path(), '{"a": 1}', '{"a": 1}'),
        ('"\\ud83d\\ude00"', Path(), '"\\ud83d\\ude00"', "😀"),
        ('"a]b{"', Path(), '"a]b{"', "a]b{"),
        ("{}", Path((Key("a"),)), None, None),
    ],
)
def test_pieces(document: str, path: Path, piece: str | None, text: str | None) -> None:
    for wanted, as_text in ((piece, False), (text, True)):
        answer = at_path(document.encode(), path.steps, as_text=as_text)
        assert (None if answer is None else answer.decode()) == wanted


@pytest.mark.parametrize(
    ("document", "sqlstate"),
    [
        ('{"a": 1, "b": "\\u0000"}', "22P05"),
        ('{"a": 1, "b": "\\ud800"}', "22P02"),
        ('{"a": 1, "b": "\\udc00"}', "22P02"),
        ('{"a": 1, "b": "\\ud800x\\udc00"}', "22P02"),
        ('{"a": 1, "b": "\\ud800\\n"}', "22P02"),
        ('{"a": 1, "\\u0000": 1}', "22P05"),
    ],
)
def test_every_string_is_read(document: str, sqlstate: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        at_path(document.encode(), (Key("a"),), as_text=True)
    assert refused.value.sqlstate == sqlstate
