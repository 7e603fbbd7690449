"""Prepared statements whose result is another one since somebody changed a table: PostgreSQL's error, and not other columns."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from tests.harness import results
from tests.harness.clinic import DDL, POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

Connection = psycopg.Connection[tuple[object, ...]]
CHANGES = {
    "ALTER TABLE patients ADD COLUMN extra int": "ALTER TABLE patients DROP COLUMN extra",
    "ALTER TABLE patients RENAME COLUMN city TO town": "ALTER TABLE patients RENAME COLUMN town TO city",
    "ALTER TABLE patients ALTER COLUMN visits_count TYPE bigint": "ALTER TABLE patients ALTER COLUMN visits_count TYPE int",
    "ALTER TABLE visits ADD COLUMN extra int": "ALTER TABLE visits DROP COLUMN extra",
    "ALTER TABLE patients DROP COLUMN active": "ALTER TABLE patients ADD COLUMN active boolean",
}
QUERIES = {
    "a": "SELECT * FROM patients",
    "b": "SELECT p.*, v.room FROM patients p LEFT JOIN visits v ON v.mrn = p.mrn WHERE p.ssn = 'x'",
    "c": "UPDATE patients SET notes = 'x' WHERE ssn = 'y' RETURNING *",
    "d": "TABLE visits",
    "e": "SELECT id, ssn FROM patients",
}


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(postgres_server, tmp_path_factory.mktemp("results"), policy=POLICY, ddl=DDL) as site:
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn) as conn:
                conn.execute("INSERT INTO patients (ssn, mrn) VALUES ('x', 'm'), ('y', NULL)")
        yield site


def told(conn: Connection, name: str) -> list[object]:
    """Return what EXECUTE and the protocol say of a prepared statement."""
    found: list[object] = []
    for query in (f"EXECUTE {name}", QUERIES[name]):
        try:
            with conn.transaction():
                rows = conn.execute(query.encode(), prepare=query == QUERIES[name])
                found.append(([c.name for c in rows.description or ()], rows.fetchall()))
        except psycopg.Error as error:
            said = (error.diag.message_primary or "").removeprefix("phiproxy: ").partition(" (docs/")[0]
            found.append((error.sqlstate, said, error.diag.source_function))
    return found


def prepare(conn: Connection) -> None:
    for name, query in QUERIES.items():
        conn.execute(f"PREPARE {name} AS {query}".encode())
        conn.execute(query.encode(), prepare=True)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("block", [False, True])
def test_it_is_postgresql_s_error(site: Site, change: str, block: bool) -> None:
    all_told = []
    for dsn in (site.plain_dsn, site.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn, psycopg.connect(dsn, autocommit=True) as other:
            prepare(conn)
            changing = conn if block else other
            if block:
                conn.execute("BEGIN")
            assert not results.simple(changing.pgconn, change)[-1].sqlstate  # psycopg would prepare everything anew
            all_told.append([told(conn, name) for name in QUERIES])
            if block:
                conn.execute("ROLLBACK")
            else:
                other.execute(CHANGES[change].encode())
    plain, proxied = all_told
    assert "cached plan must not change result type" in str(plain)
    assert proxied == plain


async def test_asyncpg_prepares_it_again(site: Site) -> None:
    change = "ALTER TABLE patients ADD COLUMN extra int"
    conn = await asyncpg.connect(site.proxy_dsn)
    try:
        before = len((await conn.fetch("SELECT * FROM patients"))[0])
        await conn.execute(change)
        assert len((await conn.fetch("SELECT * FROM patients"))[0]) == before + 1
        await conn.execute(CHANGES[change])
    finally:
        await conn.close()
