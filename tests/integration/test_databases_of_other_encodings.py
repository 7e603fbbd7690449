"""A database in LATIN1: a character that it does not have is an error, also where what the server gets is sealed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.clinic import DDL, POLICY, watched_clinic
from tests.harness.differential import Differential
from tests.harness.server import PostgresServer
from tests.harness.site import open_site


@pytest.fixture(scope="module")
def latin(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Differential]:
    """Both twins in LATIN1, with an engine, and sessions that speak UTF-8."""
    directory, settings = tmp_path_factory.mktemp("latin"), "compute: {engine: embedded, limits: {sessions: 4}}\n"
    with (
        open_site(postgres_server, directory, policy=POLICY, ddl=DDL, settings=settings, encoding="LATIN1") as site,
        watched_clinic(site) as clinic,
    ):
        clinic.seed()
        with Differential(clinic) as both:
            both.run("SET client_encoding TO UTF8", protocol="simple")
            yield both


STATEMENTS = {
    "compared": "SELECT id FROM patients WHERE full_name = 'ł'",
    "computed": "SELECT upper(full_name) FROM patients WHERE full_name <> 'ł'",
    "stored": "INSERT INTO patients (full_name) VALUES ('ł')",
    "stored beside what is computed": "UPDATE patients SET notes = upper(notes), full_name = 'ł'",
    "appended": "UPDATE patients SET notes = notes || 'ł'",
    "in a comment": "UPDATE patients SET notes = 'a' /* ł */",
    "a name": 'SELECT "ł" FROM patients',
    "what an escape stands for": "UPDATE patients SET notes = notes || E'\\u0142'",
}
GIVEN = {
    "compared": "SELECT id FROM patients WHERE full_name = $1",
    "computed": "SELECT upper(full_name) FROM patients WHERE full_name LIKE $1 || '%'",
    "stored": "INSERT INTO patients (full_name) VALUES ($1)",
    "stored computed": "INSERT INTO patients (full_name) VALUES (upper($1))",
    "appended": "UPDATE patients SET notes = notes || $1",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_character_in_a_statement(latin: Differential, name: str) -> None:
    latin.run("BEGIN")
    assert latin.run(STATEMENTS[name], protocol="simple").sqlstate == "22P05"
    latin.run("ROLLBACK")
    assert latin.run(STATEMENTS[name]).sqlstate == "22P05"


@pytest.mark.parametrize("name", GIVEN)
def test_a_character_that_is_given(latin: Differential, name: str) -> None:
    for form in (0, 1):
        assert latin.run(GIVEN[name], ("ł",), param_format=form).sqlstate == "22P05"


@pytest.mark.parametrize("options", ["", "(FORMAT csv)", "(ENCODING 'UTF8')", "(FORMAT binary)"])
def test_in_what_is_copied(latin: Differential, options: str) -> None:
    given = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\0\0\0\2" + "ł".encode() + b"\xff\xff"
    for dsn in (latin.clinic.plain_dsn, latin.clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True, client_encoding="UTF8") as conn:
            copy = f"COPY patients (full_name) FROM STDIN {options}".encode()
            with pytest.raises(psycopg.errors.UntranslatableCharacter), conn.cursor().copy(copy) as data:
                data.write(given if "binary" in options else "é\nł\n".encode())


@pytest.mark.parametrize("value", ["E'\\u0142'", "U&'\\0142'", "U&'!0142' UESCAPE '!'", "E'\\xc5\\x82'", "E'\\305\\202'"])
def test_an_escape_that_the_proxy_would_seal_is_refused(latin: Differential, value: str) -> None:
    """PostgreSQL says 22P05 of the first three, and stores two characters for the others."""
    latin.refused(f"UPDATE patients SET notes = {value}", hint="character")
    latin.refused(f"UPDATE patients SET notes = {value}", protocol="simple", hint="character")


def test_characters_that_it_has(latin: Differential) -> None:
    latin.run("BEGIN")
    for statement in (
        "UPDATE patients SET notes = 'é', full_name = E'\\u00e9' WHERE id = 1 RETURNING notes, full_name",
        "UPDATE patients SET notes = notes || upper('Zoë') WHERE id = 1 RETURNING notes, lower(notes)",
        "SELECT id FROM patients WHERE full_name = U&'\\00e9'",
    ):
        assert len(latin.run(statement, protocol="simple").rows) == 1
        assert latin.run(statement).status == "TUPLES_OK"
    assert latin.run("SELECT notes, full_name, upper(notes) FROM patients WHERE full_name = $1", ("é",)).status == "TUPLES_OK"
    latin.run("ROLLBACK")
