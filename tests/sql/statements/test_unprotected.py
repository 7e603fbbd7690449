"""What touches nothing protected is sent as it is, its names being what they were taken for."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.errors import CatalogNeeded, PathNeeded
from tests.sql.ask import VIEW, ask


@pytest.mark.parametrize(
    "client",
    [
        "SELECT 1",
        "INSERT INTO log (msg) VALUES ('patients were loaded, ssn 5')",
        "SELECT notes FROM log",
        "SELECT ssn FROM archive.patients",
        "SELECT relname FROM pg_class WHERE relname = 'patients'",
        "SELECT 'patients'::regclass",
        "WITH patients2 AS (SELECT 1 AS ssn) SELECT ssn FROM patients2",
        "SELECT run_sql('select 1')",
        "UPDATE log SET notes = 'x' RETURNING notes",
        "MERGE INTO log USING log l ON log.id = l.id WHEN MATCHED THEN UPDATE SET notes = 'x'",
    ],
)
def test_a_statement_that_touches_nothing_protected_goes_on_as_it_is(client: str) -> None:
    assert ask(client) == "="


def test_the_registry_is_for_nobody() -> None:
    assert ask("SELECT * FROM phiproxy.root_key") == "42501"
    assert ask("DELETE FROM phiproxy.data_key WHERE id IN (SELECT id FROM patients)") == "42501"


def test_an_unknown_path_is_asked_for_only_where_it_matters() -> None:
    lost = dataclasses.replace(VIEW, path=None)
    assert ask("SELECT 1", lost) == "="
    assert ask("SELECT city FROM public.patients", lost) == "SELECT city FROM public.patients"
    with pytest.raises(PathNeeded):
        ask("SELECT city FROM patients", lost)


def test_another_path_finds_another_table_and_says_so() -> None:
    other = dataclasses.replace(VIEW, path=("archive", "public"))
    assert ask("SELECT ssn FROM patients WHERE ssn = 'x'", other) == "SELECT ssn FROM \"archive\".patients WHERE ssn = 'x'"


def test_a_name_that_is_not_known_is_looked_for_once_more() -> None:
    stale = dataclasses.replace(VIEW, catalog_fresh=False)
    with pytest.raises(CatalogNeeded):
        ask("INSERT INTO fresh (ssn) VALUES ('x')", stale)
    view = dataclasses.replace(VIEW, created=frozenset({"fresh"}))
    assert ask("INSERT INTO fresh (ssn) VALUES ('x')", view) == "="


def test_a_cte_hides_a_protected_table() -> None:
    assert ask("WITH patients AS (SELECT 1 AS ssn) SELECT ssn FROM patients WHERE ssn = 5") == "="


@pytest.mark.parametrize(
    ("client", "code"),
    [
        ("SELECT sn FROM patients WHERE ssn = '123' AND nope = 1", "42703"),
        ("SELECT 1 FROM patientz WHERE ssn = 'x'", "42P01"),
        ("INSERT INTO patientz (ssn) VALUES ('x')", "42P01"),
        ("SELECT ssn '123' FROM log", "42704"),
    ],
)
def test_a_mistyped_name_is_answered_before_its_literals_are_logged(client: str, code: str) -> None:
    assert ask(client) == code
