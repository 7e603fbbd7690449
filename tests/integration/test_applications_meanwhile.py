"""The applications go on while their tables are encrypted, reindexed, recrypted and decrypted: what they see is what it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from tests.applications.at_work import AFTER
from tests.applications.both import AtWork, make_tables, rows_of
from tests.harness.server import PostgresServer
from tests.harness.site import Site, open_site
from tests.integration.test_ehr import POLICY

PERSONS = int(os.environ.get("PHIPROXY_PERSONS", "250"))
"""More than a batch of a job takes."""
PAUSE = 0.02 if "PHIPROXY_PERSONS" in os.environ else 0.25
"""Seconds between the steps of an application: it is there to be at work, not to take the job's time."""
LONGEST = 120.0
"""Seconds that a step of an application may take: it is of some statements, and the machine may be busy otherwise."""


@contextmanager
def clinic(server: PostgresServer, directory: Path) -> Iterator[Site]:
    """Both applications' tables, full of plaintext, and the proxy before them."""
    with open_site(server, directory, policy=POLICY, ddl="SELECT", planned=True, serve=False,
                   settings="compute: {engine: embedded}\n") as site:  # fmt: skip
        for dsn in (site.plain_dsn, site.sealed_dsn):
            make_tables(dsn, PERSONS)
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


@pytest.mark.timeout(1800)
def test_the_applications_notice_nothing(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with clinic(postgres_server, tmp_path) as site:
        phases = {
            "encrypt": [["encrypt"]],
            "reindex": [["keys", "rotate", "--index", "public.patients.ssn"]],
            "recrypt": [["keys", "rotate"], ["recrypt"]],
            "decrypt": [["decrypt", *(f"public.{table}" for table in _columns(site)), "--reorder"]],
        }
        with AtWork(site.proxy_dsn, site.plain_dsn, PERSONS, PAUSE) as applications:
            for phase, commands in phases.items():
                for command in commands:
                    site.cli(*command)
                _compared(site, phase, applications.rest())
                applications.go_on()


def _compared(site: Site, phase: str, told: list[dict[str, Any]]) -> None:
    for each in told:
        assert each["wrong"] == [], f"{phase}: {each['wrong'][0]}"
        assert sum(each["done"].values()) > AFTER
        assert each["slowest"] < LONGEST
    assert rows_of(site.proxy_dsn) == rows_of(site.plain_dsn), phase
    with site.server.connect(site.sealed) as conn:
        stored = conn.execute("SELECT pg_typeof(ssn)::text FROM ehr_patient LIMIT 1").fetchall()
    assert stored == [("character varying",) if phase == "decrypt" else ("bytea",)]
