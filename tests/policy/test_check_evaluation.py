"""Conditions over one value: three-valued, kept as text, refused where a locale would decide."""

from __future__ import annotations

from typing import Any

import pytest

from phiproxy.policy.check_evaluation import NotJudged, PatternRefused, compiled, condition, written

VALUE: list[Any] = ["value"]
A, NULL = ["constant", "a"], ["constant", None]


@pytest.mark.parametrize(
    ("tree", "answers"),
    [
        (["=", VALUE, A], {"a": True, "b": False, None: None}),
        (["<>", VALUE, A], {"a": False, "b": True, None: None}),
        (["distinct", VALUE, A], {"a": False, "b": True, None: True}),
        (["null", VALUE], {"a": False, None: True}),
        (["not", ["null", VALUE]], {"a": True, None: False}),
        (["not", ["=", VALUE, A]], {"a": False, None: None}),
        (["and", ["=", VALUE, A], ["=", NULL, NULL]], {"a": None, "b": False, None: None}),
        (["and", ["=", NULL, NULL], ["=", VALUE, A]], {"a": None, "b": False}),
        (["or", ["=", VALUE, A], ["=", NULL, NULL]], {"a": True, "b": None, None: None}),
        (["or", ["=", NULL, NULL], ["=", VALUE, A]], {"a": True, "b": None}),
        (["or", ["=", VALUE, A], ["constant", False]], {"a": True, "b": False}),
        (["<=", ["length", VALUE], ["constant", 2]], {"éé": True, "abc": False, None: None}),
        ([">", ["octet_length", VALUE], ["constant", 2]], {"éé": True, "ab": False}),
        (["<", ["length", VALUE], ["constant", 1]], {"": True, "a": False}),
        ([">=", ["length", VALUE], ["constant", 1]], {"": False, "a": True}),
        (["=", ["lower", VALUE], A], {"A": True, "B": False}),
        (["=", ["upper", VALUE], ["constant", "A"]], {"a": True}),
        (["<>", ["btrim", VALUE], ["constant", ""]], {"  ": False, " a ": True}),
        (["=", ["btrim", VALUE, ["constant", "xy"]], A], {"xay": True, "ax ": False}),
        (["=", ["ltrim", VALUE, ["constant", ""]], A], {"a": True, " a": False}),
        (["=", ["rtrim", VALUE], A], {"a  ": True, " a": False}),
        ([">", ["number", VALUE], ["constant", 2]], {"3": True, "2": False, "10": True, "-5": False, None: None}),
        (["=", ["number", VALUE], ["number", ["constant", "2.50"]]], {"2.5": True, "2.51": False}),
        ([">=", ["day", VALUE], ["constant", "1999-12-31"]], {"2000-01-01": True, "1999-12-30": False, None: None}),
        ([">", ["moment", VALUE], ["moment", ["constant", "10:00:00"]]], {"10:00:00.5": True, "10:00:00": False, "24:00:00": True}),
        (
            ["<=", ["moment", VALUE], ["moment", ["constant", "2001-02-03 04:05:06.5+00"]]],
            {"2001-02-03 04:05:06.49+00": True, "2001-02-03 04:05:06.51+00": False, "2001-02-03 04:05:06+00": True, None: None},
        ),
        ([">", ["double", VALUE], ["double", ["constant", "2.5"]]], {"3": True, "NaN": True, "-Infinity": False, "2.5": False}),
        (["=", ["double", VALUE], ["double", ["constant", "NaN"]]], {"NaN": True, "Infinity": False}),
        (["=", ["single", VALUE], ["double", ["constant", "1.1"]]], {"1.1": False, "1.5": False}),
        (["=", ["single", VALUE], ["double", ["constant", "1.5"]]], {"1.5": True}),
        (["truth", VALUE], {"t": True, "f": False, None: None}),
        (["<", ["octets", VALUE], ["constant", 2]], {"\\x00": True, "\\x": True, "\\x0001": False}),
        (["~", VALUE, "^a.$"], {"ab": True, "a\n": True, "abc": False, None: None}),
        (["!~", VALUE, "^a"], {"b": True, "a": False, None: None}),
        (["~*", VALUE, "A"], {"a": True, "b": False}),
        (["!~*", VALUE, "A"], {"a": False}),
        (["~~", VALUE, "a%"], {"ab": True, "b": False}),
        (["!~~", VALUE, "a!%", "!"], {"ab": True, "a%": False}),
    ],
)
def test_answers(tree: list[Any], answers: dict[str | None, bool | None]) -> None:
    found = condition(written(tree))
    assert {value: found(value) for value in answers} == answers


@pytest.mark.parametrize("tree", [["=", ["lower", VALUE], A], ["~", VALUE, r"\d"], ["~*", VALUE, "a"]])
def test_what_a_locale_would_decide_is_refused(tree: list[Any]) -> None:
    with pytest.raises(NotJudged) as refused:
        compiled(tree)("é")
    assert refused.value.sqlstate == "0A000"
    assert "é" not in refused.value.public_text


def test_numbers_and_days_with_an_order_of_their_own_are_refused() -> None:
    for kind, value in (
        ("number", "NaN"),
        ("number", "Infinity"),
        ("day", "infinity"),
        ("day", "0044-03-15 BC"),
        ("day", "12000-01-01"),
        ("moment", "infinity"),
        ("moment", "0044-03-15 00:00:00 BC"),
    ):
        with pytest.raises(NotJudged):
            compiled(["=", [kind, VALUE], NULL])(value)


def test_what_is_no_condition() -> None:
    for text in (
        b"{}",
        b'{"version": 2, "condition": ["value"]}',
        b'{"version": 1, "condition": ["what"]}',
        b"x",
        b'{"version": 1, "condition": ["index", "what(@)", "text", ["value"]]}',
    ):
        with pytest.raises((ValueError, KeyError)):
            condition(text)
    with pytest.raises(PatternRefused):
        condition(written(["~", VALUE, "("]))


def test_what_an_index_makes_of_a_value() -> None:
    made: list[object] = [compiled(["index", "right(@,2)", "text", VALUE])(value) for value in ("aéß", "", None)]
    assert made == ["éß", "", None]
