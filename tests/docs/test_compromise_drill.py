"""docs/compromise-drill.md: the drill, as a reader exercises it."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import Page
from tests.docs.reader import application, reading
from tests.harness.server import PostgresServer

PAGE = Page("docs/compromise-drill.md")
START = Page("docs/protect-your-table.md")


def test_the_drill(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with reading(postgres_server, tmp_path, "clinic") as shell:
        application(postgres_server)
        steps = ("Protect your own table", "1. The proxy's own role", "2. Two files", "3. Keys, DDL and a check", "4. Serve")
        for title in steps:
            shell.walk(START.section(title))
        shell.walk(Page("docs/jobs.md").section("What the proxy's role needs"))
        shell.walk(PAGE.section("Some patients"))
        assert shell.walk(PAGE.section("A data key")).endswith("\n0\nAnn Miller\n")
        assert "guards and tag indexes are there" in shell.walk(PAGE.section("The KEK"))
    texts = [path.read_text() for path in sorted(tmp_path.glob("incident-*.md"))]
    assert len(texts) == 2
    assert "a core dump left the building" in texts[0]
    assert "The four factors (45 CFR 164.402(2))" in texts[1]
