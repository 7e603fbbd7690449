"""docs/documents.md: what it says to be answered is answered, what it leaves to the engine needs one, its examples are true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pglast.parser import split

from phiproxy.plan.explanation import Explanation
from tests.commands.conftest import CONFIG
from tests.docs.pages import DOCS, Page, Shell
from tests.harness.server import PostgresServer
from tests.harness.site import open_site

PAGE = Page("docs/documents.md")


def statements(section: str) -> list[str]:
    return [text for block in PAGE.section(section) if block.language == "sql" for text in split(block.text)]


SECTIONS = ("What works on a whole document", "Paths that come as parameters", "Containment")
WORKS = [text for title in SECTIONS for text in statements(title)]


@pytest.fixture(scope="module")
def shell(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The page's table under its policy."""
    server, directory = postgres_server, tmp_path_factory.mktemp("documents")
    name = server.create_database()
    (directory / "phiproxy.yaml").write_text(CONFIG.format(host=server.host, port=server.port, user=server.superuser))
    env = {"PHIPROXY_SERVICE_PASSWORD": server.password}
    here = {"database: clinic\n": f"database: {name}\n"}
    try:
        with Shell(directory, env=env, replace=here, server=server, database=name) as shell:
            shell.walk(PAGE.section("Documents"))
            shell.run("phiproxy keys init\nphiproxy ddl | psql -q\n")
            yield shell
    finally:
        server.drop_database(name)


@pytest.mark.parametrize("explain", WORKS, indirect=True)
def test_it_works(explain: Explanation) -> None:
    assert explain.answer == "rewritten", f"{explain.message}; {explain.hint}"


@pytest.mark.parametrize("explain", statements("What an engine computes"), indirect=True)
def test_it_needs_an_engine(explain: Explanation) -> None:
    assert explain.answer == "refused"
    assert "compute.engine: embedded" in explain.hint


TEXT = (DOCS / "documents.md").read_text()
EXAMPLES = ["A first example", "Everything but what is listed"]


def _section(title: str) -> str:
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def _blocks(title: str, language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", _section(title), re.DOTALL))


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_answered_as_without_a_proxy(title: str, postgres_server: PostgresServer, tmp_path: Path) -> None:
    policy = _blocks(title, "yaml").replace("database: clinic", "database: {database}")
    ddl, *statements = _blocks(title, "sql").strip().removesuffix(";").split(";\n")
    with open_site(postgres_server, tmp_path, policy=policy, ddl=ddl, settings="compute: {engine: embedded}\n") as site:
        answers: list[list[Any]] = []
        for dsn in (site.plain_dsn, site.proxy_dsn):
            with psycopg.connect(dsn, autocommit=True) as conn:
                cursors = [conn.execute(statement.encode()) for statement in statements]
                answers.append([cursor.fetchall() if cursor.description else cursor.rowcount for cursor in cursors])
        assert answers[0] == answers[1]
        assert all(answers[0]), "an example shows something"
        table = "records" if "records" in ddl else "patients"
        with psycopg.connect(site.sealed_dsn) as conn:
            stored = str(conn.execute(f"SELECT * FROM {table}".encode()).fetchall())
        assert "phi1:f5500101" in stored
        for word in ("123-45-6789", "John Smith", "Hyp", "Asthma", "is sealed"):
            assert word not in stored
