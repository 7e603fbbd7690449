"""Prepared statements whose result is another one since somebody changed a table: PostgreSQL's error, and not other columns."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import psycopg
import pytest
from psycopg import pq

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
    # The engine computes these.
    "f": "SELECT *, upper(ssn) FROM patients",
    "g": "SELECT p.*, v.room FROM patients p LEFT JOIN visits v ON v.mrn = p.mrn ORDER BY p.ssn",
    "h": "SELECT upper(ssn), visits_count FROM patients ORDER BY ssn",
    "i": "UPDATE patients SET notes = upper(ssn) WHERE ssn = 'y' RETURNING *",
}
# Computed over opened rows.
SETTINGS = "compute: {engine: embedded, limits: {sessions: 4}}\n"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(postgres_server, tmp_path_factory.mktemp("results"), policy=POLICY, ddl=DDL, settings=SETTINGS) as site:
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn) as conn:
                conn.execute("INSERT INTO patients (ssn, mrn) VALUES ('x', 'm'), ('y', NULL)")
        yield site


def told(conn: Connection, name: str) -> list[object]:
    """Return what EXECUTE and the protocol say of a prepared statement, each under a savepoint or in a transaction of its own."""
    found: list[object] = []
    inside = conn.pgconn.transaction_status != pq.TransactionStatus.IDLE
    for by_sql in (True, False):
        results.simple(conn.pgconn, "SAVEPOINT here" if inside else "BEGIN")
        if by_sql:
            conn.pgconn.send_query(f"EXECUTE {name}".encode())
        else:
            conn.pgconn.send_query_prepared(f"own_{name}".encode(), [])
        [one] = results.collect(conn.pgconn)
        if one.sqlstate:
            said = one.message.removeprefix("phiproxy: ").partition(" (docs/")[0]
            found.append((one.sqlstate, said))
        else:
            found.append(([column.name for column in one.fields], sorted(one.rows, key=repr)))
        results.simple(conn.pgconn, "ROLLBACK TO here" if inside else "ROLLBACK")
    return found


def prepare(conn: Connection) -> None:
    for name, query in QUERIES.items():
        conn.execute(f"PREPARE {name} AS {query}".encode())
        conn.pgconn.send_prepare(f"own_{name}".encode(), query.encode())
        assert not results.collect(conn.pgconn)[-1].sqlstate
        conn.pgconn.send_query_prepared(f"own_{name}".encode(), [])
        assert not results.collect(conn.pgconn)[-1].sqlstate


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
                conn.execute("SAVEPOINT change")
            assert not results.simple(changing.pgconn, change)[-1].sqlstate
            all_told.append([told(conn, name) for name in QUERIES])
            if block:
                conn.execute("ROLLBACK TO change")
                all_told[-1] += [told(conn, name) for name in QUERIES]
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
