"""Rows that the server refuses while a job writes: by a CHECK of a domain on the way back, or one that was added NOT VALID."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.integration.test_encrypt import filled_site, same_rows

POLICY = """\
database: {database}
deployment: refused-test
tables:
  public.patients:
    columns:
      ssn: {type: public.card}
"""
TABLES = """\
CREATE DOMAIN card AS text;
CREATE TABLE patients (id int PRIMARY KEY, ssn card, city text);
INSERT INTO patients SELECT n, 'secret-' || n, 'Graz' FROM generate_series(1, {rows}) n;
"""
ROWS = ["SELECT id, ssn, city FROM patients ORDER BY id"]


def undone(site: Site, *command: str) -> tuple[list[dict[str, str]], str]:
    """Run a command that fails; return which rows it could not do, and all that it has said."""
    done = run_cli(*command, "--json", "-c", str(site.config), env=site.env)
    assert done.returncode == 1
    return json.loads(done.stdout.splitlines()[-1])["undone"], done.stdout + done.stderr


def test_a_row_that_a_domain_does_not_take_is_named(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """While they are sealed the server cannot see that values do not satisfy a CHECK that a domain gets."""
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=300) as site:
        site.cli("encrypt")
        with site.server.connect(site.sealed) as conn:
            conn.execute("ALTER DOMAIN card ADD CONSTRAINT short CHECK (length(VALUE) < 10 OR VALUE NOT LIKE '%%7')")
        back = ("decrypt", "public.patients", "--reorder")
        rows, told = undone(site, *back)
        why = "the server refuses to store it: CheckViolation by short of public.card (SQLSTATE 23514)"
        named = {f"public.patients, id {n}" for n in range(107, 300, 10)}
        assert {row["row"] for row in rows} == named
        assert {row["why"] for row in rows} == {why}
        assert "secret" not in told
        job = json.loads(site.cli("jobs", "--json"))[-1]
        said = run_cli("jobs", "resume", str(job["id"]), "-c", str(site.config), env=site.env).stderr
        assert f"public.patients, id 107: {why}" in said
        assert "put these right, and resume" in said
        for dsn in (site.proxy_dsn, site.plain_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("UPDATE patients SET ssn = 'other' WHERE id > 100 AND id % 10 = 7")
        site.cli("jobs", "resume", str(job["id"]))
        same_rows(site, ROWS)
        with site.server.connect(site.sealed) as conn, pytest.raises(psycopg.errors.CheckViolation):
            conn.execute("UPDATE patients SET ssn = 'secret-107'")


def test_a_row_that_satisfies_no_check_that_is_not_valid_is_named(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=50) as site:
        with site.server.connect(site.sealed) as conn:
            conn.execute("UPDATE patients SET city = 'secret-place' WHERE id = 5")
            conn.execute("ALTER TABLE patients ADD CONSTRAINT known CHECK (city = 'Graz') NOT VALID")
        rows, told = undone(site, "encrypt")
        why = "the server refuses to store it: CheckViolation by known of public.patients (SQLSTATE 23514)"
        assert rows == [{"row": "public.patients, id 5", "why": why}]
        assert "secret" not in told
