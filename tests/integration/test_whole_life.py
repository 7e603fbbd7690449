"""The whole life of tables of every kind, written to all the while, on the PostgreSQL of the run and on that of the wheel.

Encrypted (the job is killed once), an index key rotated, recrypted and decrypted: composite keys, partitions of another order of
columns, children, row-level security, triggers, foreign keys over a domain, views that compute, a materialized one, and changes
that are sent to a subscriber.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.harness.at_work import AtWork
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.harness.wheel_server import wheel_server
from tests.integration.filled_site import findings
from tests.integration.job_at_work import done_despite, killed
from tests.integration.test_encrypt import filled_site, raw_columns, rows_of, same_rows

pytestmark = pytest.mark.timeout(1200)  # each is of several jobs, one after the other

SSN = "  public.{}:\n    columns:\n      ssn: {{type: text, indexes: [ssn], accept_leakage: test}}\n"
POLICY = (
    "database: {database}\ndeployment: life-test\n"
    "domains:\n  mrn: {type: varchar(12), indexes: [value], accept_leakage: test}\ntables:\n"
    + "".join(SSN.format(name) for name in ("parted", "family", "guarded", "watched"))
    + "  public.patients:\n    columns:\n      mrn: {domain: mrn}\n      name: {type: text}\n"
    + "  public.visits:\n    columns:\n      patient: {domain: mrn}\n"
)
TABLES = """\
CREATE TABLE parted (region text, id int, ssn text, city text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
CREATE TABLE parted_b (city text, ssn text, id int NOT NULL, region text NOT NULL);
ALTER TABLE parted ATTACH PARTITION parted_b FOR VALUES IN ('b');
CREATE TABLE family (id int PRIMARY KEY, ssn text NOT NULL DEFAULT 'nobody' CHECK (ssn <> ''));
CREATE TABLE child (more text, PRIMARY KEY (id)) INHERITS (family);
CREATE TABLE guarded (id int, kind text, ssn text, PRIMARY KEY (kind, id));
CREATE TABLE watched (id int PRIMARY KEY, ssn text UNIQUE, n int DEFAULT 0);
CREATE FUNCTION noticed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := NEW.n + 1; RETURN NEW; END $$;
CREATE TRIGGER noticed BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION noticed();
CREATE TABLE patients (id int, mrn varchar(12) PRIMARY KEY, name text);
CREATE TABLE visits (id int PRIMARY KEY, patient varchar(12) REFERENCES patients ON DELETE CASCADE);
CREATE VIEW people AS SELECT id, ssn FROM family WHERE id > 5;
CREATE VIEW loud AS SELECT id, upper(name) AS name, mrn FROM patients;
CREATE MATERIALIZED VIEW kept AS SELECT id, ssn FROM family;
CREATE UNIQUE INDEX kept_id ON kept (id);
INSERT INTO parted SELECT CASE n % 2 WHEN 0 THEN 'a' ELSE 'b' END, n, 'secret-' || n, 'c' || n FROM generate_series(1, {rows}) n;
INSERT INTO family SELECT n, 'secret-' || n FROM generate_series(1, {rows}) n;
INSERT INTO child SELECT n + 5000, 'secret-' || n, 'more' FROM generate_series(1, {rows}) n;
INSERT INTO guarded SELECT n, 'x', 'secret-' || n FROM generate_series(1, {rows}) n;
INSERT INTO watched SELECT n, 'secret-' || n FROM generate_series(1, {rows}) n;
INSERT INTO patients SELECT n, 'M' || n, 'Ann ' || n FROM generate_series(1, {rows}) n;
INSERT INTO visits SELECT n, 'M' || n FROM generate_series(1, {rows}) n;
"""
ROWS = 250
READS = [
    "SELECT region, id, ssn, city FROM parted ORDER BY id",
    "SELECT id, ssn FROM parted_b ORDER BY id",
    "SELECT id, ssn FROM family ORDER BY id",
    "SELECT id, ssn, more FROM child ORDER BY id",
    "SELECT id, kind, ssn FROM guarded ORDER BY id",
    "SELECT id, ssn, n FROM watched ORDER BY id",
    "SELECT id, mrn, name FROM patients ORDER BY id",
    "SELECT id, patient FROM visits ORDER BY id",
    "SELECT id, ssn FROM people ORDER BY id",
    "SELECT id, name, mrn FROM loud WHERE name > 'ANN 3' ORDER BY id",
    "SELECT id, ssn FROM kept ORDER BY id",
    "SELECT id FROM parted WHERE ssn = 'secret-10'",
    "SELECT id FROM family WHERE ssn = 'secret-10' ORDER BY id",
    "SELECT id FROM child WHERE ssn = 'secret-110'",
    "SELECT id FROM guarded WHERE ssn = 'secret-110'",
    "SELECT id FROM watched WHERE ssn = 'secret-110'",
    "SELECT v.id FROM visits v JOIN patients p ON v.patient = p.mrn WHERE p.mrn = 'M12'",
]
WRITES = [
    "INSERT INTO parted (region, id, ssn, city) VALUES ('b', {new}, 'new-{new}', 'x')",
    "UPDATE parted SET region = 'a', ssn = 'moved-{new}' WHERE id = {new}",
    "UPDATE family SET ssn = 'new-{new}' WHERE id = {old}",
    "DELETE FROM child WHERE id = 5000 + {old}",
    "INSERT INTO child (id, ssn, more) VALUES (5000 + {old}, 'new-{new}', 'again')",
    "UPDATE guarded SET ssn = 'new-{new}' WHERE id = {old}",
    "UPDATE watched SET ssn = 'new-{new}' WHERE ssn = 'secret-{old}'",
    "INSERT INTO patients (id, mrn, name) VALUES ({new}, 'N{new}', 'Ben {new}')",
    "INSERT INTO visits (id, patient) VALUES ({new}, 'N{new}')",
    "DELETE FROM patients WHERE mrn = 'M{old}'",
]


class Writer(AtWork):
    """Writes the same to both twins, one statement after the other, and reads what it has written; no statement may fail."""

    def __init__(self, site: Site, first: int) -> None:
        self.number = first
        self.errors: list[str] = []
        self._site = site
        super().__init__(self._run)

    def _run(self) -> None:
        site = self._site
        try:
            with (
                psycopg.connect(site.plain_dsn, autocommit=True) as plain,
                psycopg.connect(site.proxy_dsn, autocommit=True) as proxied,
            ):
                while not self._stop.is_set():
                    self.number += 1
                    for text in WRITES:
                        statement = text.format(new=10_000 + self.number, old=1 + self.number % ROWS).encode()
                        wanted, found = plain.execute(statement).rowcount, proxied.execute(statement).rowcount
                        if found != wanted:
                            self.errors.append(f"{text}: {found} rows instead of {wanted}")
                    shown = proxied.execute("SELECT name FROM loud WHERE mrn = %s", (f"N{10_000 + self.number}",)).fetchall()
                    if shown != [(f"BEN {10_000 + self.number}",)]:
                        self.errors.append(f"after {self.number}: {shown}")
                    self._stop.wait(0.5)  # to be at work, not to take the jobs' time
        except psycopg.Error as error:
            self.errors.append(repr(error))


@contextmanager
def written(site: Site, first: int) -> Iterator[None]:
    """Have the tables be written to; at the end both twins hold the same."""
    with Writer(site, first) as writer:
        yield
        until(lambda: writer.number > first + 3 or bool(writer.errors), "nothing was written")
    assert not writer.errors
    for dsn in (site.plain_dsn, site.proxy_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("REFRESH MATERIALIZED VIEW kept")
    same_rows(site, READS)


@pytest.fixture(scope="module", params=["of the run", "of the wheel"])
def server(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    if request.param == "of the run":
        if "pginstall" in (postgres_server.bindir or Path()).parts:
            pytest.skip("it is the wheel's: there the same is done, and changes are sent too")
        yield postgres_server
        return
    with wheel_server(hostile_log=True, settings={"wal_level": "logical"}) as newest:
        yield newest


@contextmanager
def subscribed(site: Site) -> Iterator[str]:
    """A subscriber to a table's changes, where the server sends such: another database of it, which has a slot of its own."""
    with site.server.connect(site.sealed) as conn:
        if conn.execute("SHOW wal_level").fetchone() != ("logical",):
            yield ""
            return
        copy, role = site.server.create_database(), sql.Identifier(site.role)
        conn.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(site.sealed), role))
        conn.execute(sql.SQL("SET ROLE {}").format(role))
        conn.execute("CREATE PUBLICATION p FOR TABLE visits (id, patient)")
        conn.execute("RESET ROLE; SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    server = site.server
    address = f"host={server.host} port={server.port} user={server.superuser} password={server.password} dbname={site.sealed}"
    with server.connect(copy) as conn:
        conn.execute("CREATE TABLE visits (id int PRIMARY KEY, patient text)")
        create = sql.SQL("CREATE SUBSCRIPTION s CONNECTION {} PUBLICATION p WITH (create_slot = false, slot_name = 's')")
        conn.execute(create.format(sql.Literal(address)))
        try:
            yield copy
        finally:
            conn.execute("DROP SUBSCRIPTION s")
    server.drop_database(copy)


def arrives(site: Site, copy: str, number: int) -> str:
    """Write a row, and return what the subscriber has of its protected column when it has it."""
    with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO patients (id, mrn) VALUES (%s, %s)", (number, f"S{number}"))
        conn.execute("INSERT INTO visits (id, patient) VALUES (%s, %s)", (number, f"S{number}"))
    with psycopg.connect(site.plain_dsn, autocommit=True) as conn:
        conn.execute("INSERT INTO patients (id, mrn) VALUES (%s, %s)", (number, f"S{number}"))
        conn.execute("INSERT INTO visits (id, patient) VALUES (%s, %s)", (number, f"S{number}"))
    there: list[str] = []
    with site.server.connect(copy) as conn:

        def asked() -> bool:
            rows = conn.execute("SELECT patient FROM visits WHERE id = %s", (number,)).fetchall()
            there[:] = [str(patient) for (patient,) in rows]
            return bool(there)

        until(asked, "the subscriber has the row")
    return there[0]


def test_a_whole_life(server: PostgresServer, tmp_path: Path, engine_directory: Path) -> None:
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    with filled_site(server, tmp_path, policy=POLICY, ddl=TABLES, rows=ROWS, settings=settings) as site, subscribed(site) as copy:
        for dsn in (site.plain_dsn, site.sealed_dsn):
            with psycopg.connect(dsn, autocommit=True) as owner:
                owner.execute("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON guarded USING (kind = 'x')")
        with written(site, 0):
            assert done_despite(site, ["encrypt", "--rate", "2000"], killed, 1, random.Random(16), pause=(0.3, 0.8)) == 1
        assert findings(site) == []
        for table in ("parted_a", "parted_b", "family", "child", "guarded", "watched"):
            stored = rows_of(server.dsn(site.sealed), f"SELECT DISTINCT substring(ssn, 1, 3) FROM {table}")
            assert stored == [(b"\xf5P\x01",)], table
        planned = rows_of(server.dsn(site.sealed), "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'parted%'")
        assert sum("substring" in str(text) for (text,) in planned) == 3
        if copy:
            assert arrives(site, copy, 20_000).startswith("\\xf55001")
        with written(site, 1000):
            site.cli("keys", "rotate", "--index", "public.parted.ssn")
            site.cli("keys", "rotate")
            site.cli("recrypt")
        with written(site, 2000):
            tables = [f"public.{name}" for name in ("parted", "family", "guarded", "watched", "patients", "visits")]
            site.cli("decrypt", *tables, "--reorder")
        for table in ("parted", "parted_b", "family", "child", "guarded", "watched", "patients", "visits"):
            assert not [name for name in raw_columns(site, table) if name.startswith("phi_")]
        assert rows_of(server.dsn(site.sealed), "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%phi%'") == [(0,)]
        with psycopg.connect(site.sealed_dsn) as opened, psycopg.connect(site.plain_dsn) as plain:
            for query in READS:
                assert opened.execute(query.encode()).fetchall() == plain.execute(query.encode()).fetchall(), query
        if copy:
            assert arrives(site, copy, 20_001) == "S20001"
