"""pg_dump and what it writes: through the proxy both ways it is plaintext, past the proxy both ways it is what is stored.

As INSERTs, as COPY into psql, and as an archive for pg_restore.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

import psycopg
import pytest
from pglast.parser import split

from tests.harness.clinic import POLICY
from tests.harness.proxy import environment
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.migrating import Pair, pair
from tests.integration.test_migrations import TABLES

Restore = tuple[bytes, Callable[[], object]]


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose policy names tables that nobody has made yet."""
    directory = tmp_path_factory.mktemp("dumps")
    with open_site(postgres_server, directory, policy=POLICY, ddl="SELECT", planned=True) as site:
        yield site


def program(site: Site, name: str) -> str:
    """Return a program of PostgreSQL's."""
    bindir = site.server.bindir
    found = shutil.which(name, path=str(bindir) if bindir else None) or shutil.which(name)
    if found is None:
        pytest.skip(f"this machine has no {name}")
    return found


def ran(*command: str, given: bytes = b"") -> bytes:
    """Run a program that must not fail, and return its output."""
    done = subprocess.run(command, env=environment(), capture_output=True, input=given, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def dumped(site: Site, dsn: str, *options: str) -> bytes:
    """Return what pg_dump writes of the two tables."""
    common = ("--no-owner", "--no-privileges", "-t", "patients", "-t", "visits", "-d", dsn)
    return ran(program(site, "pg_dump"), *options, *common)


def as_inserts(site: Site, dsn: str) -> Restore:
    """Run a dump statement by statement, without psql's own meta-commands."""
    dump = dumped(site, dsn, "--inserts")
    text = "\n".join(line for line in dump.decode().split("\n") if not line.startswith("\\"))

    def restore() -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            for statement in split(text):
                conn.execute(statement.encode())

    return dump, restore


def as_copy(site: Site, dsn: str) -> Restore:
    """Give a dump with COPY to psql."""
    dump = dumped(site, dsn)
    assert b"COPY public.patients" in dump
    return dump, lambda: ran(program(site, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, given=dump)


def as_archive(site: Site, dsn: str) -> Restore:
    """Give an archive, not compressed, to pg_restore."""
    dump = dumped(site, dsn, "-Fc", "-Z0")
    return dump, lambda: ran(program(site, "pg_restore"), "--exit-on-error", "--no-owner", "-d", dsn, given=dump)


def filled(both: Pair, *, key: bool) -> None:
    for statement in TABLES:
        both.run(statement)
    if key:
        both.run("ALTER TABLE visits ADD FOREIGN KEY (mrn) REFERENCES patients (mrn)")
    for number in (1, 2):
        values = (both.oracle.plant("mrn"), both.oracle.plant("ssn"), both.oracle.plant("name"))
        both.run("INSERT INTO patients (mrn, ssn, full_name, notes) VALUES (%s, %s, %s, '')", values)
        both.run("INSERT INTO visits VALUES (%s, %s, %s, NULL)", (number, number, values[0]))


@pytest.mark.parametrize("way", [as_inserts, as_copy, as_archive])
@pytest.mark.parametrize("through", [True, False])
def test_round_trips(site: Site, through: bool, way: Callable[[Site, str], Restore]) -> None:
    with pair(site) as both:
        filled(both, key=way is not as_inserts)  # as INSERTs, pg_dump gives a DEFAULT to hidden columns too
        dsn = site.proxy_dsn if through else site.sealed_dsn
        dump, restore = way(site, dsn)
        assert both.oracle.contains(dump) is through
        with site.server.connect(site.sealed) as conn:
            before = conn.execute("SELECT mrn FROM patients ORDER BY id").fetchall()
            conn.execute("DROP TABLE patients, visits")
        both.sides[1].execute("SELECT 1")
        restore()
        both.run("SELECT p.*, v.* FROM patients p JOIN visits v ON v.mrn = p.mrn")
        both.run("INSERT INTO patients (ssn, mrn) SELECT ssn, mrn FROM patients")
        if way is not as_inserts:
            both.run("INSERT INTO visits VALUES (3, 1, %s, NULL)", (both.oracle.plant("mrn"),))
        with site.server.connect(site.sealed) as conn:
            after = conn.execute("SELECT mrn FROM patients ORDER BY id").fetchall()
        assert (before == after) is not through
        site.cli("check")
