"""docs/sql-support.md: each statement under "What works" works, and each one under "What is refused" is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pglast.parser import split

from phiproxy.plan.explanation import Explanation
from tests.commands.conftest import CONFIG
from tests.docs.pages import Page, Shell, fenced_blocks
from tests.harness.server import PostgresServer

PAGE = Page("docs/sql-support.md")
WORKS, REFUSED = re.split(r"^## What is refused$", PAGE.text.partition("## What works\n")[2], flags=re.MULTILINE)


def statements(part: str) -> list[str]:
    return [text for block in fenced_blocks(part) if block.language == "sql" for text in split(block.text)]


@pytest.fixture(scope="module")
def shell(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The page's tables under its policy."""
    server, directory = postgres_server, tmp_path_factory.mktemp("sql")
    name = server.create_database()
    (directory / "phiproxy.yaml").write_text(CONFIG.format(host=server.host, port=server.port, user=server.superuser))
    env = {"PHIPROXY_SERVICE_PASSWORD": server.password}
    here = {"database: clinic\n": f"database: {name}\n"}
    try:
        with Shell(directory, env=env, replace=here, server=server, database=name) as shell:
            shell.run("psql -qc 'CREATE EXTENSION fuzzystrmatch'\n")
            shell.walk(PAGE.section("What SQL works"))
            shell.run("phiproxy keys init\nphiproxy ddl | psql -q\n")
            yield shell
    finally:
        server.drop_database(name)


@pytest.mark.parametrize("explain", statements(WORKS), indirect=True)
def test_it_works(explain: Explanation) -> None:
    assert explain.answer in ("rewritten", "forwarded"), f"{explain.message}; {explain.hint}"


@pytest.mark.parametrize("explain", statements(REFUSED), indirect=True)
def test_it_is_refused(explain: Explanation) -> None:
    assert explain.answer == "refused"
    assert explain.message.startswith("phiproxy: ")
