"""Jobs over what is not an ordinary table: tenants, row-level security, children, sealed definitions, released columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.harness.oracle import LeakOracle
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.filled_site import findings, raw, slots
from tests.integration.test_tenants import DDL as TENANTS_DDL
from tests.integration.test_tenants import POLICY as TENANTS_POLICY
from tests.integration.test_tenants import connect

POLICY = """\
database: {database}
deployment: other-test
tables:
  public.people:
    columns:
      ssn:  {type: text, indexes: [ssn], distinct: 100000000}
      note: {type: text, pad: 64}
"""


@contextmanager
def owned(server: PostgresServer, directory: Path, policy: str, ddl: str) -> Iterator[Site]:
    """A site whose service role may act as the owner of its tables."""
    with open_site(server, directory, policy=policy, ddl=ddl) as site:
        oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: sorted(site.directory.glob("*.log")))
        oracle.planted += ["987-65-4321", "somebody's own words"]
        with site.server.connect() as conn:
            conn.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(site.role), sql.Identifier(site.service)))
        yield site
        oracle.assert_no_leak()


def under(site: Site, table: str, column: str) -> set[str]:
    query = f"SELECT DISTINCT encode(substring({column}, 6, 4), 'hex') FROM {table} WHERE {column} IS NOT NULL"
    return {str(key) for (key,) in raw(site, query)}


def keys(site: Site, state: str) -> set[str]:
    listed = json.loads(site.cli("keys", "list", "--json"))
    return {f"{key['id']:08x}" for root in listed for key in root["data_keys"] if key["state"] == state}


def test_the_values_of_each_tenant_stay_its_own(postgres_server: PostgresServer, tmp_path: Path) -> None:
    policy = TENANTS_POLICY.replace("TENANT", "{from: parameter, name: app.tenant}")
    with owned(postgres_server, tmp_path, policy, TENANTS_DDL) as site:
        tenants = ("acme", "other")
        for name in tenants:
            with connect(site, name) as conn:
                for n in range(20):
                    conn.execute(
                        "INSERT INTO patients (ssn, notes, owner) VALUES (%s, %s, %s)", (f"987-65-4321/{n}", f"{name} {n}", name)
                    )
        before = under(site, "patients", "ssn")
        site.cli("keys", "rotate")
        out = site.cli("recrypt", "--tenant", "acme")
        assert "is done" in out
        assert len(under(site, "patients", "ssn") & before) == 1, "those of the other one are left"
        site.cli("recrypt")
        assert not under(site, "patients", "ssn") & before
        site.cli("keys", "rotate", "--index", "public.patients.ssn")
        assert slots(site, "c:public.patients.ssn")[1] == (1, "@", 2, "active")
        assert raw(site, "SELECT count(DISTINCT substring(ssn, 29, 16)) FROM patients") == [(40,)]
        for name in tenants:
            with connect(site, name) as conn:
                assert conn.execute("SELECT notes FROM patients WHERE ssn = '987-65-4321/7'").fetchall() == [(f"{name} 7",)]
                with pytest.raises(psycopg.errors.UniqueViolation):
                    conn.execute("INSERT INTO patients (ssn) VALUES ('987-65-4321/7')")


def test_constants_of_definitions_follow(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Their key could not be retired else; and the constraint holds at each moment."""
    with owned(postgres_server, tmp_path, POLICY, "CREATE TABLE people (id serial PRIMARY KEY, ssn text, note text)") as site:
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("ALTER TABLE people ALTER note SET DEFAULT 'somebody''s own words'")
            conn.execute("ALTER TABLE people ADD CONSTRAINT nine CHECK (ssn LIKE '9%')")
            conn.execute("COMMENT ON CONSTRAINT nine ON people IS 'of whom we know''s none else'")
            conn.execute("INSERT INTO people (ssn) VALUES ('987-65-4321')")
            (key,) = under(site, "people", "ssn")
            site.cli("keys", "compromise", key, "--reason", "a test")
            site.cli("recrypt", "--compromised")
            assert "is retired" in site.cli("keys", "retire", key)
            conn.execute("INSERT INTO people (ssn) VALUES ('912-65-4321')")
            with pytest.raises(psycopg.errors.CheckViolation, match="nine"):
                conn.execute("INSERT INTO people (ssn) VALUES ('812-65-4321')")
            assert conn.execute("SELECT note FROM people").fetchall() == [("somebody's own words",)] * 2
        names = raw(site, "SELECT conname, convalidated FROM pg_constraint WHERE conrelid = 'people'::regclass AND contype = 'c'")
        assert sorted(names) == [("nine", True), ("phi_guard_note", True), ("phi_guard_ssn", True)]
        said = raw(site, "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 'nine'")
        assert said == [("of whom we know's none else",)]


