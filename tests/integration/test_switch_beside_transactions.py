"""Tables are switched while transactions are open that have nothing to do with them, or come to them later."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path

import psycopg

from tests.harness.at_work import PAUSE, AtWork
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.integration.job_at_work import gone_on_with
from tests.integration.test_encrypt import TABLES, filled_site, rows_of

MORE = """\
CREATE TABLE notes (id int PRIMARY KEY, n int DEFAULT 0);
CREATE TABLE visits (id int PRIMARY KEY, patient int REFERENCES patients, n int DEFAULT 0);
CREATE VIEW seen AS SELECT id, city FROM patients;
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM patients';
INSERT INTO notes SELECT n FROM generate_series(1, 100) n;
INSERT INTO visits SELECT n, n FROM generate_series(1, 100) n;
"""
LEVEL = psycopg.IsolationLevel


def test_open_transactions_over_other_tables_keep_no_table_from_being_switched(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """They are open for as long as the job asks, and what comes to the table in them then is right."""
    with filled_site(postgres_server, tmp_path, ddl=TABLES + MORE, rows=300) as site, psycopg.connect(site.proxy_dsn) as holder:
        holder.execute("UPDATE notes SET n = n + 1 WHERE id = 1")
        site.cli("encrypt")
        assert holder.execute("SELECT ssn FROM patients WHERE ssn = 'secret-7'").fetchall() == [("secret-7",)]
        holder.execute("UPDATE patients SET ssn = 'changed' WHERE id = 7")
        holder.commit()
        assert rows_of(site.proxy_dsn, "SELECT ssn FROM patients WHERE id = 7") == [("changed",)]
        assert rows_of(site.server.dsn(site.sealed), "SELECT substring(ssn, 1, 3) FROM patients WHERE id = 7") == [(b"\xf5P\x01",)]
        holder.execute("UPDATE notes SET n = n + 1 WHERE id = 1")
        site.cli("decrypt", "public.patients", "--reorder")
        assert holder.execute("SELECT ssn FROM patients WHERE id = 8").fetchall() == [("secret-8",)]
        holder.commit()
        with psycopg.connect(site.plain_dsn) as plain:
            plain.execute("UPDATE patients SET ssn = 'changed' WHERE id = 7")
        those_with_a_snapshot_of_before_are_waited_for(site, holder)


NAMED = "SELECT id, ssn, name, born, score, city FROM patients ORDER BY id"


def those_with_a_snapshot_of_before_are_waited_for(site: Site, holder: psycopg.Connection[tuple[object, ...]]) -> None:
    command = ["encrypt", "--attempts", "1"]
    for level in (LEVEL.REPEATABLE_READ, LEVEL.SERIALIZABLE):
        holder.isolation_level = level
        holder.execute("SELECT FROM notes")
        done = run_cli(*command, "-c", str(site.config), env=site.env)
        assert (done.returncode, "have transactions or statements that do not end" in done.stderr) == (1, True)
        assert holder.execute(NAMED.encode()).fetchall() == rows_of(site.plain_dsn, NAMED)
        holder.commit()
        command = ["jobs", "resume", "3"]
    gone_on_with(site, "3")
    assert rows_of(site.proxy_dsn, NAMED) == rows_of(site.plain_dsn, NAMED)


class Applications(AtWork):
    """Transactions of every kind, over the table that is switched, others, and both; ``failures`` are of statements and values."""

    patience = None

    def __init__(self, site: Site) -> None:
        self._site = site
        self.failures: list[str] = []
        self.done = [0] * 6
        self.slowest_beside = 0.0
        works = self._beside, self._later, self._repeatable, self._pipelined, self._referring, self._through_view
        super().__init__(*(partial(self._run, number, work) for number, work in enumerate(works)))

    def _run(self, number: int, work: object) -> None:
        chance = random.Random(number)
        with psycopg.connect(self._site.proxy_dsn) as conn:
            conn.prepare_threshold = 2
            while not self._stop.is_set():
                try:
                    work(conn, chance.randrange(1, 100))  # type: ignore[operator]
                    conn.commit()
                except psycopg.errors.SerializationFailure:
                    conn.rollback()  # rows were changed by others
                except psycopg.Error as error:
                    self.failures.append(f"{number}: {type(error).__name__}: {error}")
                    conn.rollback()
                except AssertionError as error:
                    self.failures.append(f"{number}: {error}")
                    conn.rollback()
                self.done[number] += 1
                self._stop.wait(PAUSE)

    def _beside(self, conn: psycopg.Connection[tuple[object, ...]], row: int) -> None:
        """Nothing of it waits."""
        began = time.monotonic()
        conn.execute("SELECT n FROM notes WHERE id = %s", (row,)).fetchall()
        conn.execute("UPDATE notes SET n = n + 1 WHERE id = %s", (row,))
        self.slowest_beside = max(self.slowest_beside, time.monotonic() - began)

    def _later(self, conn: psycopg.Connection[tuple[object, ...]], row: int) -> None:
        conn.execute("SELECT n FROM notes WHERE id = %s", (row,)).fetchall()
        time.sleep(0.05)
        found = conn.execute("SELECT id, ssn FROM patients WHERE id = %s", (row,)).fetchall()
        assert found == [(row, f"secret-{row}")], found
        conn.execute("UPDATE patients SET ssn = %s WHERE id = %s", (f"secret-{row}", row))

    def _repeatable(self, conn: psycopg.Connection[tuple[object, ...]], row: int) -> None:
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT n FROM notes WHERE id = %s", (row,)).fetchall()
        time.sleep(0.02)
        found = conn.execute("SELECT id, ssn FROM patients WHERE id = %s", (row,)).fetchall()
        assert found == [(row, f"secret-{row}")], found

    def _pipelined(self, conn: psycopg.Connection[tuple[object, ...]], row: int) -> None:
        with conn.pipeline():
            conn.execute("SELECT n FROM notes WHERE id = %s", (row,))
            rows = conn.execute("SELECT ssn FROM patients WHERE id = %s", (row,)).fetchall()
        assert rows == [(f"secret-{row}",)], rows

    def _referring(self, conn: psycopg.Connection[tuple[object, ...]], row: int) -> None:
        conn.execute("UPDATE visits SET patient = %s, n = n + 1 WHERE id = %s", (row, row))
        conn.execute("SELECT ssn FROM patients WHERE id = %s", (row,)).fetchall()

    def _through_view(self, conn: psycopg.Connection[tuple[object, ...]], row: int) -> None:
        conn.execute("SELECT n FROM notes WHERE id = %s", (row,)).fetchall()
        found = conn.execute("SELECT city FROM seen WHERE id = %s", (row,)).fetchall()
        assert found == [("Graz",)], found


def test_applications_go_on(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """No statement fails, none reads a sealed value, and what has nothing to do with the table does not wait."""
    with filled_site(postgres_server, tmp_path, ddl=TABLES + MORE, rows=800) as site:
        before = rows_of(site.proxy_dsn, NAMED)
        with Applications(site) as applications:
            until(lambda: min(applications.done) > 2 or bool(applications.failures), "they do not begin")
            site.cli("encrypt")
            between = min(applications.done)
            until(lambda: min(applications.done) > between + 2 or bool(applications.failures), "they do not go on")
            site.cli("decrypt", "public.patients", "--reorder")
            until(lambda: min(applications.done) > max(15, between + 5) or bool(applications.failures), "they do not go on")
        assert applications.failures == []
        assert applications.slowest_beside < 60.0  # with all else that the machine does
        assert rows_of(site.proxy_dsn, NAMED) == before
