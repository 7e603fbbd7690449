"""Tenants through a running proxy: each reads its own, nobody another's, and none changes while the session lasts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.harness.oracle import LeakOracle
from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.test_encrypt import filled_site, rows_of
from tests.keys.providers.parts import write_pair

POLICY = """\
database: {database}
deployment: tenants-test
tenant: TENANT
tables:
  public.patients:
    columns:
      ssn:   {type: text, indexes: [ssn], distinct: 100000000}
      notes: {type: text}
"""
DDL = "CREATE TABLE patients (id serial PRIMARY KEY, ssn text UNIQUE, notes text, owner text)"


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tenants")
    public, private = write_pair(directory, "acme")
    source = f'{{from: parameter, name: app.tenant, keks: {{acme: "rsa:{public.name}?private={private.name}"}}}}'
    with open_site(postgres_server, directory, policy=POLICY.replace("TENANT", source), ddl=DDL) as found:
        yield found


def connect(site: Site, tenant: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(site.proxy_dsn, autocommit=True, options=f"-c app.tenant={tenant}")


def test_each_tenant_has_its_own_keys_and_tags(site: Site) -> None:
    oracle = LeakOracle(site.server, site.sealed, tap=site.tap, proxy_logs=lambda: [site.proxy.log_path])
    ssn, notes = oracle.plant("ssn"), {name: oracle.plant() for name in ("acme", "other")}
    with connect(site, "acme") as acme, connect(site, "other") as other:
        for conn, name in ((acme, "acme"), (other, "other")):
            conn.execute("INSERT INTO patients (ssn, notes, owner) VALUES (%s, %s, %s)", (ssn, notes[name], name))
        # The unique index holds per tenant: the same number twice, under two keys.
        with pytest.raises(psycopg.errors.UniqueViolation):
            acme.execute("INSERT INTO patients (ssn) VALUES (%s)", (ssn,))
        for conn, name in ((acme, "acme"), (other, "other")):
            assert conn.execute("SELECT notes, owner FROM patients WHERE ssn = %s", (ssn,)).fetchall() == [(notes[name], name)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="of another tenant"):
            acme.execute("SELECT notes FROM patients")
        assert acme.execute("SELECT count(*) FROM patients").fetchone() == (2,)
        assert acme.execute("SELECT notes FROM patients WHERE owner = 'acme'").fetchall() == [(notes["acme"],)]
    with site.server.connect(site.sealed) as conn:
        wraps = conn.execute(
            "SELECT DISTINCT r.tenant, split_part(w.kek_uri, ':', 1) FROM phiproxy.root_key r"
            " JOIN phiproxy.root_wrap w ON w.root_id = r.id ORDER BY 1"
        ).fetchall()
    assert wraps == [("", "local"), ("acme", "rsa"), ("other", "local")]
    oracle.assert_no_leak()


def test_the_role_that_logs_in_is_the_tenant(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = POLICY.replace("TENANT", "{from: role}")
    with open_site(postgres_server, tmp_path_factory.mktemp("roles"), policy=text, ddl=DDL) as site:
        other = f"{site.role}_other"
        postgres_server.create_role(other, site.password)
        with site.server.connect(site.sealed) as conn:
            for grant in ("ALL ON patients", "ALL ON SEQUENCE patients_id_seq", "USAGE ON SCHEMA public"):
                conn.execute(f"GRANT {grant} TO {other}".encode())
        try:
            two = psycopg.connect(site.proxy.dsn(site.sealed, other, site.password), autocommit=True)
            with psycopg.connect(site.proxy_dsn, autocommit=True) as one, two:
                for conn in (one, two):
                    conn.execute("INSERT INTO patients (ssn, owner) VALUES ('1', current_user)")
                    assert conn.execute("SELECT ssn, owner = current_user FROM patients WHERE ssn = '1'").fetchall() == [
                        ("1", True)
                    ]
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not be changed"):
                    one.execute(f"SET ROLE {other}".encode())
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="of another tenant"):
                    one.execute("SELECT ssn FROM patients")
        finally:
            with site.server.connect(site.sealed) as conn:
                conn.execute(f"DROP OWNED BY {other}; DROP ROLE {other}".encode())


def test_a_session_without_a_tenant_does_not_start(site: Site) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"needs a tenant: pass app\.tenant"):
        psycopg.connect(site.proxy_dsn)


def test_the_tenant_is_fixed_for_the_session(site: Site) -> None:
    with connect(site, "acme") as conn:
        for statement in ("SET app.tenant = 'other'", "SELECT set_config('app.tenant', 'other', false)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not be changed"):
                conn.execute(statement.encode())
        conn.execute("DISCARD ALL")
        assert conn.execute("SHOW app.tenant").fetchone() == ("acme",)


def test_check_says_that_uniqueness_is_per_tenant(site: Site) -> None:
    assert "unique per tenant" in site.cli("check", check=False)


def test_keys_of_tenants_are_listed_rotated_and_rewrapped(site: Site) -> None:
    with connect(site, "acme") as conn:
        conn.execute("INSERT INTO patients (ssn, notes) VALUES ('1', 'before')")
        assert "acme" in site.cli("keys", "list")
        site.cli("keys", "rotate")
        site.cli("keys", "rotate", "--root")
        site.cli("keys", "rewrap")
        conn.execute("INSERT INTO patients (ssn, notes) VALUES ('2', 'after')")
        assert conn.execute("SELECT notes FROM patients ORDER BY id").fetchall() == [("before",), ("after",)]


FILLED = """\
CREATE TABLE patients (id int PRIMARY KEY, ssn text UNIQUE, notes text, owner text DEFAULT 'acme');
INSERT INTO patients SELECT n, 'secret-' || n, 'note ' || n, CASE n % 2 WHEN 0 THEN 'acme' ELSE 'other' END
  FROM generate_series(1, 50) n;
