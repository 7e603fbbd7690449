"""A hold over "patients", as a job places it: who waits for it, what it waits for, and who goes on."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import psycopg
import pytest

from phiproxy import held_statements
from phiproxy.keys.holds import Hold as HoldRow
from phiproxy.session.state_parts import Fence
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until
from tests.session.frames import TERMINATE, query

POLICY = """\
database: {database}
deployment: held-test
tables:
  public.patients:
    columns:
      ssn: {type: text, indexes: [ssn], accept_leakage: test}
"""
DDL = """\
CREATE TABLE patients (id int PRIMARY KEY, ssn text);
CREATE TABLE visits (id int PRIMARY KEY, patient int REFERENCES patients);
CREATE TABLE notes (id int PRIMARY KEY, body text);
CREATE VIEW seen AS SELECT id FROM patients;
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM patients';
INSERT INTO patients VALUES (1, NULL);
"""
# Shorter than a hold, which therefore was ended where somebody goes on; and longer than a slow machine takes.
PATIENCE = 40.0
NAMING = [
    "SELECT id FROM patients", "SELECT id FROM seen", "SELECT counted()", "INSERT INTO visits VALUES (1, 1) ON CONFLICT DO NOTHING",
]  # fmt: skip


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory: Path = tmp_path_factory.mktemp("held")
    with open_site(postgres_server, directory, policy=POLICY, ddl=DDL) as site:
        yield site


class Hold:
    """A hold that was placed; ``confirmed`` tells whether the proxy has."""

    def __init__(self, conn: psycopg.Connection[tuple[object, ...]]) -> None:
        self._conn = conn

    def is_confirmed(self, within: float = PATIENCE) -> bool:
        end = time.monotonic() + within
        while time.monotonic() < end:
            rows = self._conn.execute("SELECT cardinality(confirmed) FROM phiproxy.hold").fetchall()
            if rows and rows[0][0]:
                return True
            time.sleep(0.02)
        return False

    def end(self) -> None:
        self._conn.execute("DELETE FROM phiproxy.hold")


@contextmanager
def held(site: Site, names: str = "patients,seen,counted") -> Iterator[Hold]:
    with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as conn:
        hold = Hold(conn)
        conn.execute("INSERT INTO phiproxy.hold (ends_at, names) VALUES (now() + interval '50 s', %s)", ["{" + names + "}"])
        conn.execute("SELECT pg_notify('phiproxy_epoch', 'phiproxy')")
        try:
            yield hold
        finally:
            hold.end()


class Later:
    """A statement that another thread sends; ``is_done`` within some seconds."""

    def __init__(self, conn: psycopg.Connection[tuple[object, ...]], query: str) -> None:
        self.rows: list[tuple[object, ...]] = []
        self.error: psycopg.Error | None = None
        self._thread = threading.Thread(target=self._run, args=(conn, query))
        self._thread.start()

    def _run(self, conn: psycopg.Connection[tuple[object, ...]], query: str) -> None:
        try:
            cursor = conn.execute(query.encode())
            self.rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            self.error = error

    def is_done(self, within: float = PATIENCE) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()


@pytest.mark.parametrize("query", NAMING)
def test_only_statements_that_may_touch_the_tables_wait(site: Site, query: str) -> None:
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn, psycopg.connect(site.proxy_dsn, autocommit=True) as other:
        with held(site) as hold:
            assert hold.is_confirmed()
            waiting = Later(conn, query)
            assert not waiting.is_done(0.2)
            assert other.execute("SELECT count(*) FROM notes").fetchall() == [(0,)]
            assert not waiting.is_done(0)
        assert waiting.is_done()
        assert waiting.error is None


def test_a_hold_of_another_job_does_not_end_one(site: Site) -> None:
    """Its statements wait until its own row is gone; the other hold is confirmed behind it."""
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn, held(site) as hold:
        assert hold.is_confirmed()
        waiting = Later(conn, "SELECT id FROM patients")
        with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as job:
            add = "INSERT INTO phiproxy.hold (ends_at, names) VALUES (now() + interval '50 s', '{notes}') RETURNING id"
            (number,) = job.execute(add).fetchall()[0]
            job.execute("SELECT pg_notify('phiproxy_epoch', 'phiproxy')")
            assert not waiting.is_done(0.7)
            job.execute("DELETE FROM phiproxy.hold WHERE id < %s", [number])
            assert waiting.is_done()
            assert hold.is_confirmed()


def test_everything_waits_where_a_hold_says_no_names(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn, held(site, "") as hold:
        assert hold.is_confirmed()
        waiting = Later(conn, "SELECT count(*) FROM notes")
        assert not waiting.is_done(0.2)
        hold.end()
        assert waiting.is_done()
        assert waiting.rows == [(0,)]


def test_a_transaction_begins_and_waits_where_it_names_them(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn) as conn, held(site) as hold:
        assert hold.is_confirmed()
        assert conn.execute("SELECT count(*) FROM notes").fetchall() == [(0,)]
        assert conn.info.transaction_status.name == "INTRANS"
        waiting = Later(conn, "SELECT id FROM patients")
        assert not waiting.is_done(0.2)
        hold.end()
        assert waiting.is_done()
        assert waiting.rows == [(1,)]


def test_an_open_transaction_that_has_not_touched_them_is_not_waited_for(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn) as conn:
        conn.execute("SELECT count(*) FROM notes").fetchall()
        with held(site) as hold:
            assert hold.is_confirmed()
            assert conn.execute("SELECT count(*) FROM notes").fetchall() == [(0,)]
            waiting = Later(conn, "SELECT id FROM seen")
            assert not waiting.is_done(0.2)
            hold.end()
            assert waiting.is_done()
            assert waiting.rows == [(1,)]


@pytest.mark.parametrize("touch", ["SELECT id FROM patients", "INSERT INTO visits VALUES (7, 1)"])
def test_one_that_has_is_waited_for_and_goes_on(site: Site, touch: str) -> None:
    with psycopg.connect(site.proxy_dsn) as conn:
        conn.execute(touch.encode())
        with held(site) as hold:
            assert not hold.is_confirmed(0.5)
            assert conn.execute("SELECT id FROM patients").fetchall() == [(1,)]
            conn.rollback()
            assert hold.is_confirmed()


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_one_that_keeps_its_first_snapshot_is_waited_for(site: Site, level: psycopg.IsolationLevel) -> None:
    with psycopg.connect(site.proxy_dsn) as conn:
        conn.isolation_level = level
        conn.execute("SELECT count(*) FROM notes").fetchall()
        with held(site) as hold:
            assert not hold.is_confirmed(0.5)
            assert conn.execute("SELECT id FROM patients").fetchall() == [(1,)]
            conn.rollback()
            assert hold.is_confirmed()


@pytest.mark.parametrize("setting", ["default_transaction_isolation", "in the statement"])
def test_one_that_would_begin_waits_as_a_whole(site: Site, setting: str) -> None:
    options = f"-c {setting}=serializable" if setting.startswith("default") else ""
    begin = "BEGIN" if options else "BEGIN ISOLATION LEVEL REPEATABLE READ"
    with psycopg.connect(site.proxy_dsn, autocommit=True, options=options) as conn, held(site) as hold:
        assert hold.is_confirmed()
        waiting = Later(conn, begin)
        assert not waiting.is_done(0.2)
        hold.end()
        assert waiting.is_done()


def test_in_a_pipeline(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn) as conn, held(site) as hold:
        assert hold.is_confirmed()
        timer = threading.Timer(0.3, hold.end)
        timer.start()
        began = time.monotonic()
        with conn.pipeline():
            notes, patients = conn.execute("SELECT count(*) FROM notes"), conn.execute("SELECT id FROM patients")
            assert (notes.fetchall(), patients.fetchall()) == ([(0,)], [(1,)])
        assert time.monotonic() - began > 0.2
        timer.join()


def test_what_a_client_has_left_behind_is_waited_for(site: Site) -> None:
    """The server goes on with what it was sent, one after the other; the proxy has no session any more."""
    with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as locking:
        locking.execute("SELECT pg_advisory_lock(77)")
        with psycopg.connect(site.proxy_dsn) as conn, socket.socket(fileno=os.dup(conn.fileno())) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is reset, as by a crash
            client.sendall(query("SELECT pg_advisory_lock(77)") + query("INSERT INTO notes VALUES (77, 'left')") + TERMINATE)
            until(lambda: site.server.waits_for_lock(conn.info.backend_pid), "it does not wait")
            conn.close()
        with held(site) as hold, psycopg.connect(site.proxy_dsn) as conn:
            assert not hold.is_confirmed(0.8)
            locking.execute("SELECT pg_advisory_unlock(77)")
            assert hold.is_confirmed()
            assert conn.execute("DELETE FROM notes RETURNING body").fetchall() == [("left",)]
            conn.commit()


def test_a_statement_that_waits_is_not_idle(postgres_server: PostgresServer, tmp_path: Path) -> None:
    settings = "limits:\n  idle_timeout: 4s\n"
    with open_site(postgres_server, tmp_path, policy=POLICY, ddl=DDL, settings=settings) as site, held(site) as hold:
        assert hold.is_confirmed()
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            waiting = Later(conn, "SELECT id FROM patients")
            assert not waiting.is_done(5.5)
            hold.end()
            assert waiting.is_done()
            assert (waiting.rows, waiting.error) == ([(1,)], None)


async def test_two_looks_at_once_follow_a_hold_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session's own look at the catalogue may come beside the one of each poll."""

    async def placed(*_: object) -> HoldRow:
        return HoldRow(1, 20.0, is_alive=True, names=("patients",))

    async def names_of(*_: object) -> frozenset[str]:
        await asyncio.sleep(0)
        return frozenset({"patients"})

    monkeypatch.setattr(held_statements, "current_hold", placed)
    monkeypatch.setattr(held_statements, "with_neighbours", names_of)
    fence, seen = Fence(), list[object]()
    unused = Mock(spec=[])
    statements = held_statements.HeldStatements("clinic", "phiproxy", Mock(), fence, unused, unused, unused, retry=60)
    statements.relays = lambda: seen.append(fence.holding) or ()  # type: ignore[func-returns-value]
    await asyncio.gather(statements.look(Mock()), statements.look(Mock()))
    assert seen == [fence.holding]
    assert statements.task is not None
    statements.task.cancel()


