"""What passes a value on, and what it becomes where."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.explain import explain
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import PLANNER, VIEW, ask, columns, tag

SSN = tag("ssn")


@pytest.mark.parametrize(
    ("target", "server"),
    [
        ("coalesce(ssn, 'x')", "coalesce(ssn, $1)"),
        ("CASE WHEN active THEN ssn ELSE $1 END AS s", "CASE WHEN active THEN ssn ELSE $1 END AS s"),
        ("coalesce(CASE city WHEN 'a' THEN ssn END, NULL)", "coalesce(CASE city WHEN 'a' THEN ssn END, NULL::bytea)"),
        ("nullif(ssn, '')", f'CASE WHEN {SSN} = $1 THEN NULL ELSE ssn END AS "nullif"'),
        ("nullif(coalesce(ssn, 'x'), 'y') = 'z'", f"nullif(coalesce({SSN}, $1), $2) = $3"),
        ("(SELECT ssn)", "(SELECT ssn)"),
    ],
)
def test_results_and_tags(target: str, server: str) -> None:
    assert ask(f"SELECT {target} FROM public.patients") == f"SELECT {server} FROM public.patients"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("mrn", "varchar(12)"),
        ("coalesce(mrn, mrn)", "varchar(12)"),
        ("CASE WHEN active THEN mrn END", "varchar"),
        ("coalesce(mrn, 'x')", "varchar"),
        ("coalesce(mrn, 'x'::text)", "varchar"),
        ("coalesce('x'::text, mrn)", "text"),
        ("CASE WHEN active THEN 'x'::text ELSE mrn END", "varchar"),
        ("coalesce(mrn, mrn)::text", "text"),
    ],
)
def test_types(target: str, shown: str) -> None:
    plan = PLANNER.statement(f"SELECT {target} FROM patients".encode(), (), VIEW)
    assert plan.columns is not None
    (reveal,) = plan.columns.reveals
    assert reveal is not None
    assert reveal.type.name == shown


def test_given_values_are_shown_when_they_are_protected_elsewhere() -> None:
    assert columns("SELECT $1, 'y', ssn FROM patients WHERE ssn = $1") == ["ssn", None, "ssn"]


@pytest.mark.parametrize(
    "target",
    [
        "coalesce(ssn, city)",
        "coalesce(ssn, full_name)",
        "CASE WHEN active THEN ssn ELSE upper(city) END",
        "nullif('x', ssn)",
        "greatest(ssn, 'x')",
        "coalesce(ssn, city) IS NULL",
    ],
)
def test_refused(target: str) -> None:
    assert ask(f"SELECT {target} FROM patients") == "0A000"


@pytest.mark.parametrize(
    ("replaced", "client", "answer"),
    [
        ("=", "SELECT id FROM patients WHERE ssn = 'x'", "0A000"),
        ("<>", "SELECT id FROM patients WHERE ssn NOT IN ('x', 'y')", "0A000"),
        ("=", "SELECT CASE ssn WHEN 'x' THEN 1 END FROM patients", "0A000"),
        ("=", "SELECT ssn FROM patients WHERE city = 'x'", "rewritten"),
        ("count", "SELECT count(ssn) FROM patients", "0A000"),
        ("count", "SELECT pg_catalog.count(ssn) FROM patients", "rewritten"),
    ],
)
def test_what_somebody_has_made_of_his_own_is_not_asked_about_tags(replaced: str, client: str, answer: str) -> None:
    catalog = dataclasses.replace(CATALOG, replaced=frozenset({replaced}))
    asked = explain(Planner(PROTECTION, catalog, Ciphers(Keyring(lambda: 0.0))), client.encode(), "clinic")
    assert (asked.sqlstate or asked.answer) == answer
    assert bool(asked.hint) is (answer == "0A000")
