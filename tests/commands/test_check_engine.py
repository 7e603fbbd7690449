"""What ``check`` says of the engine, and ``explain`` of a statement in which it has a part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness.clinic import DDL, POLICY
from tests.harness.server import PostgresServer
from tests.harness.site import open_site

EMBEDDED = "compute: {engine: embedded}\n"
STATEMENT = "SELECT full_name, city FROM patients WHERE ssn = 'secret-1' AND full_name ILIKE '%secret-2%' ORDER BY 1 LIMIT 7"


@pytest.mark.parametrize("settings", ["", EMBEDDED], ids=["off", "embedded"])
def test_check_and_explain(postgres_server: PostgresServer, tmp_path: Path, settings: str) -> None:
    with open_site(postgres_server, tmp_path, policy=POLICY, ddl=DDL, settings=settings, serve=False) as site:
        findings = [f for f in json.loads(site.cli("check", "--json")) if f["topic"] == "engine"]
        assert [f["level"] for f in findings] == ["ok"]
        assert ("compute.engine is off" if not settings else "computes as the server does") in findings[0]["text"]
        explained = json.loads(site.cli("explain", STATEMENT, "--json", check=False))
        assert "secret" not in json.dumps(explained)
        if not settings:
            assert explained["answer"] == "refused"
            assert explained["hint"].endswith("`compute.engine: embedded` would answer this.")
            return
        assert explained["answer"] == "split"
        assert "ILIKE" not in explained["server"]
        assert "ILIKE" in explained["engine"]
        assert "ORDER BY 1" not in explained["server"]
        assert [use for _, use in explained["columns"]] == ["opened: public.patients.full_name as text", "unprotected"]
        assert any("tag of public.patients.ssn" in use for _, use in explained["parameters"])
        assert "the engine, over the opened rows of that" in site.cli("explain", STATEMENT)
