"""Where clauses and operands begin and end."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.brackets import Brackets
from phiproxy.sql.parse import tokens


def brackets(text: str) -> Brackets:
    return Brackets(tokens(text.encode()))


def said(text: str, first: int, last: int) -> str:
    found = brackets(text).tokens
    return text[found[first].start : found[last].end]


def test_the_select_of_an_item() -> None:
    text = "SELECT 1, (SELECT DISTINCT ON (a) b FROM t) FROM u UNION VALUES (c)"
    made = brackets(text)
    assert [made.tokens[made.select(text.index(x))].start for x in ("1,", "b FROM", "c)")] == [0, 11, text.index("VALUES")]


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("SELECT a IS DISTINCT FROM b AS from, c FROM t", "a IS DISTINCT FROM b AS from"),
        ("SELECT f(a, b)::text[] FROM t", "f(a, b)::text[]"),
        ("SELECT a", "a"),
        ("SELECT (SELECT a FROM b) x UNION SELECT 1", "(SELECT a FROM b) x"),
    ],
)
def test_items(text: str, item: str) -> None:
    made = brackets(text)
    assert said(text, 1, made.item_end(made.tokens[1].start)) == item


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
def test_operands(text: str, left: str, right: str) -> None:
    made = brackets(text)
    operator = made.operator(made.select(text.index(" c") + 1 if " c" in text else text.index("(c)") + 1))
    start = made.left_start(operator, made.select(text.index(" a") + 1))
    assert said(text, start, operator - 1) == left
    assert said(text, made.right_start(operator), made.right_end(operator)) == right


def test_what_is_not_there_is_refused() -> None:
    made = brackets("SELECT 1")
    with pytest.raises(StatementRefused):
        made.at(3)
    with pytest.raises(StatementRefused):
        made.partner(0)
    with pytest.raises(StatementRefused):
        made.next(0, "UNION")
    with pytest.raises(StatementRefused):
        made.operator(1)
    with pytest.raises(StatementRefused):
        brackets("x").select(0)