def test_row_level_security_hides_nothing_from_a_job(postgres_server: PostgresServer, tmp_path: Path) -> None:
    ddl = """
        CREATE TABLE people (id serial PRIMARY KEY, ssn text, note text, owner name DEFAULT 'nobody');
        CREATE POLICY own ON people USING (owner = current_user OR owner = 'nobody');
    """
    with owned(postgres_server, tmp_path, POLICY, ddl) as site:
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            for n in range(30):
                conn.execute(
                    "INSERT INTO people (ssn, owner) VALUES (%s, %s)", (f"987-65-4321/{n}", "somebody else" if n % 2 else "nobody")
                )
            conn.execute("ALTER TABLE people ENABLE ROW LEVEL SECURITY")
        before = under(site, "people", "ssn")
        site.cli("keys", "rotate")
        site.cli("recrypt")
        assert not under(site, "people", "ssn") & before
        refused = run_cli("keys", "rotate", "--index", "public.people.ssn", "-c", str(site.config), env=site.env)
        assert "needs the generated column phi_tag_ssn_1: adding it rewrites the table" in refused.stderr
        (job,) = [j for j in json.loads(site.cli("jobs", "--json")) if j["state"] == "failed"]
        site.cli("jobs", "abort", str(job["id"]))
        site.cli("keys", "rotate", "--index", "public.people.ssn", "--lock-tables")
        columns = (
            "SELECT attname FROM pg_attribute WHERE attrelid = 'people'::regclass AND attname ~ '^phi_tag' AND NOT attisdropped"
        )
        assert raw(site, columns) == [("phi_tag_ssn_2",)]
        assert findings(site) == []
        with psycopg.connect(site.proxy_dsn) as conn:
            assert conn.execute("SELECT id FROM people WHERE ssn = '987-65-4321/7'").fetchall() == [(8,)]
        with site.server.connect(site.sealed) as conn:
            conn.execute("ALTER TABLE people FORCE ROW LEVEL SECURITY")
        site.cli("keys", "rotate")
        forced = run_cli("recrypt", "-c", str(site.config), env=site.env)
        assert "NO FORCE ROW LEVEL SECURITY" in forced.stderr


