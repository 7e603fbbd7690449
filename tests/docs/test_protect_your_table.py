"""docs/protect-your-table.md: its steps one after the other, its migrations, and its table of indexes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.conftest import Clinic
from tests.docs.pages import Page, Shell
from tests.docs.reader import application, reading
from tests.harness.server import PostgresServer

PAGE = Page("docs/protect-your-table.md")


@pytest.fixture
def shell(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Shell]:
    with reading(postgres_server, tmp_path, "clinic") as shell:
        application(postgres_server)
        yield shell


def test_step_by_step(shell: Shell) -> None:
    shell.walk(PAGE.section("Protect your own table"))
    for step in ("1. The proxy's own role", "2. Two files", "3. Keys, DDL and a check", "4. Serve"):
        shell.walk(PAGE.section(step))
    printed = shell.walk(PAGE.section("5. Point the application at port 6432"))
    assert printed == "INSERT 0 1\nAda Smith\n123-45-6789\n1\n"
    shell.walk(PAGE.section("6. Back up"))
    value = shell.run("psql -Atc 'SELECT ssn FROM patients'").strip()
    assert shell.run(f"phiproxy open --registry registry.json '{value}'") == "123-45-6789\n"


def test_migrations_make_the_tables(shell: Shell) -> None:
    shell.walk(PAGE.section("Protect your own table"))
    shell.walk(PAGE.section("1. The proxy's own role"))
    shell.walk(PAGE.section("2. Two files"))
    printed = shell.walk(PAGE.section("Let your migrations make the tables"))
    assert printed.endswith("INSERT 0 1\nINSERT 0 1\nunknown|A3\n1\n")
    assert "guards and tag indexes are there" in shell.run("phiproxy check")


# The rows of the table under "Which indexes", and what the proxy says of them.
ASKED = {
    "ssn = $1": "ssn",
    "ssn IN ($1, $2)": "ssn",
    "ssn <> $1": "ssn",
    "lower(name) = lower($1)": "lower(name)",
    "name ILIKE 'smith'": "lower(name)",
    "upper(name) = $1": "upper(name)",
    "name LIKE 'Smi%'": "left(name, 3)",
    "name ILIKE 'smi%'": "left(lower(name), 3)",
    "ssn LIKE '%6789'": "right(ssn, 4)",
    "right(ssn, 4) = $1": "right(ssn, 4)",
    "extract(year from born) = 1980": "extract(year from born)",
    "born >= '1980-01-01' AND born < '1981-07-01'": "extract(year from born) & date_trunc('month', born::timestamp)",
    "born BETWEEN '1980-01-01' AND '1980-01-20'": "born",
    r"regexp_replace(mobile, '\D', '', 'g') = $1": r"regexp_replace(mobile, '\D', '', 'g')",
    "soundex(name) = soundex('Smyth')": "soundex(name)",
    "metaphone(name, 8) = metaphone('Smyth', 8)": "metaphone(name, 8)",
    "dmetaphone(name) = dmetaphone('Smyth')": "dmetaphone(name)",
}


@pytest.mark.parametrize("condition", ASKED)
def test_an_index_answers_what_the_page_says(clinic: Clinic, condition: str) -> None:
    """And none of the conditions is answered without one."""
    clinic.sql("DROP TABLE patients; CREATE TABLE patients (ssn text, name text, born date, mobile text)")
    clinic.sql("CREATE EXTENSION IF NOT EXISTS fuzzystrmatch")
    wanted = ASKED[condition].split(" & ")
    head = clinic.policy.read_text().partition("tables:")[0]
    columns = {"ssn": "text", "name": "text", "born": "date", "mobile": "text"}
    lines = [f"      {name}: {{type: {kind}}}\n" for name, kind in columns.items() if name not in wanted[0]]
    (column,) = (name for name in columns if name in wanted[0])

    def explained(indexes: list[str]) -> tuple[int, str]:
        own = f"      {column}: {{type: {columns[column]}, accept_leakage: test, indexes: {json.dumps(indexes)}}}\n"
        clinic.policy.write_text("".join([head, "tables:\n  public.patients:\n    columns:\n", *lines, own]))
        clinic.ok("keys", "init")
        code, out, err = clinic.run("explain", f"SELECT 1 FROM patients WHERE {condition}")
        return code, out + err

    clinic.sql("ALTER TABLE patients " + ", ".join(f"ALTER {name} TYPE bytea USING NULL" for name in columns))
    code, said = explained([])
    assert "err-no-index" in said or "err-refused" in said, said
    code, said = explained(wanted)
    assert code == 0, said
