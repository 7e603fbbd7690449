"""json and jsonb as the server reads and writes them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy import long_values
from phiproxy.errors import ValueRefused
from phiproxy.types import json_types
from phiproxy.types.json_types import JSON, JSONB
from phiproxy.types.styles import Styles
from tests.types.against import agree, batches, lists, outcome, refuses_alike
from tests.types.server import Oracle

numbers = st.sampled_from(
    [
        "0",
        "-0",
        "-0.0",
        "1.50",
        "1e3",
        "1E-2",
        "123456789012345678901234567890",
        "1.0",
        "1",
        "10e-1",
        "1e5",
        "0.1e1",
        "-1.0e0",
        "1e400",
    ]
)
bad = st.sampled_from(
    [
        "01",
        "+1",
        ".5",
        "1.",
        "NaN",
        "Infinity",
        "-Infinity",
        "tru",
        "nul",
        "'a'",
        '"',
        "[1,]",
        "{,}",
        "{1:2}",
        '{"a"}',
        "-",
        "1 2",
        "\ufeff1",
        '"\t"',
        "",
        '"\\x"',
        '"\\u12"',
        "[",
    ]
)
escapes = st.sampled_from(
    ['"\\u0000"', '"\\\\u0000"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00\\ud83d"', '"\\u00e9\\/\\b\\f"', '"\\u0001"', '"\x7f"']
)
strings = st.one_of(st.text('ab\u00e9\U0001f600"\\\n\x1f', max_size=5).map(lambda s: json.dumps(s, ensure_ascii=False)), escapes)
keys = st.one_of(st.sampled_from(['"a"', '"b"', '"aa"', '""', '"\\u0061"', '"\u00e9"']), strings)
blanks = st.sampled_from(["", "", " ", "\n\t\r"])
leaves = st.one_of(numbers, strings, st.sampled_from(["true", "false", "null"]))


def containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(blanks, keys, blanks, values).map(lambda t: f"{t[0]}{t[1]}{t[2]}:{t[3]}")
    return st.one_of(
        st.lists(values, max_size=4).map(lambda v: f"[{','.join(v)}]"),
        st.lists(pairs, max_size=5).map(lambda v: f"{{{','.join(v)}}}"),
    )


documents = st.recursive(leaves, containers, max_leaves=8)
texts = st.one_of(documents, documents, st.one_of(documents, bad).map(" {} ".format), containers(st.one_of(leaves, bad)), bad).map(
    str.encode
)


@batches(50)
@given(lists(texts, 25))
def test_jsonb(oracle: Oracle, batch: list[bytes]) -> None:
    agree(oracle, "jsonb", JSONB, batch, alike=frozenset({"22P02", "22P05"}))


@batches(20)
@given(lists(texts, 25))
def test_json(oracle: Oracle, batch: list[bytes]) -> None:
    for text, known in zip(batch, oracle.read("json", batch), strict=True):
        found = outcome(lambda given=text: JSON.from_text(given, Styles.CANONICAL))  # type: ignore[misc]
        if isinstance(found, ValueRefused):
            assert found.sqlstate == known.error, (text, known)
        else:
            assert known.error is None, (text, known)
            assert found == known.canonical == JSON.from_binary(text) == text


def test_binary(oracle: Oracle) -> None:
    refuses_alike(oracle, "jsonb", JSONB, [b"\1{}", b'\1{"b":1,"a":1.0}', b"\1{"])
    refuses_alike(oracle, "json", JSON, [b'{"b":1, "a":2}', b"{"])


def test_too_deep() -> None:
    blanks, escaped = b" " * 200_000, b'{"a": "\\n", "b": %b}'
    deep = (b"[" * 5000 + b"]" * 5000, b'{"a":' * 4001 + b"1" + b"}" * 4001, b"[" * 4001 + b"]" * 4001)
    for text in (*deep, *(blanks + text for text in deep), *(escaped % text for text in deep), b"[" * 60_000):
        with pytest.raises(ValueRefused) as error:
            JSONB.from_text(text, Styles.CANONICAL)
        assert error.value.sqlstate == "0A000"


@pytest.mark.parametrize("depth", [199, 201, 1000, 3999])
def test_deep(oracle: Oracle, depth: int) -> None:
    pairs = b'{"b":[1.0, "\\u0061"], "a":' * depth + b"null" + b"}" * depth
    agree(oracle, "jsonb", JSONB, [b"[" * depth + b"1e2" + b"]" * depth, pairs], alike=frozenset())


def test_long(oracle: Oracle) -> None:
    """What is read value by value, for its length, is what the server reads."""
    long = b'{"b": [1.0, "\\u00e9\\n", {}, [], true], "a": 1, "b": [' + b'{"k": -0.50, "k": "x"}, ' * 10_000 + b"null]}"
    agree(oracle, "jsonb", JSONB, [long, long[:-1], long[:-2] + b"01]}"], alike=frozenset({"22P02"}))


def test_what_is_long_is_joined_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a long text is joined, or copied, no other thread has its turn."""
    long: list[json_types.Value] = ['é\U0001f600"', None, {"b": True}] * 3_000
    value: json_types.Value = {"a\n": long, "": {}, "x": []}
    joined, join = list[int](), json_types._join

    def counted(into: tuple[list[str], list[bytes]]) -> None:
        joined.append(len(into[0]))
        join(into)

    monkeypatch.setattr(json_types, "_join", counted)
    text = json_types.canonical(value)
    assert text.decode() == json.dumps({"": {}, "x": [], "a\n": long}, ensure_ascii=False)
    assert json_types.canonical_ascii(value, b"\1").decode() == "\1" + json.dumps(json.loads(text))
    assert len(joined) > 10
    assert max(joined) < 1.01 * json_types._PARTS
    for name in ("SMALL_PIECE", "_LONG_PART"):
        monkeypatch.setattr(json_types, name, 4)
    string = "é\n\U0001f600\x01\\ab" * 3
    assert json_types.canonical(string).decode() == json.dumps(string, ensure_ascii=False)
    assert json_types.canonical_ascii(string).decode() == json.dumps(string)


def test_an_object_of_many_keys_is_put_in_order_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    members = b", ".join(b'"%b": %d' % (b"k" * (n % 7) + b"%d" % n, n) for n in range(2_000))
    text = b'{"kk1": ["forgotten", {"a": 1}], "long": "%b", %b, "k1": {"a": [2]}}' % (b"x" * 200_000, members)
    whole = JSONB.from_text(text, Styles.CANONICAL)
    for module in (json_types, long_values):
        monkeypatch.setattr(module, "FEW", 3)
    assert JSONB.from_text(text, Styles.CANONICAL) == whole
    assert [*json.loads(whole)] == sorted(json.loads(text), key=lambda key: (len(key), key))
    with pytest.raises(ValueRefused):
        JSONB.from_text(text[:-1] + b', "k1": ["\\ud800"], "k1": 1}', Styles.CANONICAL)


def test_brackets_in_strings_are_no_depth() -> None:
    text = b'["' + b"[" * 5000 + b'\\"' + b"{" * 5000 + b'"]'
    assert JSONB.from_text(text, Styles.CANONICAL) == text


def test_json_has_no_equality() -> None:
    with pytest.raises(ValueRefused):
        JSON.form(b"{}")