def test_children_and_released_columns_are_not_forgotten(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """What is under a key is what is stored, whatever the policy still lists."""
    ddl = """
        CREATE TABLE people (id int PRIMARY KEY, ssn text, note text);
        CREATE TABLE staff (PRIMARY KEY (id)) INHERITS (people);
    """
    with owned(postgres_server, tmp_path, POLICY, ddl) as site:
        with psycopg.connect(site.proxy_dsn) as conn:
            for n, table in enumerate(("people", "staff") * 10):
                conn.execute(f"INSERT INTO {table} VALUES (%s, %s, 'somebody''s own words')".encode(), (n, f"987-65-4321/{n}"))
        site.cli("keys", "rotate", "--index", "public.people.ssn")
        assert raw(site, "SELECT count(*) FROM people WHERE get_byte(ssn, 11) < 2") == [(0,)]
        assert findings(site) == []
        policy = site.directory / "policy.yaml"
        text = policy.read_text()
        policy.write_text(text.replace("      note: {type: text, pad: 64}\n", "    released: [note]\n"))
        site.cli("keys", "rotate")
        site.cli("recrypt")
        for table, column in (("only people", "ssn"), ("staff", "ssn"), ("only people", "note"), ("staff", "note")):
            assert under(site, table, column) <= keys(site, "active"), f"{table}.{column}"
        assert raw(site, "SELECT DISTINCT octet_length(note), get_byte(note, 4) FROM people") == [(56 + 64, 1)], (
            "padded as they were"
        )
        policy.write_text(text)
        with psycopg.connect(site.proxy_dsn) as conn:
            assert conn.execute("SELECT note FROM people WHERE ssn = '987-65-4321/13'").fetchall() == [("somebody's own words",)]
        _told_of_triggers(site)


def _told_of_triggers(site: Site) -> None:
    """Where the role may not keep them from firing, the job says which would, and lets them only where that is asked for."""
    with site.server.connect(site.sealed) as conn:
        conn.execute("CREATE TABLE fired (id int)")
        conn.execute(sql.SQL("GRANT INSERT ON fired TO {}").format(sql.Identifier(site.service)))
        conn.execute(
            "CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO public.fired VALUES (NEW.id); RETURN NEW; END';"
            "CREATE TRIGGER notes_it BEFORE UPDATE ON staff FOR EACH ROW EXECUTE FUNCTION fired()"
        )
    site.cli("keys", "rotate")
    refused = run_cli("recrypt", "-c", str(site.config), env=site.env)
    assert "an UPDATE of public.staff would fire notes_it" in refused.stderr
    assert f"GRANT SET ON PARAMETER session_replication_role TO {site.service}" in refused.stderr
    (job,) = [j for j in json.loads(site.cli("jobs", "--json")) if j["state"] == "failed"]
    site.cli("jobs", "abort", str(job["id"]))
    assert raw(site, "SELECT count(*) FROM fired") == [(0,)]
    site.cli("recrypt", "--fire-triggers")
    assert under(site, "staff", "ssn") <= keys(site, "active")
    assert raw(site, "SELECT id FROM fired ORDER BY id") == raw(site, "SELECT id FROM staff ORDER BY id"), "once for each row"


def test_a_foreign_key_by_the_old_tags_is_named_before_anything_is_begun(postgres_server: PostgresServer, tmp_path: Path) -> None:
    policy = POLICY.replace("tables:", "domains:\n  mrn: {type: text, indexes: [value], distinct: 1000000}\ntables:").replace(
        "      note: {type: text, pad: 64}\n",
        "      mrn:  {domain: mrn}\n  public.visits:\n    columns:\n      mrn: {domain: mrn}\n",
    )
    ddl = "CREATE TABLE people (id int PRIMARY KEY, ssn text, mrn text); CREATE TABLE visits (id int PRIMARY KEY, mrn text)"
    with owned(postgres_server, tmp_path, policy, ddl) as site:
        with psycopg.connect(site.proxy_dsn, autocommit=True) as conn:
            conn.execute("CREATE UNIQUE INDEX people_mrn ON people (mrn)")
            conn.execute("ALTER TABLE visits ADD CONSTRAINT visits_mrn_fkey FOREIGN KEY (mrn) REFERENCES people (mrn)")
            conn.execute("INSERT INTO people VALUES (1, '987-65-4321', 'M1')")
            conn.execute("INSERT INTO visits VALUES (1, 'M1')")
        refused = run_cli("keys", "rotate", "--index", "public.people.mrn", "-c", str(site.config), env=site.env)
        assert "foreign key visits_mrn_fkey" in refused.stderr
        assert slots(site, "d:mrn") == [(0, "@", 1, "active")]
