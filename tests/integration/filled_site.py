"""A site of a test's own whose tables are full, whose owner the service role may act as, and an application at work on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from tests.harness.at_work import PAUSE, AtWork
from tests.harness.oracle import LeakOracle
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until

POLICY = """\
database: {database}
deployment: clinic-test
domains:
  mrn: {type: varchar(12), indexes: [value], distinct: 1000000}
tables:
  public.patients:
    subject: mrn
    columns:
      mrn:  {domain: mrn}
      ssn:  {type: text, indexes: [ssn], distinct: 100000000}
      note: {type: text, pad: 64}
  public.visits:
    subject: id
    columns:
      mrn:  {domain: mrn}
"""
DDL = """\
CREATE TABLE patients (id int PRIMARY KEY, mrn varchar(12), ssn text UNIQUE, note text, n int DEFAULT 0);
CREATE TABLE visits (id int, part int, mrn varchar(12), PRIMARY KEY (part, id)) PARTITION BY LIST (part);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES IN (1);
CREATE TABLE visits_2 PARTITION OF visits DEFAULT;
"""
PERSONS = 200
ROWS = 3 * PERSONS
ATTACHED = "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits ORDER BY 1"


@contextmanager
def filled_site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    """Filled twins; the service role may do what the tables' owner may. At the end nothing was sent upstream in clear."""
    with open_site(postgres_server, tmp_path, policy=POLICY, ddl=DDL) as site:
        oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
        secret = oracle.plant()
        with site.server.connect() as conn:
            conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(site.role), sql.Identifier(site.service)))
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn) as conn:
                with conn.cursor().copy("COPY patients (id, mrn, ssn, note) FROM STDIN") as copy:
                    for n in range(1, ROWS + 1):
                        copy.write_row((n, f"M{n % PERSONS}", f"9{n:08}", secret if n % 3 else None))
                with conn.cursor().copy("COPY visits (id, part, mrn) FROM STDIN") as copy:
                    for n in range(1, ROWS + 1):
                        copy.write_row((n, n % 3, f"M{n % PERSONS}"))
        yield site
        same(site)
        oracle.assert_no_leak()


def same(site: Site) -> None:
    """Both twins hold the same, read through the proxy."""
    for query in ("SELECT id, mrn, ssn, note, n FROM patients ORDER BY id", "SELECT id, part, mrn FROM visits ORDER BY id"):
        with psycopg.connect(site.plain_dsn) as plain, psycopg.connect(site.proxy_dsn) as proxied:
            assert proxied.execute(query.encode()).fetchall() == plain.execute(query.encode()).fetchall()


def raw(site: Site, query: str) -> list[tuple[object, ...]]:
    with site.server.connect(site.sealed) as conn:
        return conn.execute(query.encode()).fetchall()


def indexes(site: Site) -> dict[str, str]:
    rows = raw(site, "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    return {str(name): str(text) for name, text in rows}


def slots(site: Site, identity: str) -> list[tuple[object, ...]]:
    query = "SELECT slot, s.expression, s.generation, s.state FROM phiproxy.slot s JOIN phiproxy.identity USING (number)"
    return raw(site, f"{query} WHERE identity = '{identity}' ORDER BY 1")


def findings(site: Site, *topics: str) -> list[tuple[str, str]]:
    done = run_cli("check", "--json", "-c", str(site.config), env=site.env)
    return [(f["level"], f["text"]) for f in json.loads(done.stdout) if f["topic"] in topics or f["level"] == "error"]


class Application(AtWork):
    """Searches, writes, upserts and duplicates without end, through the proxy; what goes wrong is kept.

    What it stores has numbers from ``first`` on, so that one can follow another.
    """

    def __init__(self, site: Site, first: int = 10_000) -> None:
        self.first = first
        self.errors: list[str] = []
        self.done = 0
        self.new: list[int] = []
        super().__init__(*(partial(self._run, site.proxy_dsn, lane) for lane in range(2)))

    def _run(self, dsn: str, lane: int) -> None:
        number = lane
        try:
            with psycopg.connect(dsn, autocommit=True, prepare_threshold=1) as conn:
                while not self._stop.is_set():
                    number += 2
                    known = 1 + number % ROWS
                    rows = conn.execute("SELECT id FROM patients WHERE ssn = %s", (f"9{known:08}",)).fetchall()
                    self._expect(rows == [(known,)], f"a search for {known}: {rows}")
                    joined = conn.execute(
                        "SELECT count(*) FROM patients p JOIN visits v ON v.mrn = p.mrn WHERE p.id = %s", (known,)
                    ).fetchone()
                    self._expect(joined == (3,), f"a join of {known}: {joined}")
                    conn.execute("UPDATE patients SET n = 0 WHERE id = %s", (known,))  # the envelope moves as it is
                    fresh = self.first + number
                    conn.execute("INSERT INTO patients (id, ssn) VALUES (%s, %s)", (fresh, f"8{fresh:08}"))
                    self.new.append(fresh)
                    try:
                        conn.execute("INSERT INTO patients (id, ssn) VALUES (%s, %s)", (-fresh, f"9{known:08}"))
                        self._expect(False, f"a duplicate of {known} was stored")
                    except psycopg.errors.UniqueViolation:
                        pass
                    conn.execute(
                        "INSERT INTO patients (id, ssn) VALUES (%s, %s) ON CONFLICT (ssn) DO UPDATE SET n = 0",
                        (-fresh, f"9{known:08}"),
                    )
                    self.done += 1
                    self._stop.wait(PAUSE)
        except psycopg.Error as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def _expect(self, held: bool, what: str) -> None:
        if not held:
            self.errors.append(what)

    def __exit__(self, *of_a_failure: object) -> None:
        if not any(of_a_failure):
            until(lambda: self.done > 5 or bool(self.errors), "it has done nothing")
        super().__exit__(*of_a_failure)

    def settle(self, site: Site) -> None:
        """It has done something, all was right, and the plain twin gets what it has written."""
        assert not self.errors, self.errors
        assert self.done > 5, self.done
        with psycopg.connect(site.plain_dsn) as conn:
            for fresh in self.new:
                conn.execute("INSERT INTO patients (id, ssn) VALUES (%s, %s)", (fresh, f"8{fresh:08}"))
