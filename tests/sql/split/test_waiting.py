"""Values that no index answers, in the text: what they stand in is in no source."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Context
from phiproxy.sql.result import Split, Waiting
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.split.waiting import places
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner

DAY, OTHER = b"1980-01-15", b"1989-12-31"
BOTH = Waiting(constants=frozenset({DAY, OTHER}))


def split_of(text: str, waiting: Waiting) -> Split | None:
    there, encoded = planner(), text.encode()
    (statement,) = parse(encoded)
    context = Context(there.protection, there.catalog, VIEW.path, VIEW.database)
    return split_statement(statement, encoded, context, StatementRefused("no index"), waiting)


@pytest.mark.parametrize(
    ("text", "waiting", "at"),
    [
        ("SELECT $1 FROM t WHERE a BETWEEN $2 AND $1", Waiting(frozenset({1})), {7, 40}),
        ("SELECT 1 FROM t WHERE a = 'x' AND b = E'\\x78' AND c = 'y'", Waiting(constants=frozenset({b"x"})), {26, 38}),
        ("SELECT 12 FROM t WHERE a BETWEEN -5 AND 12.5", Waiting(constants=frozenset({b"-5", b"12.5"})), {33, 40}),
        ("SELECT 12", Waiting(constants=frozenset({b"13"})), set()),
        ("SELECT true, NULL", Waiting(), set()),
    ],
)
def test_where_values_stand(text: str, waiting: Waiting, at: set[int]) -> None:
    (statement,) = parse(text.encode())
    assert places(statement, waiting) == at


def test_both() -> None:
    assert Waiting(frozenset({1})).both(BOTH) == Waiting(frozenset({1}), BOTH.constants)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (
            "SELECT id FROM stays WHERE id < 5 AND born BETWEEN '1980-01-15' AND '1989-12-31'",
            'SELECT "stays"."id", "stays"."born" FROM stays WHERE id < 5',
        ),
        (
            "SELECT s.id FROM stays s JOIN people p ON p.born = s.born AND s.born BETWEEN '1980-01-15' AND '1989-12-31'",
            'SELECT c1, c2, c3, c4, c5, c6 FROM (SELECT true AS c1, "s"."id" AS c2, "s"."born" AS c3 FROM stays s) AS t1'
            ' FULL JOIN (SELECT true AS c4, "p"."id" AS c5, "p"."born" AS c6 FROM people p) AS t2 ON false',
        ),
        (
            "WITH s AS (SELECT id FROM stays WHERE born > '1980-01-15') SELECT s.id, p.id FROM s, patients p WHERE p.id = s.id",
            'SELECT c1, c2, c3, c4, c5 FROM (SELECT true AS c1, "p"."id" AS c2 FROM patients p) AS t1'
            ' FULL JOIN (SELECT true AS c3, "stays"."id" AS c4, "stays"."born" AS c5 FROM stays) AS t2 ON false',
        ),
    ],
)
def test_they_wait_for_the_rest(text: str, source: str) -> None:
    parts = split_of(text, BOTH)
    assert parts is not None
    assert parts.waiting == BOTH
    assert DAY not in parts.source
    assert parts.source.decode() == source


@pytest.mark.parametrize(
    ("text", "source", "write"),
    [
        (
            "DELETE FROM stays WHERE id < 5 AND born BETWEEN '1980-01-15' AND '1989-12-31'",
            'SELECT "stays"."born", "stays"."ctid", "stays"."tableoid" FROM stays WHERE id < 5 FOR UPDATE OF "stays"',
            "DELETE FROM stays USING ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS phi_write"
            ' (phi_1, phi_2) WHERE "stays".ctid = phi_write.phi_1::tid AND "stays".tableoid = phi_write.phi_2::oid',
        ),
        (
            "INSERT INTO people (born) SELECT born FROM stays WHERE born > '1980-01-15'",
            'SELECT "stays"."born" FROM stays',
            "INSERT INTO people (born) SELECT phi_write.phi_1 FROM ROWS FROM (pg_catalog.unnest($1::date[])) AS phi_write (phi_1)",
        ),
        (
            "UPDATE stays SET bed = 7 WHERE id = 5 RETURNING born > '1980-01-15'",
            'UPDATE stays SET bed = 7 WHERE id = 5 RETURNING "stays"."born"',
            "",
        ),
    ],
)
def test_they_wait_in_writes(text: str, source: str, write: str) -> None:
    parts = split_of(text, BOTH)
    assert parts is not None
    assert parts.waiting == BOTH
    assert parts.source.decode() == source
    assert (parts.write.text.decode() if parts.write is not None else "") == write


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE stays SET word = reverse('x') WHERE born > '1980-01-15' RETURNING born BETWEEN '1980-01-15' AND '1989-12-31'",
        "INSERT INTO stays (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET bed = 7 WHERE stays.born > '1980-01-15'",
    ],
)
def test_no_part_for_the_server_may_hold_them(text: str) -> None:
    assert split_of(text, BOTH) is None
