"""docs/authentication-tls.md: the proxy asks for the password itself, with what the page has granted."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import Page
from tests.docs.reader import application, reading
from tests.harness.server import PostgresServer

PAGE = Page("docs/authentication-tls.md")
START = Page("docs/protect-your-table.md")


def test_the_proxy_asks_for_the_password(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with reading(postgres_server, tmp_path, "clinic") as shell:
        application(postgres_server)
        for title in ("Protect your own table", "1. The proxy's own role", "2. Two files", "3. Keys, DDL and a check"):
            shell.walk(START.section(title))
        shell.walk(PAGE.section("SCRAM by the proxy"))
        assert shell.walk(PAGE.section("Try it")) == "clinic_app\nrefused\n"
        assert '"why": "' in (tmp_path / "serve-0.log").read_text()
