"""Security labels, by which extensions mask columns for example, are not lost where a column or a view is made again."""

from __future__ import annotations

from pathlib import Path

from tests.harness.proxy import run_cli
from tests.harness.server import PostgresServer
from tests.integration.test_encrypt import filled_site, rows_of

POLICY = """\
database: {database}
deployment: labels-test
tables:
  public.patients:
    columns:
      ssn: {type: text}
"""
TABLES = """\
CREATE TABLE patients (id int PRIMARY KEY, ssn text, city text);
INSERT INTO patients SELECT n, 'secret-' || n, 'Graz' FROM generate_series(1, {rows}) n;
CREATE MATERIALIZED VIEW kept AS SELECT id, ssn, city FROM patients;
"""
LABELS = "SELECT objoid::regclass::text, objsubid > 0, label FROM pg_seclabel ORDER BY 1"


def test_nothing_is_switched_where_a_label_cannot_be_given(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """The extension that keeps a label may not be there: its labels stay where they are."""
    with filled_site(postgres_server, tmp_path, policy=POLICY, ddl=TABLES, rows=20) as site:
        for number, relation in enumerate(("patients", "kept"), 1):
            with site.server.connect(site.sealed) as conn:
                conn.execute("SET allow_system_table_mods TO on")
                conn.execute(
                    "INSERT INTO pg_seclabel SELECT attrelid, 1259, attnum, 'away', 'masked' FROM pg_attribute"
                    " WHERE attrelid = %s::regclass AND attname = 'ssn'",
                    (relation,),
                )
            before = rows_of(site.sealed_dsn, LABELS)
            assert before == [(relation, True, "masked")]
            done = run_cli("encrypt", "-c", str(site.config), env=site.env)
            assert done.returncode == 1
            assert "22023" in done.stderr or "cannot be made again" in done.stderr
            assert rows_of(site.sealed_dsn, LABELS) == before
            with site.server.connect(site.sealed) as conn:
                conn.execute("SET allow_system_table_mods TO on")
                conn.execute("DELETE FROM pg_seclabel")
            site.cli("jobs", "abort", str(number))
        with site.server.connect(site.sealed) as conn:
            conn.execute("CREATE STATISTICS both_of_it ON id, city FROM kept")
        told = run_cli("encrypt", "-c", str(site.config), env=site.env).stderr
        assert "statistics object public.both_of_it uses materialized view public.kept: drop it" in told
