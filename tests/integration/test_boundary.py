"""What is sealed stays protected under whatever name, and what is only named like it is not taken for it, through real proxies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import psycopg
import pytest
from psycopg import generators, sql, waiting
from psycopg.abc import PQGen
from psycopg.pq import PGresult
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow

from tests.harness.oracle import LeakOracle
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site

POLICY = """\
database: {database}
deployment: boundary-test
tables:
  public.patients:
    columns:
      ssn:   {type: text, indexes: [ssn], distinct: 100000000}
      notes: {type: text}
  ward.events:
    columns:
      text:  {type: text}
"""
NOTES = "      notes: {type: text}\n"
DDL = """\
CREATE TABLE patients (id int, ssn text, notes text);
CREATE SCHEMA ward;
CREATE TABLE ward.events (id int, text text) PARTITION BY RANGE (id);
CREATE TABLE ward.early PARTITION OF ward.events FOR VALUES FROM (0) TO (100);
"""
OVER_THEM = """\
CREATE VIEW shown AS SELECT id, ssn FROM patients;
CREATE FUNCTION made() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'CREATE TABLE ward.pat' || 'ients (ssn text)'; END $$;
"""
Connection = psycopg.Connection[TupleRow]
Refused = psycopg.errors.FeatureNotSupported


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that a test may change as it likes, with its proxy."""
    directory = tmp_path_factory.mktemp("boundary")
    with open_site(postgres_server, directory, policy=POLICY, ddl="SELECT", planned=True, serve=False) as made:
        with made.server.connect(made.sealed) as conn:
            names = {"db": sql.Identifier(made.sealed), "role": sql.Identifier(made.role), "service": sql.Identifier(made.service)}
            conn.execute(sql.SQL("GRANT CREATE ON DATABASE {db} TO {role}; SET ROLE {role}").format(**names))
            conn.execute(DDL)
            conn.execute(sql.SQL("GRANT USAGE ON SCHEMA ward TO {service}").format(**names))
            conn.execute(sql.SQL("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public, ward TO {service}").format(**names))
            conn.execute(made.cli("ddl"))
            conn.execute(OVER_THEM)
        made.proxy.start()
        yield made


@pytest.fixture
def oracle(site: Site) -> Iterator[LeakOracle]:
    """Where nothing that is planted may be found once the test is over."""
    found = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
    found.plant()
    yield found
    found.assert_no_leak()


def through(site: Site) -> Connection:
    return psycopg.connect(site.proxy_dsn, autocommit=True)


def behind(site: Site, statement: str) -> None:
    """Change the database as its superuser, past the proxy."""
    with site.server.connect(site.sealed) as conn:
        conn.execute(statement.encode())


def within_a_poll(refused: Callable[[], None]) -> None:
    """Wait until something is refused; nothing protected is in what is tried meanwhile."""
    end = time.monotonic() + 240
    while True:
        try:
            refused()
        except Refused:
            return
        assert time.monotonic() < end, "it stays open"
        time.sleep(0.05)


def uses(table: str, column: str, value: str) -> list[str]:
    """Statements that would send a value, or show what is stored, under these names."""
    return [
        f"INSERT INTO {table} VALUES (1, '{value}')",
        f"INSERT INTO {table} ({column}) SELECT '{value}'",
        f"UPDATE {table} SET {column} = '{value}'",
        f"SELECT * FROM {table} WHERE {column} = '{value}'",
        f"DELETE FROM {table} WHERE {column} = '{value}'",
        f"MERGE INTO {table} t USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET {column} = '{value}'",
        f"COPY (SELECT {column} FROM {table}) TO STDOUT",
        f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT '{value}'",
        f"CREATE TABLE copied AS SELECT {column}, '{value}' AS it FROM {table}",
        f"DO $$ BEGIN INSERT INTO {table} ({column}) VALUES ('{value}'); END $$",
    ]


