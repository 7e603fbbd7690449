"""docs/quickstart.md: a reader who does what stands there has what it says, on a server without anything."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import Page
from tests.docs.reader import reading
from tests.harness.server import PostgresServer


def test_from_nothing_to_a_table_that_is_protected(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with reading(postgres_server, tmp_path) as shell:
        printed = shell.walk(Page("docs/quickstart.md").section("With a PostgreSQL of your own"))
    assert "guards and tag indexes are there" in printed
    assert "allergic to penicillin|Graz\n" in printed
    assert "\\xf550010|Graz\nrefused\n" in printed
    assert "pg_catalog.substring(ssn, 13, 16)" in printed
