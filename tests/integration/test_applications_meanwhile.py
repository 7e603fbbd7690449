"""The life of a table of 50 000 rows with applications at work on it: it is observed, encrypted, used, reindexed, recrypted, taken
from under a compromised key, and decrypted.

All the while, those of tests/applications work through the proxy and on a twin in plaintext, and somebody changes 20 000 rows a
minute past the proxy, values that are to be sealed too as long as they are plain. No statement fails, no write is lost, and every
value is what it is in the twin. How fast it goes, and what waits how long, is printed: ``pytest -s``.

With fewer rows all of it once more on the PostgreSQL of the wheel, where that is another one than the run's.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.applications.at_work import AFTER
from tests.applications.both import AtWork, make_tables, rows_of
from tests.harness import at_work
from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.harness.waiting import until
from tests.harness.wheel_server import wheel_server
from tests.integration.test_ehr import POLICY

ROWS = int(os.environ.get("PHIPROXY_ROWS", "50000"))
AGAIN = int(os.environ.get("PHIPROXY_ROWS", "5000"))
"""So many on the wheel's server, if ``ROWS`` were on the run's."""
PERSONS = 250
"""So many of them are the applications'."""
PLANTED = PERSONS + 1
"""This one's notes are looked for wherever they must not be."""
PAUSE = 0.25
"""Seconds between the steps of an application: it is there to be at work, not to take the job's time."""
PAST = 20_000 / 60
"""Changes per second past the proxy, where the machine has time for them."""
PROTECTED = b"UPDATE patients SET phone = %s, notes = %s WHERE id = %s"
OTHERS = b"UPDATE patients SET active = %s WHERE id = %s"


class Past(at_work.AtWork):
    """Changes rows past the proxy, and then in the twin, that no application comes to; no statement of it may fail.

    Protected columns it changes where they are plain: the server takes plaintext of no others, as it tries now and then.
    """

    AGAIN = 200
    MANY = 30_000
    """After so many in one phase a tenth of the rate is enough: a job that gets next to nothing of a machine has to come to its
    end."""
    patience = None

    def __init__(self, site: Site, phase: str, rows: int) -> None:
        self._site = site
        self._phase = phase
        self._rows = rows
        self.done = self.plain = 0
        self.seconds = self.slowest = 0.0
        self.errors: list[str] = []
        super().__init__(self._run)

    def _run(self) -> None:
        chance, began, refused = random.Random(self._phase), time.monotonic(), 0
        dsns = (self._site.sealed_dsn, self._site.plain_dsn)
        try:
            with psycopg.connect(dsns[0], autocommit=True) as conn, psycopg.connect(dsns[1], autocommit=True) as twin:
                while not self._stop.is_set():
                    key, value = uuid.UUID(int=chance.randrange(PLANTED + 1, self._rows + 1)), f"past {chance.randrange(10**9)}"
                    plain = self.done >= refused
                    statement, values = OTHERS, [chance.random() < 0.5, key]
                    if plain:
                        statement, values = PROTECTED, [value, value, key]
                    at = time.monotonic()
                    try:
                        assert conn.execute(statement, values).rowcount == 1
                    except (psycopg.errors.DatatypeMismatch, psycopg.errors.CheckViolation):
                        assert plain
                        refused = self.done + self.AGAIN
                        continue
                    self.slowest = max(self.slowest, time.monotonic() - at)
                    twin.execute(statement, values)
                    self.done, self.plain = self.done + 1, self.plain + plain
                    self.seconds = time.monotonic() - began
                    self._stop.wait(max(0.0 if self.done < self.MANY else 10 / PAST, self.done / PAST - self.seconds))
        except (psycopg.Error, AssertionError) as error:
            self.errors.append(f"{type(error).__name__}: {error}")


