"""docs/jobs.md: what is stored moves to other keys, an index is filled, and jobs are listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Page, Shell
from tests.docs.reader import application, reading
from tests.harness.server import PostgresServer

PAGE = Page("docs/jobs.md")
START = Page("docs/protect-your-table.md")
THROUGH = "psql -q postgresql://clinic_app:change-me-app@127.0.0.1:6432/clinic"


@pytest.fixture
def shell(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Shell]:
    """The clinic of protect-your-table.md, with 300 patients."""
    with reading(postgres_server, tmp_path, "clinic") as shell:
        application(postgres_server)
        steps = ("Protect your own table", "1. The proxy's own role", "2. Two files", "3. Keys, DDL and a check", "4. Serve")
        for title in steps:
            shell.walk(START.section(title))
        rows = ", ".join(f"('123-45-{n}', 'Ann {n}')" for n in range(1000, 1300))
        shell.run(f'{THROUGH} -c "INSERT INTO patients (ssn, full_name) VALUES {rows}"\n')
        yield shell


def test_values_are_taken_to_other_keys(shell: Shell) -> None:
    for title in ("Recrypt", "What the proxy's role needs"):
        shell.walk(PAGE.section(title))
    policy = shell.directory / "policy.yaml"
    policy.write_text(policy.read_text().replace('"left(full_name, 3)"]', '"left(full_name, 3)", "right(full_name, 4)"]'))
    shell.run("phiproxy keys init\n")
    assert "guards and tag indexes are there" in shell.walk(PAGE.section("Reindex"))
    shell.walk(PAGE.section("Jobs"))
    jobs = json.loads(shell.run("phiproxy jobs --json\n"))
    assert [(job["kind"], job["state"]) for job in jobs] == [("recrypt", "done"), ("reindex", "done"), ("reindex", "done")]
    assert shell.run(f"{THROUGH} -Atc \"SELECT full_name FROM patients WHERE ssn = '123-45-1042'\"\n") == "Ann 1042\n"
