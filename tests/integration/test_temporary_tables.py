"""Temporary tables with a protected table's name: the session's own, as long as they are there; nothing in them is protected."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.fixtures.cases import fill
from tests.fixtures.live import Twins, extended_site, watched_twins
from tests.harness import results
from tests.harness.differential import Differential, Protocol
from tests.harness.server import PostgresServer

READ = "SELECT * FROM patients ORDER BY id"
REAL = "SELECT ssn, id FROM public.patients ORDER BY id"
MADE = "CREATE TEMP TABLE patients (id int, ssn text, x text)"
FILLED = "INSERT INTO patients VALUES (1, 'a', 'b')"
IN_CODE = "DO $$ BEGIN EXECUTE '{}'; END $$"
MADE_IN_CODE = IN_CODE.format("CREATE TEMP TABLE pat' || 'ients (id int)")
DROPPED_IN_CODE = IN_CODE.format("DROP TABLE pat' || 'ients")


@pytest.fixture(scope="module")
def twins(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """The clinic with two sessions that live as long as this module."""
    with extended_site(postgres_server, tmp_path_factory.mktemp("temporary")) as site, watched_twins(site) as found:
        yield found


JOINED = "SELECT l.*, p.ssn FROM patients p JOIN log l ON l.id = p.id ORDER BY p.id"
SCRIPTS = {
    "made and dropped": [MADE, READ, FILLED, READ, "SELECT x FROM patients WHERE ssn = 'a'", REAL, "DROP TABLE patients", READ],
    "of a transaction": ["BEGIN", MADE, FILLED, READ, REAL, "COMMIT", READ, "DISCARD TEMP", READ],
    "on commit drop": ["BEGIN", f"{MADE} ON COMMIT DROP", FILLED, READ, "COMMIT", READ],
    "rolled back": ["BEGIN", MADE, FILLED, READ, "ROLLBACK", READ],
    "savepoints": ["BEGIN", "SAVEPOINT a", MADE, FILLED, READ, "ROLLBACK TO a", READ, MADE, READ, "RELEASE a", READ, "END", READ],
    "dropped, and taken back": [MADE, FILLED, "BEGIN", "DROP TABLE patients", READ, "ROLLBACK", READ],
    "from a query": ["CREATE TEMP TABLE patients AS SELECT 7 AS id, 'q'::text AS x", READ, "UPDATE patients SET x = 'r'", READ],
    "by SELECT INTO": ["SELECT 7 AS id, 'q'::text AS x INTO TEMP patients", READ, "UPDATE patients SET x = 'r'", READ, REAL],
    "by SELECT INTO of the protected one": ["SELECT id, city INTO TEMPORARY TABLE patients FROM public.patients", READ, REAL],
    "from the protected one": [
        "CREATE TEMP TABLE patients AS SELECT id, city FROM public.patients",
        READ,
        "SELECT p.ssn, t.city FROM public.patients p JOIN patients t ON t.id = p.id ORDER BY t.id",
    ],
    "qualified": [
        "CREATE TABLE pg_temp.patients (id int)",
        READ,
        "SELECT pg_temp.patients.id FROM pg_temp.patients",
        "DISCARD ALL",
        "SELECT * FROM pg_temp.patients",
    ],
    "last in the path": [
        MADE,
        "SET search_path TO public, pg_temp",
        READ,
        "INSERT INTO pg_temp.patients VALUES (1, 'a', 'b')",
        "SET search_path TO pg_temp, public",
        READ,
        "RESET search_path",
        READ,
    ],
    "first in the path": [
        "SET search_path TO pg_temp, public",
        READ,
        "CREATE TABLE patients (id int, ssn text, x text)",
        FILLED,
        READ,
        REAL,
        "SET search_path TO public",
        READ,
        "DROP TABLE pg_temp.patients",
        "SET search_path TO pg_temp, public",
        "CREATE TABLE patients AS SELECT 7 AS id, 'q'::text AS x",
        READ,
        "DISCARD TEMP",
        "RESET search_path",
        READ,
    ],
    "first in the path, in a transaction": [
        "BEGIN",
        'SET LOCAL search_path TO "pg_temp", public',
        "CREATE TABLE patients (id int, ssn text, x text)",
        FILLED,
        READ,
        REAL,
        "ROLLBACK",
        READ,
    ],
    "altered": [
        MADE,
        "ALTER TABLE patients ADD COLUMN mrn text",
        READ,
        "ALTER TABLE patients RENAME COLUMN mrn TO m",
        "CREATE INDEX ON patients (m)",
        READ,
        "ALTER TABLE patients RENAME TO foo",
        READ,
    ],
    "prepared": [MADE, FILLED, "PREPARE p AS SELECT count(*) FROM patients", "EXECUTE p", "TRUNCATE patients", "EXECUTE p"],
    "of an unprotected one's name": [
        JOINED,
        "CREATE TEMP TABLE log (id int, x text, y text, z int)",
        "INSERT INTO log VALUES (1, 'x', 'y', 2)",
        JOINED,
        "DROP TABLE log",
        JOINED,
    ],
    "made in code": [MADE_IN_CODE, READ, DROPPED_IN_CODE, READ],
    "beside the protected one": [
        MADE,
        FILLED,
        "WITH q AS (INSERT INTO patients VALUES (3) RETURNING id) SELECT * FROM q",
        "SELECT count(*) FROM patients t, visits WHERE mrn = '@mrn1@' AND t.x = 'b'",
        "UPDATE visits SET room = t.x FROM patients t WHERE t.id = visits.id",
        "INSERT INTO public.patients (id, ssn) VALUES (70, '@new_ssn@')",
        "DELETE FROM patients",
        "DELETE FROM public.patients WHERE ssn = '@new_ssn@'",
    ],
    "two of them": [MADE, "CREATE TEMP TABLE visits (room text)", "SELECT * FROM patients, visits", "DROP TABLE visits, patients"],
    "its columns are its own": [MADE, "SELECT mrn FROM patients", "DROP TABLE patients", "SELECT x FROM patients"],
}


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_as_directly(twins: Twins, name: str, protocol: Protocol) -> None:
    for text in [*SCRIPTS[name], "DISCARD ALL", READ]:
        twins.both.run(fill(text, twins.value), protocol=protocol)


REFUSED = [
    "INSERT INTO patients SELECT id, ssn FROM public.patients",
    "INSERT INTO public.patients (ssn) SELECT ssn FROM patients",
    "UPDATE public.patients p SET ssn = t.ssn FROM patients t WHERE t.id = p.id",
    "SELECT 1 FROM public.patients p JOIN patients t ON t.ssn = p.ssn",
    "CREATE TEMP TABLE visits AS SELECT * FROM public.visits",
    f"{MADE.replace('patients', 'visits')}; SELECT * FROM visits",
]


def test_nothing_protected_goes_in_or_comes_from_it(twins: Twins) -> None:
    twins.both.run(MADE, protocol="simple")
    for text in REFUSED:
        twins.both.refused(text, protocol="simple")
    twins.both.run("DISCARD ALL", protocol="simple")


def test_a_session_knows_nothing_of_the_tables_of_others(twins: Twins) -> None:
    with Differential(twins.clinic) as others:
        others.run(MADE, protocol="simple")
        others.run(FILLED, protocol="simple")
        twins.both.run(READ, protocol="simple")
    twins.both.run("CREATE TEMP TABLE scratch (id int)", protocol="simple")  # in the same schema, perhaps, as theirs was
    twins.both.run(READ, protocol="simple")
    assert results.simple(twins.both.proxied, "DISCARD ALL")[-1].tag == "DISCARD ALL"


def test_to_ask_for_the_path_makes_no_temporary_schema(twins: Twins) -> None:
    for dsn in (twins.clinic.plain_dsn, twins.clinic.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("SET search_path TO pg_temp, public")
            assert conn.execute("SELECT pg_my_temp_schema()::int8").fetchone() == (0,)
            assert conn.execute("SELECT count(*) FROM public.patients WHERE ssn = 'nobody'").fetchone() == (0,)
            assert conn.execute("SELECT count(*) FROM patients WHERE ssn = 'nobody'").fetchone() == (0,)
            with conn.transaction():
                conn.execute("SET LOCAL search_path TO pg_temp, nowhere, public")
                assert conn.execute("SELECT count(*) FROM patients WHERE ssn = 'nobody'").fetchone() == (0,)
            assert conn.execute("SHOW search_path").fetchone() == ("pg_temp, public",)
            assert conn.execute("SELECT pg_my_temp_schema()::int8").fetchone() == (0,)
            conn.execute("CREATE TEMP TABLE scratch (id int)")
            assert conn.execute("SELECT count(*) FROM patients WHERE ssn = 'nobody'").fetchone() == (0,)
            conn.execute("SET search_path TO public, pg_temp")
            assert conn.execute("SELECT count(*) FROM patients WHERE ssn = 'nobody'").fetchone() == (0,)