def all_refused(conn: Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        for prepare in (None, True):
            with pytest.raises(Refused):
                conn.execute(statement.encode(), prepare=prepare)


def copies(conn: Connection, table: str, data: str) -> None:
    with conn.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
        copy.write(data)


RENAMED, HELD = "behind the proxy", "holds protected values, and the policy does not list it"
MOVES = [
    (["ALTER TABLE patients RENAME COLUMN ssn TO social"], "patients", "social", RENAMED),
    (["ALTER TABLE patients RENAME TO people"], "people", "ssn", RENAMED),
    (["ALTER SCHEMA ward RENAME TO wing"], "wing.events", "text", RENAMED),
    (["ALTER TABLE patients SET SCHEMA ward"], "ward.patients", "ssn", RENAMED),
    (["ALTER TABLE ward.events DETACH PARTITION ward.early"], "ward.early", "text", HELD),
    (["ALTER TABLE patients RENAME TO people", "CREATE TABLE patients (id int, ssn text, notes text)"], "people", "notes", HELD),
]


@pytest.mark.parametrize(("statements", "table", "column", "said"), MOVES)
def test_what_is_renamed_behind_the_proxy_is_refused_within_a_poll(
    site: Site, oracle: LeakOracle, statements: list[str], table: str, column: str, said: str
) -> None:
    with through(site) as old:
        old.execute("INSERT INTO patients VALUES (1, %s, 'x')", (oracle.plant("ssn"),))
        old.execute("INSERT INTO ward.events VALUES (1, %s)", (oracle.plant(),))
        for statement in statements:
            behind(site, statement)
        within_a_poll(lambda: fetch(old, f"SELECT id FROM {table}"))
        with through(site) as new:
            for conn in (old, new):
                all_refused(conn, uses(table, column, oracle.plant()))
                with pytest.raises(Refused):
                    copies(conn, table, f"1\t{oracle.plant()}\n")
            if table in ("patients", "people"):
                all_refused(new, [f"UPDATE shown SET ssn = '{oracle.plant()}'", "SELECT ssn FROM shown"])
            new.execute(f"ANALYZE {table}".encode())  # carries no value
    for command in (("check",), ("serve",), ("keys", "init")):
        assert said in failing(site, *command)
    log = (site.directory / "proxy.log").read_text()
    assert "the database no longer fits its policy" in log


def fetch(conn: Connection, statement: str) -> None:
    with suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        conn.execute(statement.encode())


def failing(site: Site, *command: str) -> str:
    """Run a command that must end with 1; returns what it said."""
    done = run_cli(*command, "-c", str(site.config), env=site.env)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_policy_that_omits_what_is_sealed_is_refused_everywhere(site: Site, oracle: LeakOracle) -> None:
    text = (site.directory / "policy.yaml").read_text()
    (site.directory / "policy.yaml").write_text(text.replace(NOTES, ""))
    said = "policy.yaml:4:3: public.patients.notes holds protected values, and the policy does not list it"
    for command in (("check",), ("serve",), ("keys", "init")):
        assert said in failing(site, *command)
    through(site).close()  # it serves by now, and takes signals
    reload(site)
    logged(site, "reload failed, nothing changed")
    with through(site) as conn:
        notes = oracle.plant()
        conn.execute("INSERT INTO patients (id, notes) VALUES (1, %s)", (notes,))
        assert conn.execute("SELECT notes FROM patients").fetchone() == (notes,)

        released = text.replace(NOTES, "").replace("    columns:\n      ssn", "    released: [notes]\n    columns:\n      ssn")
        (site.directory / "policy.yaml").write_text(released)
        reload(site)
        logged(site, '"reloaded"')
        (stored,) = conn.execute("SELECT notes FROM patients").fetchone() or (None,)
        assert isinstance(stored, bytes)
        assert stored.startswith(b"\xf5\x50\x01"), "it passes as it is"
    assert "public.patients.notes is released, and its guard is still there" in site.cli("check")


def reload(site: Site) -> None:
    assert site.proxy.process is not None
    os.kill(site.proxy.process.pid, signal.SIGHUP)


def logged(site: Site, text: str, *, times: int = 1) -> None:
    end = time.monotonic() + 240
    while (site.directory / "proxy.log").read_text().count(text) < times:
        assert time.monotonic() < end, f"the proxy did not say {text}"
        time.sleep(0.05)


def test_a_column_that_the_registry_knows_is_refused_without_a_guard_too(site: Site, oracle: LeakOracle) -> None:
    """Another policy has registered it, and this proxy has not been told: nothing passes in clear meanwhile."""
    behind(site, "CREATE TABLE later (id int, secret text); GRANT ALL ON later TO PUBLIC")
    with through(site) as conn:
        conn.execute("INSERT INTO later (id) VALUES (1)")
        register(site, "  public.later:\n    columns:\n      secret: {type: text}\n")
        within_a_poll(lambda: fetch(conn, "SELECT id FROM later"))
        all_refused(conn, uses("later", "secret", oracle.plant()))
    assert "public.later.secret is registered as protected" in failing(site, "check")


def register(site: Site, tables: str) -> None:
    """Run ``keys init`` with another policy, which the proxy at work does not know."""
    (site.directory / "other.yaml").write_text((site.directory / "policy.yaml").read_text() + tables)
    config = site.directory / "other-phiproxy.yaml"
    config.write_text(site.config.read_text().replace("[policy.yaml]", "[other.yaml]"))
    run_cli("keys", "init", "-c", str(config), env=site.env, check=True)


CREATED = "CREATE TABLE {table} (id int, ssn text, more text)"


@pytest.mark.parametrize("prepare", [None, True])
def test_a_table_in_the_way_of_a_protected_one(site: Site, oracle: LeakOracle, prepare: bool | None) -> None:
    """``"$user"`` comes first on the path: what was meant for the protected table would be stored in clear."""
    value = oracle.plant("ssn")
    with through(site) as conn:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(site.role)))
        conn.execute("BEGIN")
        conn.execute(CREATED.format(table=f"{site.role}.patients").encode(), prepare=prepare)
        with pytest.raises(Refused, match="has the name of a protected table"):
            conn.execute("INSERT INTO patients (ssn) VALUES (%s)", (value,), prepare=prepare)
        conn.execute("ROLLBACK")
        text = f"{CREATED.format(table=site.role + '.patients')}; INSERT INTO {site.role}.patients (ssn) VALUES ('{value}')"
        with pytest.raises(Refused):
            conn.execute(text.encode())
        for made in (
            f"CREATE TABLE {site.role}.patients AS SELECT '{value}' AS ssn",
            f"SELECT '{value}' AS ssn INTO ward.patients",
        ):
            with pytest.raises(psycopg.Error):
                conn.execute(made.encode(), prepare=prepare)
        with pytest.raises(Refused, match="would be in clear"):
            conn.execute(f"CREATE TABLE ward.patients AS SELECT '{value}' AS ssn FROM patients".encode(), prepare=prepare)
        conn.execute(CREATED.format(table=f"{site.role}.patients").encode(), prepare=prepare)
        all_refused(conn, [*uses("patients", "ssn", value), *uses(f"{site.role}.patients", "ssn", value)])
        with pytest.raises(Refused) as caught:
            conn.execute("SELECT id FROM patients", prepare=prepare)
        assert f"`tables: {{{site.role}.patients: {{clear: true}}}}`" in str(caught.value.diag.message_hint)
        with pytest.raises(Refused):
            copies(conn, "patients", f"1\t{value}\t\n")
        conn.execute("INSERT INTO public.patients (ssn) VALUES (%s)", (value,), prepare=prepare)
        assert f"{site.role}.patients is not protected" in site.cli("check")
        conn.execute("DROP TABLE patients", prepare=prepare)  # the one in the way: this carries no value
        conn.execute("INSERT INTO patients (ssn) VALUES (%s)", (value,), prepare=prepare)


