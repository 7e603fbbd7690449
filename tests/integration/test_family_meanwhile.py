"""Partitions and children that are made, or attached, while their table is encrypted or decrypted: their rows go with it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.harness.waiting import until
from tests.integration.job_at_work import let_go, started
from tests.integration.test_encrypt import filled_site, raw_columns, rows_of, same_rows

pytestmark = pytest.mark.timeout(1200)

POLICY = """\
database: {database}
deployment: family-test
tables:
  public.parted:
    columns:
      ssn: {type: text, indexes: [ssn], accept_leakage: test}
  public.parent:
    columns:
      ssn: {type: text, indexes: [ssn], accept_leakage: test}
"""
TABLES = """\
CREATE TABLE parted (id int PRIMARY KEY, ssn text, city text) PARTITION BY RANGE (id);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE parent (id int PRIMARY KEY, ssn text, city text);
INSERT INTO parted SELECT n, 'secret-' || n FROM generate_series(1, {rows}) n;
INSERT INTO parent SELECT n, 'secret-' || n FROM generate_series(1, {rows}) n;
"""
MADE = """\
CREATE TABLE parted_#1 PARTITION OF parted FOR VALUES FROM (#1000) TO (#2000);
CREATE TABLE parted_#2 (LIKE parted INCLUDING ALL);
ALTER TABLE parted ATTACH PARTITION parted_#2 FOR VALUES FROM (#2000) TO (#3000);
CREATE TABLE child_# (PRIMARY KEY (id)) INHERITS (parent);
"""
HIDDEN = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'parent'::regclass AND attname = 'phi_new_ssn'"
QUERIES = ["SELECT id, ssn, city FROM parted ORDER BY id", "SELECT id, ssn, city FROM parent ORDER BY id"]


def made(site: Site, number: int) -> None:
    """Make partitions and a child, and write rows into them through the proxy."""
    for dsn, owner in ((site.server.dsn(site.sealed), True), (site.plain_dsn, False)):
        with psycopg.connect(dsn, autocommit=True) as conn:
            if owner:
                conn.execute(f"SET ROLE {site.role}".encode())
            conn.execute(MADE.replace("#", str(number)).encode())
    for dsn in (site.proxy_dsn, site.plain_dsn):
        with psycopg.connect(dsn, autocommit=True) as conn:
            for table, first in (("parted", number * 10_000 + 1999), (f"child_{number}", number * 10_000)):
                rows = [(n, f"secret-{n}") for n in range(first, first + 10)]
                conn.cursor().executemany(f"INSERT INTO {table} (id, ssn) VALUES (%s, %s)".encode(), rows)


def test_what_is_made_meanwhile_goes_with_its_table(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=200) as site:
        named = "attrelid::regclass::text ~ '^par|^child'"
        there = f"SELECT DISTINCT atttypid::regtype::text FROM pg_attribute WHERE attname = 'ssn' AND {named}"
        for number, command, becomes in ((1, ["encrypt"], "bytea"), (2, ["decrypt", "parted", "parent", "--reorder"], "text")):
            job = started(site, *command, "--rate", "200")
            until(lambda: rows_of(site.sealed_dsn, HIDDEN) == [(1,)], "the hidden column is there")
            made(site, number)
            assert "others" not in job.said()
            assert job.returncode == 0, job.said()
            assert rows_of(site.sealed_dsn, there) == [(becomes,)]
            same_rows(site, QUERIES)
            assert len(rows_of(site.proxy_dsn, QUERIES[0])) == 200 + 10 * number


def test_what_is_written_while_triggers_are_disabled_is_not_lost(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """As ``pg_restore --disable-triggers`` does it: all rows are compared once more then."""
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=20) as site:
        job = started(site, "encrypt", "--rate", "20", "--json")
        until(lambda: rows_of(site.sealed_dsn, HIDDEN) == [(1,)], "the hidden column is there")
        with psycopg.connect(site.server.dsn(site.sealed)) as reading:
            reading.execute("SELECT FROM parent")  # so that they cannot be switched yet
            assert "switching" in job.steps()
            for dsn in (site.server.dsn(site.sealed), site.plain_dsn):
                with psycopg.connect(dsn, autocommit=True) as conn:
                    for name in ("parent", "parted_0"):
                        conn.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER".encode())
                        conn.execute(f"UPDATE {name} SET ssn = 'secret-other' WHERE id = 7".encode())
                        conn.execute(f"ALTER TABLE {name} ENABLE TRIGGER USER".encode())
        assert job.said().endswith("}\n")
        assert job.returncode == 0
        same_rows(site, QUERIES)


def test_a_partition_of_another_owner_is_named_before_anything_is_begun(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=20) as site:
        other, owner, service = f"{site.role}_other", site.role, site.service
        with site.server.connect(site.sealed) as conn:
            conn.execute(f"CREATE ROLE {other}; GRANT {other} TO {service}; GRANT CREATE ON SCHEMA public TO {other}".encode())
            conn.execute(f"ALTER TABLE parted_0 OWNER TO {other}".encode())
        looked = site.cli("encrypt", "--dry-run", check=False)
        assert f"public.parted_0 is owned by {other}, and public.parted by {owner}" in looked
        assert f"who alters both: GRANT {other} TO {owner}, or ALTER TABLE public.parted_0 OWNER TO {owner}" in looked
        with site.server.connect(site.sealed) as conn:
            conn.execute(f"GRANT {other} TO {owner}".encode())
        site.cli("encrypt")
        same_rows(site, QUERIES)
        with site.server.connect(site.sealed) as conn:
            conn.execute(f"REASSIGN OWNED BY {other} TO {owner}; DROP OWNED BY {other}; DROP ROLE {other}".encode())


def test_a_child_with_the_column_of_its_own_is_left_as_it_was_and_keeps_no_plain_values(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    own = "CREATE TABLE own (id int PRIMARY KEY, ssn text NOT NULL, city text); ALTER TABLE own INHERIT parent;"
    more = "CREATE TABLE owns (id int PRIMARY KEY, ssn text NOT NULL) INHERITS (own);"
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES + own + more, rows=200) as site:
        with psycopg.connect(site.server.dsn(site.sealed), autocommit=True) as conn:
            conn.execute("INSERT INTO owns (id, ssn) VALUES (5000, 'secret-5000')")
        before = {table: raw_columns(site, table) for table in ("parent", "own", "owns")}
        job = started(site, "encrypt", "public.parent", "--rate", "50")
        until(lambda: rows_of(site.sealed_dsn, HIDDEN) == [(1,)], "the hidden column is there")
        job.kill()
        let_go(site)
        site.cli("jobs", "abort", "1")
        assert {table: raw_columns(site, table) for table in before} == before
        site.cli("encrypt", "public.parent", "--keep")
        assert all("phi_old_ssn" in raw_columns(site, table) for table in before)
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("INSERT INTO owns (id, ssn) VALUES (5001, 'secret-5001')")
        site.cli("encrypt", "--finish")
        assert {table: sorted(raw_columns(site, table)) for table in before} == {t: sorted(c) for t, c in before.items()}


def test_a_trigger_that_would_fire_behind_is_seen_before_the_switch(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """What it makes of a value would not be seen: it is named, and nothing is switched."""
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=20) as site:
        job = started(site, "encrypt", "--rate", "20", "--json")
        until(lambda: rows_of(site.sealed_dsn, HIDDEN) == [(1,)], "the hidden column is there")
        with site.server.connect(site.sealed) as conn:
            conn.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.ssn := NEW.city; RETURN NEW; END'")
            conn.execute('CREATE TRIGGER "~z" BEFORE UPDATE ON parent FOR EACH ROW EXECUTE FUNCTION f()')
        assert "trigger ~z on public.parent fires behind all others" in job.said()
        assert job.returncode == 1
        same_rows(site, QUERIES)