@pytest.fixture(params=["of the run", "of the wheel"])
def server(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[tuple[PostgresServer, int]]:
    """A server, and how many rows there are to be on it."""
    wheels = "pginstall" in (postgres_server.bindir or Path()).parts
    if request.param == "of the run":
        yield postgres_server, ROWS
        return
    if wheels:
        pytest.skip("the run's server is the wheel's")
    with wheel_server(hostile_log=True) as newest:
        yield newest, AGAIN


@contextmanager
def clinic(server: PostgresServer, directory: Path, rows: int) -> Iterator[Site]:
    """Both applications' tables, full of plaintext, and the proxy before them."""
    with open_site(server, directory, policy=POLICY, ddl="SELECT", planned=True, serve=False,
                   settings="compute: {engine: embedded}\n") as site:  # fmt: skip
        for dsn in (site.plain_dsn, site.sealed_dsn):
            make_tables(dsn, PERSONS, rows)
        with server.connect() as conn:
            role, service = sql.Identifier(site.role), sql.Identifier(site.service)
            conn.execute(sql.SQL("GRANT {} TO {}").format(role, service))
            conn.execute(sql.SQL("GRANT SET ON PARAMETER session_replication_role TO {}").format(service))
        try:
            columns = [f"public.{t}.{c}" for t, cs in _columns(site).items() for c in cs]
            site.cli("keys", "init", *(argument for column in columns for argument in ("--clear", column)))
            site.proxy.start()
            yield site
        finally:
            with server.connect() as conn:
                conn.execute(sql.SQL("REVOKE SET ON PARAMETER session_replication_role FROM {}").format(service))


def _columns(site: Site) -> dict[str, list[str]]:
    """Return the protected columns by table."""
    tables: dict[str, list[str]] = {}
    text = (site.directory / "policy.yaml").read_text()
    for line in text.splitlines():
        if line.startswith("  public."):
            tables[line.strip().removeprefix("public.").rstrip(":")] = []
        elif line.startswith("      ") and line[6] != " " and tables:
            tables[list(tables)[-1]].append(line.split(":")[0].strip())
    return tables


@pytest.mark.timeout(3000)
def test_the_applications_notice_nothing(server: tuple[PostgresServer, int], tmp_path: Path) -> None:
    with clinic(server[0], tmp_path, server[1]) as site:
        phases: dict[str, list[list[str]]] = {
            "observe": [],
            "encrypt": [["encrypt"]],
            "use": [],
            "reindex": [["keys", "rotate", "--index", "public.patients.ssn"]],
            "recrypt": [["keys", "rotate"], ["recrypt"]],
            "respond": [["respond", "--key", "{key}", "--reason", "a test", "--report", str(site.directory)]],
            "decrypt": [["decrypt", *(f"public.{table}" for table in _columns(site)), "--reorder"]],
        }
        oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
        with AtWork(site.proxy_dsn, site.plain_dsn, PERSONS, PAUSE) as applications:
            for phase, commands in phases.items():
                if phase == "use":
                    _plant(site, oracle)
                if phase == "decrypt":
                    oracle.assert_no_leak()
                site.tap.reset()  # it remembers every byte
                key = _most_used(site) if phase == "respond" else ""
                given = [[each.format(key=key) for each in command] for command in commands]
                _lived(site, phase, given, applications, server[1])
                if phase == "observe":
                    _observed(site)
                if key:
                    assert _under(site, key) == 0
                applications.go_on()


def _observed(site: Site) -> None:
    """What the applications have sent was analysed, works as it will when all is sealed, and no value of it was kept."""
    text = site.cli("observe", "report", "--json")
    statements = json.loads(text)["statements"]
    assert {column.split(".")[1] for each in statements for column in each["columns"]} >= {"patients", "ehr_patient"}
    assert [each for each in statements if each["answer"] == "refused"] == []
    assert "Miller" not in text


def _most_used(site: Site) -> str:
    """Return the data key that most values are under."""
    with site.server.connect(site.sealed) as conn:
        query = b"SELECT encode(substring(notes, 6, 4), 'hex') FROM patients GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
        return str(conn.execute(query).fetchall()[0][0])


def _under(site: Site, key: str) -> int:
    """Return how many rows have a value under a data key."""
    of_columns = {
        table: " OR ".join(f"encode(substring({column}, 6, 4), 'hex') = '{key}'" for column in columns)
        for table, columns in _columns(site).items()
    }
    query = " + ".join(f"(SELECT count(*) FROM {table} WHERE {any_of})" for table, any_of in of_columns.items())
    with site.server.connect(site.sealed) as conn:
        return int(str(conn.execute(f"SELECT {query}".encode()).fetchall()[0][0]))


def _plant(site: Site, oracle: LeakOracle) -> None:
    """Have somebody write through the proxy what the oracle looks for."""
    value = oracle.plant()
    for dsn in (site.proxy_dsn, site.plain_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("UPDATE patients SET notes = %s WHERE id = %s", (value, uuid.UUID(int=PLANTED)))


def _lived(site: Site, phase: str, commands: list[list[str]], applications: AtWork, rows: int) -> None:
    """Run the commands of a phase with everybody at work, and compare all with the twin when they rest."""
    began = time.monotonic()
    with Past(site, phase, rows) as past:
        said = "".join(site.cli(*command) for command in commands)
        enough = past.done + 2 * Past.AGAIN
        until(lambda: bool(past.errors) or past.done > enough, "nobody writes past the proxy")
        told = applications.rest()
    held = "".join(f", {each}" for each in re.findall(r"statements were held for \d+ ms", said))
    steps, slowest = sum(sum(each["done"].values()) for each in told), max(each["slowest"] for each in told)
    print(
        f"\n{phase}: {time.monotonic() - began:.0f} s{held}; {past.done * 60 / past.seconds:.0f} rows a minute past the proxy,"
        f" of {past.done} {past.plain} in plaintext, one waited {past.slowest:.2f} s;"
        f" {steps} steps of the applications, one took {slowest:.2f} s"
    )
    assert past.errors == [], phase
    assert (past.plain > 0) == (phase in ("observe", "encrypt", "decrypt")), f"{phase}: {past.plain} rows were written in plaintext"
    for each in told:
        assert each["wrong"] == [], f"{phase}: {each['wrong'][0]}"
        assert sum(each["done"].values()) > AFTER
    assert rows_of(site.proxy_dsn) == rows_of(site.plain_dsn), phase
    with site.server.connect(site.sealed) as conn:
        for table in ("patients", "ehr_patient"):
            query = f"SELECT count(*) FROM {table} WHERE left(notes::text, 8) <> '\\xf55001'"
            count = PERSONS if table == "ehr_patient" else rows
            found = int(str(conn.execute(query.encode()).fetchall()[0][0]))
            readable = phase in ("observe", "decrypt")
            assert found >= count if readable else found == 0, f"{phase}: {found} rows of {table} are readable"