def test_a_table_that_a_function_makes_is_found_in_its_transaction(site: Site, oracle: LeakOracle) -> None:
    with through(site) as conn, conn.transaction(force_rollback=True):
        conn.execute("CREATE TABLE other (id int)")
        conn.execute("SELECT made()")
        with pytest.raises(Refused, match="has the name of a protected table"):
            conn.execute("INSERT INTO ward.patients VALUES (%s)", (oracle.plant("ssn"),))


def test_a_table_that_is_in_clear_as_the_policy_says(site: Site, oracle: LeakOracle) -> None:
    with (site.directory / "policy.yaml").open("a") as file:
        file.write("  ward.patients: {clear: true}\n")
    through(site).close()  # it serves by now, and takes signals
    reload(site)
    logged(site, '"reloaded"')
    with through(site) as conn:
        for prepare in (None, True):
            conn.execute("CREATE TABLE ward.patients AS SELECT 'in clear' AS ssn", prepare=prepare)
            conn.execute("INSERT INTO ward.patients (ssn) VALUES ('also')", prepare=prepare)
            copies(conn, "ward.patients", "too\n")
            assert conn.execute("SELECT count(*) FROM ward.patients WHERE ssn <> 'also'").fetchone() == (2,)
            conn.execute("DROP TABLE ward.patients", prepare=prepare)
        conn.execute("INSERT INTO patients (ssn) VALUES (%s)", (oracle.plant("ssn"),))
        conn.execute(b"CREATE TEMP TABLE patients (ssn text)")  # a session's own, as its path says
        conn.execute("INSERT INTO patients VALUES ('mine')")
    site.cli("check")