"""


def test_filled_tables_of_several_tenants(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """An expression says whose a row is; each is sealed under its own tenant's keys, and all come back."""
    source = "{from: parameter, name: app.tenant}"
    with filled_site(postgres_server, tmp_path, policy=POLICY.replace("TENANT", source), ddl=FILLED) as site:
        every = "SELECT id, ssn, notes, owner FROM patients ORDER BY id"
        told = run_cli("encrypt", "--dry-run", "-c", str(site.config), env=site.env).stdout
        assert "of a row in plaintext it is not known whose it is: --tenant-by says it" in told
        wrong = run_cli("encrypt", "--dry-run", "--tenant-by", "whose", "-c", str(site.config), env=site.env).stdout
        assert '--tenant-by is no expression over public.patients: column "whose" does not exist' in wrong
        looked = site.cli("encrypt", "--dry-run", "--tenant-by", "owner")
        assert "unique indexes hold within each tenant from then on" in looked
        with psycopg.connect(site.sealed_dsn, autocommit=True) as owner:
            owner.execute("UPDATE patients SET owner = NULL WHERE id = 7")
        refused = run_cli("encrypt", "--tenant-by", "owner", "-c", str(site.config), env=site.env)
        assert "id 7: it is of no tenant" in refused.stderr
        with psycopg.connect(site.sealed_dsn, autocommit=True) as owner:
            owner.execute("UPDATE patients SET owner = 'acme' WHERE id = 7")
            owner.execute("UPDATE patients SET owner = 'other' WHERE id = 8")
            expected = owner.execute(every).fetchall()
        site.cli("jobs", "resume", "1")
        for name in ("acme", "other"):
            own = [row for row in expected if row[3] == name]
            with connect(site, name) as conn:
                mine = "SELECT id, ssn, notes, owner FROM patients WHERE owner = %s ORDER BY id"
                assert conn.execute(mine, (name,)).fetchall() == own
                seven = conn.execute("SELECT id FROM patients WHERE ssn = 'secret-7'").fetchall()
                assert seven == ([(7,)] if name == "acme" else [])
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="of another tenant"):
                    conn.execute("SELECT notes FROM patients")
                with pytest.raises(psycopg.errors.UniqueViolation):
                    conn.execute("INSERT INTO patients (id, ssn) VALUES (900, %s)", (own[0][1],))
        site.cli("decrypt", "public.patients", "--reorder")
        assert rows_of(site.sealed_dsn, every) == expected
