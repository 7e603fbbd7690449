"""Sessions that have ``standard_conforming_strings`` off: what they send is read as the server reads it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from phiproxy.sql.text.rewritten_backslashes import either_way
from tests.harness.clinic import Clinic

PIECES = [
    "'",
    "'",
    "''",
    "\\",
    "\\'",
    "\\\\",
    "n",
    "N'",
    "E'",
    "x'",
    "U&'",
    '"',
    "--",
    "\n",
    "/*",
    "*/",
    "$$",
    "$a$",
    "$",
    " ",
    ",",
    "a",
    "1",
    "||",
    "é",
]
OFF = "SET standard_conforming_strings TO off"


def answer(conn: psycopg.Connection[Any], text: str) -> object:
    """Return the rows, or the SQLSTATE of the error."""
    try:
        cursor = conn.execute(text.encode())
        return cursor.fetchall() if cursor.description is not None else cursor.statusmessage
    except psycopg.Error as error:
        return error.sqlstate


@pytest.fixture
def sessions(clinic: Clinic) -> Iterator[list[psycopg.Connection[Any]]]:
    clinic.seed(2)
    plain, proxied = (psycopg.connect(dsn, autocommit=True) for dsn in (clinic.plain_dsn, clinic.proxy_dsn))
    with plain, proxied:
        yield [plain, proxied]


def both(sessions: list[psycopg.Connection[Any]], text: str) -> object:
    expected, found = (answer(session, text) for session in sessions)
    assert found == expected, text
    return found


def test_what_is_spelled_either_way_means_the_same(clinic: Clinic) -> None:
    """Random texts: as they are where it is off, and as they are spelled where it is on, and the other way about."""
    chance, alike = random.Random(7), 0
    with psycopg.connect(clinic.plain_dsn, autocommit=True) as on, psycopg.connect(clinic.plain_dsn, autocommit=True) as off:
        off.execute(OFF)
        for _ in range(3000):
            text = "SELECT '" + "".join(chance.choices(PIECES, k=chance.randrange(2, 14))) + chance.choice(["'", "", "\\''"])
            for conforming, one, other in ((False, off, on), (True, on, off)):
                spelled, edits = either_way(text.encode(), conforming=conforming)
                if not edits:
                    continue
                expected = answer(one, text)
                if isinstance(expected, str):
                    continue  # the server runs nothing of it
                found = answer(other, spelled.decode())
                if "U&'" in text and found == "0A000":
                    continue  # where it is off the server refuses these
                assert found == expected, text
                alike += 1
    assert alike > 200


def test_what_names_nothing_protected_passes(sessions: list[psycopg.Connection[Any]], clinic: Clinic) -> None:
    both(sessions, OFF)
    assert both(sessions, r"SELECT 'it\'s', 'a\\b', E'\'', '\141'") == [("it's", "a\\b", "'", "a")]
    both(sessions, "CREATE TEMP TABLE other (a text)")
    both(sessions, r"INSERT INTO other VALUES ('patients\'s'); SELECT a || '\n' FROM other")
    both(sessions, r"DO 'BEGIN RAISE NOTICE \'x\'; END'")
    both(sessions, r"SELECT table_name FROM information_schema.tables WHERE table_name = 'patients\\'")
    both(sessions, "BEGIN")
    both(sessions, r"CREATE TABLE made (a text DEFAULT 'it\'s')")
    both(sessions, r"SELECT a, 'patients\'' FROM made")
    both(sessions, "ROLLBACK")
    for text in (
        "SELECT ssn FROM patients",
        r"SELECT '\'', ssn FROM patients --'",
        r"SELECT 'a\', ' , ssn FROM patients --",
        r"DO 'BEGIN PERFORM ssn FROM p\141tients; END'",
    ):
        assert answer(sessions[1], text) == "0A000", text
    both(sessions, "RESET standard_conforming_strings")
    both(sessions, "SELECT ssn FROM patients ORDER BY id")
    both(sessions, "BEGIN; SET LOCAL standard_conforming_strings = off")
    both(sessions, r"SELECT 'it\'s'")
    both(sessions, "ROLLBACK")
    both(sessions, "SELECT ssn, 'it\\' FROM patients ORDER BY id")
    both(sessions, "SELECT set_config('standard_conforming_strings', 'off', false)")
    both(sessions, r"SELECT 'patients\'s'")
    clinic.assert_twins_equal()


def test_it_may_be_off_from_the_start(clinic: Clinic) -> None:
    clinic.seed(1)
    with psycopg.connect(clinic.proxy_dsn, options="-c standard_conforming_strings=off", autocommit=True) as conn:
        assert answer(conn, r"SELECT 'it\'s'") == [("it's",)]
        assert answer(conn, "SELECT ssn FROM patients") == "0A000"
        conn.execute("SET standard_conforming_strings TO on")
        assert answer(conn, "SELECT ssn FROM patients") == [(clinic.patients[0].ssn,)]


def test_the_proxy_s_own_questions_are_read_as_they_are_meant(clinic: Clinic) -> None:
    """In the client's transaction behind its DDL."""
    clinic.seed(1)
    with psycopg.connect(clinic.proxy_dsn, autocommit=True) as conn:
        conn.execute("BEGIN")
        conn.execute("ALTER TABLE patients ADD COLUMN zip text")
        conn.execute(OFF)
        conn.execute("CREATE TEMP TABLE mine AS SELECT 'x' AS a")
        assert answer(conn, "SELECT a FROM mine WHERE a <> 'patients'") == [("x",)]
        conn.execute("SET standard_conforming_strings TO on")
        assert answer(conn, "SELECT ssn, zip FROM patients") == [(clinic.patients[0].ssn, None)]
        conn.execute("ROLLBACK")
