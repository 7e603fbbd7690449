"""Where clauses and operands begin and end."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.text.parse import tokens
from phiproxy.sql.text.token_spans import Spans


def spans(text: str) -> Spans:
    return Spans(tokens(text.encode()))


def said(text: str, first: int, last: int) -> str:
    text_spans = spans(text).tokens
    return text[text_spans[first].start : text_spans[last].end]


def test_the_select_of_an_item() -> None:
    text = "SELECT 1, (SELECT DISTINCT ON (a) b FROM t) FROM u UNION VALUES (c)"
    text_spans = spans(text)
    assert [text_spans.tokens[text_spans.select(text.index(x))].start for x in ("1,", "b FROM", "c)")] == [
        0,
        11,
        text.index("VALUES"),
    ]


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("SELECT a IS DISTINCT FROM b AS from, c FROM t", "a IS DISTINCT FROM b AS from"),
        ("SELECT f(a, b)::text[] FROM t", "f(a, b)::text[]"),
        ("SELECT a", "a"),
        ("SELECT (SELECT a FROM b) x UNION SELECT 1", "(SELECT a FROM b) x"),
    ],
)
def test_a_list_item_ends_before_the_next_clause(text: str, item: str) -> None:
    text_spans = spans(text)
    assert said(text, 1, text_spans.item_end(text_spans.tokens[1].start)) == item


@pytest.mark.parametrize(
    ("text", "left", "right"),
    [
        ("SELECT a FROM t WHERE b UNION ALL SELECT c ORDER BY 1", "SELECT a FROM t WHERE b", "SELECT c"),
        ("(SELECT a) UNION (SELECT c)", "(SELECT a)", "(SELECT c)"),
        ("(WITH x AS (SELECT 1) SELECT a) EXCEPT SELECT c FOR UPDATE", "(WITH x AS (SELECT 1) SELECT a)", "SELECT c"),
        ("WITH x AS (SELECT 1) SELECT a INTERSECT VALUES (c)", "SELECT a", "VALUES (c)"),
        ("INSERT INTO t SELECT a UNION SELECT c ON CONFLICT (b) DO NOTHING", "SELECT a", "SELECT c"),
        ("SELECT a UNION SELECT c FROM f() WITH ORDINALITY, u", "SELECT a", "SELECT c FROM f() WITH ORDINALITY, u"),
        ("SELECT a UNION SELECT c FROM t JOIN u ON conflict", "SELECT a", "SELECT c FROM t JOIN u ON conflict"),
    ],
)  # fmt: skip
def test_the_operands_of_a_set_operation_are_told_apart(text: str, left: str, right: str) -> None:
    text_spans = spans(text)
    operator = text_spans.operator(text_spans.select(text.index(" c") + 1 if " c" in text else text.index("(c)") + 1))
    start = text_spans.left_start(operator, text_spans.select(text.index(" a") + 1))
    assert said(text, start, operator - 1) == left
    assert said(text, text_spans.right_start(operator), text_spans.right_end(operator)) == right


def test_what_is_not_there_is_refused() -> None:
    text_spans = spans("SELECT 1")
    with pytest.raises(StatementRefused):
        text_spans.at(3)
    with pytest.raises(StatementRefused):
        text_spans.partner(0)
    with pytest.raises(StatementRefused):
        text_spans.next(0, "UNION")
    with pytest.raises(StatementRefused):
        text_spans.operator(1)
    with pytest.raises(StatementRefused):
        spans("x").select(0)
