"""Where clauses are in a text: the parts of conditions that AND joins, FROM, GROUP BY, and what follows."""

from __future__ import annotations

import pytest

from phiproxy.sql.split.clauses import from_clause, group_by_end, on, select_token, tail, where
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.text.parse import Node, only, parse, tokens
from phiproxy.sql.text.token_spans import Spans


def _read(text: str) -> tuple[Spans, Node]:
    (statement,) = parse(text.encode())
    return Spans(tokens(text.encode())), statement.body


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("a = 1", ["a = 1"]),
        ("a = 1 AND b", ["a = 1", "b"]),
        ("(a = 1 AND b) AND c", ["a = 1", "b", "c"]),
        ("(a = 1 AND b)", ["a = 1", "b"]),
        ("((a) = 1) AND (b)", ["((a) = 1)", "(b)"]),
        ("a OR b AND c", ["a OR b AND c"]),
        ("(a OR b) AND c", ["(a OR b)", "c"]),
        ("a BETWEEN 1 AND 2 AND b NOT BETWEEN c AND d", ["a BETWEEN 1 AND 2", "b NOT BETWEEN c AND d"]),
        ("CASE WHEN a AND b THEN c END AND NOT (d AND e)", ["CASE WHEN a AND b THEN c END", "NOT (d AND e)"]),
        ("EXISTS (SELECT FROM u WHERE x AND y) AND z IS NULL", ["EXISTS (SELECT FROM u WHERE x AND y)", "z IS NULL"]),
        ("'é' = a /* AND */ AND b", ["'é' = a", "b"]),
    ],
)
@pytest.mark.parametrize("behind", ["", " GROUP BY 1", " ORDER BY 1 LIMIT 1", " FOR UPDATE", " UNION SELECT 1"])
def test_parts_of_where(condition: str, parts: list[str], behind: str) -> None:
    text = f"SELECT 1 FROM t WHERE {condition}{behind}"
    spans, body = _read(text)
    body = body.get("larg", body)
    assert [text.encode()[p.start : p.end].decode() for p in where(spans, body["whereClause"])] == parts


def test_parts_of_on() -> None:
    text = "SELECT 1 FROM a JOIN (b LEFT JOIN c ON b.x = c.x AND left(c.y, 1) = 'z') ON a.q AND a.r JOIN d ON a.s, e WHERE f"
    spans, body = _read(text)
    _, outer = only(body["fromClause"][0])
    _, middle = only(outer["larg"])
    _, inner = only(middle["rarg"])
    found = [[text[p.start : p.end] for p in on(spans, join["quals"])] for join in (outer, middle, inner)]
    assert found == [["a.s"], ["a.q", "a.r"], ["b.x = c.x", "left(c.y, 1) = 'z'"]]


def test_from_group_and_tail() -> None:
    text = "SELECT extract(year FROM x) IS DISTINCT FROM 1, y FROM a, b WHERE c GROUP BY (x), y HAVING d ORDER BY y LIMIT 1"
    spans, body = _read(text)
    select = select_token(spans, body)
    first, end = from_clause(spans, select)
    assert text[spans.tokens[first].start : spans.tokens[end - 1].end] == "a, b"
    assert text[: group_by_end(spans, body["groupClause"][0])].endswith("GROUP BY (x), y")
    assert text[spans.tokens[tail(spans, select)].start :] == "ORDER BY y LIMIT 1"


@pytest.mark.parametrize("text", ["SELECT FROM t", "VALUES (1)"])
def test_a_query_that_is_not_located(text: str) -> None:
    spans, body = _read(text)
    with pytest.raises(Impossible):
        select_token(spans, body)
