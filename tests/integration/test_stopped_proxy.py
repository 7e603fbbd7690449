"""A proxy that was stopped for longer than others wait for it, and goes on: no name that was made meanwhile is missed."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq.abc import PGresult

from phiproxy.served_database import MIN_LEASE
from tests.harness.clinic import POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import pair


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    with open_site(postgres_server, tmp_path_factory.mktemp("stopped"), policy=POLICY, ddl="SELECT", planned=True) as site:
        yield site


def answer(conn: psycopg.Connection[tuple[object, ...]]) -> PGresult:
    """Wait for the answer; not in libpq, where the tap's thread could not go on meanwhile."""
    results: list[PGresult | None] = []
    while not results or results[-1] is not None:
        while conn.pgconn.is_busy():
            assert select.select([conn.fileno()], [], [], 120)[0], "no answer"
            conn.pgconn.consume_input()
        results.append(conn.pgconn.get_result())
    assert results[0] is not None
    return results[0]


def test_a_proxy_that_goes_on_reads_the_catalogue_first(site: Site) -> None:
    with pair(site) as both, site.another_proxy("stopped") as stopped:
        both.run("CREATE TABLE patients (id int, ssn text)")
        dsn = stopped.dsn(site.sealed, site.role, site.password)
        with psycopg.connect(dsn, autocommit=True) as simple, psycopg.connect(dsn, autocommit=True) as prepared:
            for conn in (simple, prepared):
                conn.execute("SELECT 1")
            assert stopped.process is not None
            os.kill(stopped.process.pid, signal.SIGSTOP)
            try:
                time.sleep(MIN_LEASE)
                both.run("CREATE VIEW shown AS SELECT id, ssn FROM patients")
                ssn = both.oracle.plant("ssn")
                # In the sockets, before anything else that it will see once it goes on.
                simple.pgconn.send_query(f"INSERT INTO shown VALUES (1, '{ssn}')".encode())
                prepared.pgconn.send_query_params(b"INSERT INTO shown VALUES (2, $1)", [ssn.encode()])
                simple.pgconn.flush()
                prepared.pgconn.flush()
            finally:
                os.kill(stopped.process.pid, signal.SIGCONT)
            for conn in (simple, prepared):
                result = answer(conn)
                assert result.command_status == b"INSERT 0 1", result.error_message
        assert both.sides[1].execute("SELECT id FROM shown WHERE ssn = %s ORDER BY id", (ssn,)).fetchall() == [(1,), (2,)]