@pytest.mark.parametrize("prepare", [None, True])
def test_a_copy_that_runs_while_the_policy_changes_is_ended(site: Site, oracle: LeakOracle, prepare: bool | None) -> None:
    """In both directions; the session lives on, where data came from it. What was in clear before goes no further."""
    behind(
        site,
        "CREATE TABLE plain (id int, body text); GRANT ALL ON plain TO PUBLIC;"
        " INSERT INTO plain SELECT n, repeat('x', 1000) FROM generate_series(1, 40000) n",
    )
    text = (site.directory / "policy.yaml").read_text()
    (site.directory / "policy.yaml").write_text(text.replace(NOTES, "    released: [notes]\n"))
    through(site).close()  # it serves by now, and takes signals
    reload(site)
    logged(site, '"reloaded"')
    value = oracle.plant()
    with through(site) as clear, through(site) as sealed, through(site) as out:
        for conn in (clear, sealed, out):
            conn.execute("SELECT ssn FROM patients")
        begun = [begin_copy(clear, "COPY patients (notes) FROM STDIN", prepare=prepare)]
        begun += [begin_copy(sealed, "COPY patients (ssn) FROM STDIN", prepare=prepare)]
        for pgconn in begun:
            done(pgconn, generators.copy_to(pgconn, b"before\n" if pgconn is begun[1] else b"\\N\n"))
        reading = begin_copy(out, "COPY plain TO STDOUT", prepare=prepare)
        (site.directory / "policy.yaml").write_text(text)
        reload(site)
        logged(site, '"reloaded"', times=2)
        for pgconn in begun:
            done(pgconn, generators.copy_to(pgconn, f"{value}\n".encode()))
            with pytest.raises(psycopg.errors.OperatorIntervention, match="the policy was changed"):
                done(pgconn, generators.copy_end(pgconn, None))
        with pytest.raises(psycopg.errors.OperatorIntervention, match="the policy was changed"):
            read_to_the_end(reading)
        for conn in (clear, sealed):
            assert conn.execute("SELECT count(*) FROM patients WHERE notes IS NULL").fetchone() == (0,)
            copies(conn, "patients", f"1\t\\N\t{value}\n")
        assert sealed.execute("SELECT notes FROM patients").fetchall() == [(value,)] * 2


def begin_copy(conn: Connection, statement: str, *, prepare: bool | None) -> PGconn:
    """Begin a COPY in the simple or the extended protocol, and leave it there."""
    pgconn = conn.pgconn
    if prepare:
        pgconn.send_query_params(statement.encode(), None)
    else:
        pgconn.send_query(statement.encode())
    (asked,) = done(pgconn, generators.execute(pgconn))
    assert asked.status in (psycopg.pq.ExecStatus.COPY_IN, psycopg.pq.ExecStatus.COPY_OUT), asked.error_message
    return pgconn


def read_to_the_end(pgconn: PGconn) -> None:
    while not isinstance(done(pgconn, generators.copy_from(pgconn)), PGresult):
        pass


T = TypeVar("T")


def done(pgconn: PGconn, steps: PQGen[T]) -> T:
    """Wait for the end of what psycopg does step by step: libpq by itself would keep the tap from working."""
    return waiting.wait(steps, pgconn.socket)
