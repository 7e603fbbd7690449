"""Where the clauses of writes stand."""

from __future__ import annotations

from phiproxy.sql.split.writes.clauses import Clauses, clauses_of
from phiproxy.sql.split.writes.composed import Span
from phiproxy.sql.text.parse import parse, tokens
from phiproxy.sql.text.token_spans import Spans


def read(text: str) -> tuple[Clauses, bytes]:
    encoded = text.encode()
    return clauses_of(parse(encoded)[0], Spans(tokens(encoded))), encoded


def said(text: bytes, span: Span | None) -> str | None:
    return None if span is None else text[span[0] : span[1]].decode()


def test_an_update() -> None:
    clauses, text = read(
        "WITH c AS (SELECT 1) UPDATE ONLY (s.t) AS a SET x = a.y IS DISTINCT FROM 1, (y, z) = (f(1, 2), 'SET'), w = CASE WHEN"
        " true THEN 1 END FROM u, (SELECT 1 FROM v WHERE true) q WHERE a.x = u.x RETURNING a.x, (SELECT 1 FROM w);"
    )
    assert said(text, clauses.before) == "WITH c AS (SELECT 1)"
    assert said(text, clauses.relation) == "ONLY (s.t) AS a"
    assert [said(text, one.value) for one in clauses.assignments] == [
        "a.y IS DISTINCT FROM 1", "(f(1, 2), 'SET')", "CASE WHEN true THEN 1 END",
    ]  # fmt: skip
    assert [said(text, value) for value in clauses.assignments[1].row] == ["f(1, 2)", "'SET'"]
    assert said(text, clauses.others) == "u, (SELECT 1 FROM v WHERE true) q"
    assert said(text, clauses.where) == "a.x = u.x"
    assert said(text, clauses.returning) == "a.x, (SELECT 1 FROM w)"


def test_a_delete() -> None:
    clauses, text = read("DELETE FROM t a USING u WHERE a.x IN (SELECT x FROM v WHERE y) -- a comment")
    assert [said(text, span) for span in (clauses.relation, clauses.others, clauses.where, clauses.returning)] == [
        "t a", "u", "a.x IN (SELECT x FROM v WHERE y)", None,
    ]  # fmt: skip


def test_an_insert() -> None:
    clauses, text = read(
        "INSERT INTO t AS a (x, y) OVERRIDING USER VALUE VALUES (f(1, 2), $1), (DEFAULT, NULL) ON CONFLICT (x) WHERE y > 0"
        " DO UPDATE SET y = excluded.y, x = 2 WHERE a.y <> 3 RETURNING *"
    )
    assert said(text, clauses.relation) == "t AS a"
    assert said(text, clauses.into) == "(x, y) OVERRIDING USER VALUE"
    assert [[said(text, value) for value in row] for row in clauses.rows] == [["f(1, 2)", "$1"], ["DEFAULT", "NULL"]]
    assert [said(text, one.value) for one in clauses.updates] == ["excluded.y", "2"]
    assert said(text, clauses.updated_where) == "a.y <> 3"
    assert said(text, clauses.returning) == "*"


def test_an_insert_of_a_query() -> None:
    clauses, text = read("INSERT INTO s.t SELECT a FROM u JOIN v ON u.x = v.x ORDER BY 1 ON CONFLICT DO NOTHING")
    assert said(text, clauses.source) == "SELECT a FROM u JOIN v ON u.x = v.x ORDER BY 1"
    assert said(text, clauses.conflict) == "ON CONFLICT DO NOTHING"
    assert clauses.into is None
