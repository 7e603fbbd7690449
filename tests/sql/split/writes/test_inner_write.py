"""Writes in WITH: what is around them may read what they return, and nothing else."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused, Split
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner

APPENDED = "WITH x AS (UPDATE patients SET notes = notes || 'x' RETURNING id, notes) "
STORED = "WITH x AS (UPDATE patients SET notes = 'y' RETURNING id, notes) "


def _split(text: str) -> tuple[Split | None, StatementRefused]:
    there, encoded = planner(), text.encode()
    context = Context(there.protection, there.catalog, VIEW.path, VIEW.database)
    (statement,) = parse(encoded)
    outcome = analyse(statement, encoded, context)
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StatementRefused)
    return split_statement(statement, encoded, context, outcome.error), outcome.error


@pytest.mark.parametrize(
    "text",
    [
        f"{APPENDED}SELECT id FROM x",
        f"{APPENDED}SELECT upper(notes) FROM x",
        f"{STORED}SELECT upper(notes), (SELECT count(*) FROM log) FROM x",
        f"{STORED}, y AS (SELECT max(notes) AS m FROM x) SELECT id, notes = y.m FROM x, y",
        f"{APPENDED}INSERT INTO patients (notes) SELECT notes FROM x RETURNING id",
        f"{APPENDED}INSERT INTO patients (notes) SELECT notes FROM x RETURNING upper(notes)",
        "WITH x AS (INSERT INTO visits (diagnosis) VALUES ('a') RETURNING diagnosis) SELECT upper(diagnosis) FROM x",
        f"{APPENDED}, y AS (DELETE FROM visits RETURNING id) SELECT x.id FROM x, y",
        f"{APPENDED}, y AS (INSERT INTO log (msg) SELECT 'told' FROM x RETURNING id) SELECT id FROM y",
        f"{APPENDED}SELECT x.id FROM x JOIN visits v ON v.patient_id = x.id",
        f"{APPENDED}SELECT id, (SELECT count(*) FROM log) FROM x",
        f"{APPENDED}, y AS (SELECT id FROM patients) SELECT x.id FROM x JOIN y USING (id)",
    ],
)
def test_split(text: str) -> None:
    split, _ = _split(text)
    assert split is not None
    assert split.locks


@pytest.mark.parametrize(
    "text",
    [
        f"{APPENDED}SELECT id, read_ssn(id) FROM x",
        f"{APPENDED}SELECT v FROM x, visits v",
        f"{APPENDED}SELECT count(v.*) FROM x, visits v",
        f"{APPENDED}SELECT v.id FROM x, visits v FOR UPDATE OF v",
        f"{APPENDED}SELECT v.id FROM x, visits v TABLESAMPLE system (50)",
        f"{APPENDED}SELECT * FROM x, (WITH x AS (SELECT 1) SELECT * FROM x, log) y",
        f"WITH y AS (SELECT * FROM x), {APPENDED.removeprefix('WITH ')} SELECT 1 FROM y, log",
        f"{APPENDED}INSERT INTO patients (notes) SELECT x.notes FROM x, log",
        f"{APPENDED}, y AS (INSERT INTO log (msg) SELECT msg FROM log RETURNING id) SELECT x.id FROM x, y",
    ],
)
def test_not_split_where_something_else_is_read(text: str) -> None:
    split, refusal = _split(text)
    assert split is None
    if "read_ssn" not in text:
        assert "where nothing is inserted" in (refusal.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        f"{APPENDED}, y AS (DELETE FROM visits USING x WHERE patient_id = x.id RETURNING diagnosis) SELECT diagnosis FROM y",
        f"{APPENDED}, y AS (INSERT INTO log (msg) SELECT notes FROM x) SELECT id FROM x",
        f"{APPENDED}, y AS (WITH z AS (SELECT 1 AS n) DELETE FROM visits USING z WHERE id = z.n) SELECT id FROM x",
        f"{APPENDED}DELETE FROM visits USING x WHERE patient_id = x.id",
        f"{APPENDED}INSERT INTO log (msg) SELECT notes FROM x",
        "WITH y AS (SELECT 1 AS id), x AS (UPDATE patients SET notes = notes || 'x' FROM y WHERE y.id = patients.id RETURNING y.id)"
        " SELECT id FROM x",
    ],
)
def test_not_split(text: str) -> None:
    split, _ = _split(text)
    assert split is None