@pytest.mark.parametrize("setting", ["idle_in_transaction_session_timeout", "idle_session_timeout"])
def test_no_session_is_ended_for_waiting(site: Site, setting: str) -> None:
    """To the server it is idle for longer than it may be."""
    with held(site) as hold:
        assert hold.is_confirmed()
        conn = psycopg.connect(site.proxy_dsn, autocommit=True, options=f"-c {setting}=3s")
        if "transaction" in setting:
            conn.execute("BEGIN")
        waiting = Later(conn, "SELECT count(*) FROM patients")
        assert not waiting.is_done(4.0)
    assert waiting.is_done()
    assert waiting.error is None
    assert waiting.rows == [(1,)]
    conn.close()


def test_neither_lock_timeout_nor_statement_timeout_counts(site: Site) -> None:
    with psycopg.connect(site.proxy_dsn, options="-c lock_timeout=2s -c statement_timeout=2s") as conn:
        with held(site) as hold:
            assert hold.is_confirmed()
            waiting = Later(conn, "SELECT count(*) FROM patients")
            assert not waiting.is_done(3.0)
        assert waiting.is_done()
        assert waiting.error is None


def test_a_hold_is_given_up_before_a_transaction_timeout(site: Site) -> None:
    """Of PostgreSQL 17 and later: that goes on while a transaction waits, and cannot be set back."""
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        if conn.info.server_version < 170000:
            pytest.skip("this server has no transaction_timeout")
        conn.execute("SET transaction_timeout TO '6s'")
        with held(site) as hold:
            assert hold.is_confirmed()
            conn.execute("BEGIN")
            waiting = Later(conn, "SELECT count(*) FROM patients")
            assert not waiting.is_done(0.5)
            assert waiting.is_done()
        assert waiting.error is None, "before the server has ended it"
        assert waiting.rows == [(1,)]
        conn.execute("COMMIT")
