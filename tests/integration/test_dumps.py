"""pg_dump and what it writes: through the proxy both ways it is plaintext, past the proxy both ways it is what is stored."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from pglast.parser import split

from tests.harness.clinic import POLICY
from tests.harness.proxy import environment
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import Pair, pair
from tests.integration.test_migrations import TABLES


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    directory = tmp_path_factory.mktemp("dumps")
    with open_site(postgres_server, directory, policy=POLICY, ddl="SELECT", planned=True) as site:
        yield site


def dumped(site: Site, dsn: str) -> str:
    """Return what pg_dump writes of the two tables."""
    bindir = site.server.bindir
    program = shutil.which("pg_dump", path=str(bindir) if bindir else None) or shutil.which("pg_dump")
    if program is None:
        pytest.skip("this machine has no pg_dump")
    command = [program, "--inserts", "--no-owner", "--no-privileges", "-t", "patients", "-t", "visits", "-d", dsn]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def restored(dsn: str, dump: str) -> None:
    """Run a dump as psql does: statement by statement, without its own meta-commands."""
    text = "\n".join(line for line in dump.split("\n") if not line.startswith("\\"))
    with psycopg.connect(dsn, autocommit=True) as conn:
        for statement in split(text):
            conn.execute(statement.encode())


def filled(both: Pair) -> None:
    for statement in TABLES:
        both.run(statement)
    for number in (1, 2):
        values = (both.oracle.plant("mrn"), both.oracle.plant("ssn"), both.oracle.plant("name"))
        both.run("INSERT INTO patients (mrn, ssn, full_name, notes) VALUES (%s, %s, %s, '')", values)
        both.run("INSERT INTO visits VALUES (%s, %s, %s, NULL)", (number, number, values[0]))


@pytest.mark.parametrize("through", [True, False])
def test_round_trips(site: Site, through: bool) -> None:
    with pair(site) as both:
        filled(both)
        dsn = site.proxy_dsn if through else site.sealed_dsn
        dump = dumped(site, dsn)
        assert both.oracle.contains(dump.encode()) is through
        with site.server.connect(site.sealed) as conn:
            before = conn.execute("SELECT mrn FROM patients ORDER BY id").fetchall()
            conn.execute("DROP TABLE patients, visits")
        both.sides[1].execute("SELECT 1")
        restored(dsn, dump)
        both.run("SELECT p.*, v.* FROM patients p JOIN visits v ON v.mrn = p.mrn")
        both.run("INSERT INTO patients (ssn, mrn) SELECT ssn, mrn FROM patients")
        with site.server.connect(site.sealed) as conn:
            after = conn.execute("SELECT mrn FROM patients ORDER BY id").fetchall()
        assert (before == after) is not through
        site.cli("check")
