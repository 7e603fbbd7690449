"""Statements behind DDL in one Sync group: they wait, and each is what it would be without the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import pq

from tests.harness.clinic import Clinic
from tests.integration.test_client_encoding import results

Session = psycopg.Connection[Any]
SYNC = ""


@pytest.fixture
def sessions(clinic: Clinic) -> Iterator[tuple[Session, Session]]:
    clinic.seed(2)
    plain = psycopg.connect(clinic.plain_dsn, autocommit=True)
    with plain, psycopg.connect(clinic.proxy_dsn, autocommit=True) as proxied:
        yield plain, proxied


def told(session: Session, *texts: str) -> list[object]:
    """Send all texts before an answer is read, with a Sync for each that is empty, and return what is told of each."""
    conn = session.pgconn
    conn.enter_pipeline_mode()
    for text in texts:
        if not text:
            conn.pipeline_sync()
        elif text.startswith("PREPARED "):
            conn.send_query_prepared(text.removeprefix("PREPARED ").encode(), ())
        else:
            conn.send_query_params(text.encode(), ())
    while conn.flush():
        pass
    found: list[object] = []
    for _ in texts:
        for result in results(conn):
            state = result.error_field(pq.DiagnosticField.SQLSTATE)
            rows = [[result.get_value(r, c) for c in range(result.nfields)] for r in range(result.ntuples)]
            found.append(state or rows or pq.ExecStatus(result.status).name)
    conn.exit_pipeline_mode()
    return found


def both(sessions: tuple[Session, Session], *texts: str) -> list[object]:
    expected, found = (told(session, *texts) for session in sessions)
    assert found == expected, texts
    return found


SSNS = "SELECT ssn FROM patients ORDER BY id"
GROUPS: dict[str, list[list[str]]] = {
    "a table of its own": [
        ["CREATE TABLE made AS SELECT 1 AS a", "SELECT * FROM made", "INSERT INTO made VALUES (2)", "TABLE made", SYNC]
    ],
    "a column more": [
        [
            "ALTER TABLE patients ADD COLUMN zip text",
            "SELECT ssn, zip FROM patients ORDER BY id",
            "UPDATE patients SET zip = 'x'",
            SYNC,
        ],
        ["SELECT ssn, zip FROM patients ORDER BY id", SYNC],
        ["ALTER TABLE patients DROP COLUMN zip", "SELECT zip FROM patients", SSNS, SYNC],
        ["SELECT zip FROM patients", "ALTER TABLE patients DROP COLUMN zip", SSNS, SYNC, SSNS, SYNC],
    ],
    "twice": [["CREATE TABLE made (a int)", SSNS, "DROP TABLE made", SSNS, "SELECT a FROM made", SYNC, SSNS, SYNC]],
    "of a transaction": [
        ["BEGIN", "CREATE TABLE made (a int)", SSNS, SYNC],
        ["SELECT a FROM made", "INSERT INTO patients (ssn) VALUES ('new') RETURNING ssn", SYNC, "ROLLBACK", SYNC, SSNS, SYNC],
    ],
    "behind the beginning of a transaction": [
        ["BEGIN", SYNC, "ALTER TABLE patients ADD COLUMN zip text", SYNC],
        ["SELECT 1", "SELECT ssn, zip FROM patients ORDER BY id", SYNC, "ROLLBACK", SYNC, SSNS, SYNC],
    ],
    "that fails": [["CREATE TABLE made (a int)", "CREATE TABLE made (a int)", SSNS, SYNC, SSNS, "SELECT a FROM made", SYNC]],
    "with what fails behind it": [["CREATE TABLE made (a int)", SSNS, "SELECT 1/0", SSNS, SYNC, SSNS, "TABLE made", SYNC]],
    "with what is no table": [
        ["CREATE TABLE made (a int)", "SELECT * FROM patiens", SSNS, SYNC],
        ["CREATE TABLE made (a int)", "SELECT zip FROM patients", SYNC],
    ],
    "a table that hides": [
        ["CREATE TEMP TABLE patients (id int, ssn text)", "INSERT INTO patients VALUES (1, 'x')", SSNS, SYNC, SSNS, SYNC],
        ["DROP TABLE pg_temp.patients", SSNS, SYNC, SSNS, SYNC],
    ],
    "a path": [["CREATE SCHEMA other", "SET LOCAL search_path TO other, public", SSNS, SYNC, "DROP SCHEMA other", SSNS, SYNC]],
    "what was prepared before": [
        ["PREPARE p AS " + SSNS, SYNC],
        ["CREATE TABLE made (a int)", "PREPARED p", "DROP TABLE made", "PREPARED p", SYNC],
    ],
}


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_it_waits(sessions: tuple[Session, Session], clinic: Clinic, groups: list[list[str]]) -> None:
    for texts in groups:
        both(sessions, *texts)
    both(sessions, "DROP TABLE IF EXISTS made", SYNC)
    assert both(sessions, SSNS, SYNC)[0] == [[p.ssn.encode()] for p in clinic.patients]
    clinic.assert_twins_equal()


def test_only_behind_the_end_of_a_transaction_it_does_not(sessions: tuple[Session, Session]) -> None:
    found = told(sessions[1], "BEGIN", "CREATE TABLE made (a int)", "COMMIT", SSNS, SYNC, SSNS, "DROP TABLE made", SYNC)
    assert found[3] == b"0A000"
    assert isinstance(found[5], list)
