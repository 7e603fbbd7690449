"""Conditions: what PostgreSQL would refuse too has its SQLSTATE; given values are ordinary columns; protected truth values."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.policy.column_types import builtin
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import VIEW, ask, tag


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM patients WHERE ssn",
        "SELECT id FROM patients GROUP BY id HAVING ssn IS NULL AND ssn",
        "SELECT NOT ssn FROM patients",
        "SELECT ssn IS UNKNOWN FROM patients",
        "SELECT CASE WHEN ssn THEN 1 END FROM patients",
        "DELETE FROM patients WHERE ssn",
        "SELECT 1 FROM patients p JOIN visits v ON p.ssn",
    ],
)
def test_a_text_is_no_condition(text: str) -> None:
    assert ask(text) == "42804"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM patients WHERE ssn IN (SELECT ssn, id FROM patients)",
        "SELECT id FROM patients WHERE (ssn, id) IN (SELECT ssn FROM patients)",
        "SELECT id FROM patients WHERE (ssn, id) IN (('x', 1), ('y', 2, 3))",
        "SELECT id FROM patients WHERE (ssn, id) = ROW('a')",
        "UPDATE patients SET (ssn, id) = ROW('x', 1, 2)",
    ],
)
def test_other_numbers_of_columns(text: str) -> None:
    assert ask(text) == "42601"


def test_given_values_may_be_conditions() -> None:
    assert "WHERE v.b" in ask("SELECT p.id FROM patients p, (VALUES (true), ('f')) v (b) WHERE v.b AND p.ssn = 'x'")
    assert ask("SELECT p.id FROM patients p, (VALUES ('t'), ('f')) v (b) WHERE v.b AND p.ssn = 'x'") == "42804"


def planner(replaced: frozenset[str] = frozenset()) -> Planner:
    """The clinic with a truth value in place of one of its texts."""
    table = PROTECTION.by_name["public", "patients"]
    active = dataclasses.replace(table.columns["ssn"], type=builtin("bool"))
    tables = tuple(dataclasses.replace(t, columns={**t.columns, "ssn": active}) if t is table else t for t in PROTECTION.tables)
    catalog = dataclasses.replace(CATALOG, replaced=replaced)
    return Planner(dataclasses.replace(PROTECTION, tables=tables), catalog, Ciphers(Keyring(lambda: 0.0)))


PLANNER = planner()


@pytest.mark.parametrize(
    ("condition", "server"),
    [
        ("ssn", f"{tag('ssn')} = $1"),
        ("NOT p.ssn", f"NOT {tag('p.ssn')} = $1"),
        ("ssn IS NOT TRUE", f"{tag('ssn')} = $1 IS NOT TRUE"),
        ("(ssn) AND id = 5", f"({tag('ssn')} = $1) AND id = 5"),
        ("ssn = true", f"{tag('ssn')} = $1"),
        ("COALESCE(ssn, true)", f"COALESCE({tag('ssn')}, $1) = $1"),
        ("NOT (COALESCE(ssn, false)) OR id = 5", f"NOT (COALESCE({tag('ssn')}, $1) = $2) OR id = 5"),
    ],
)
def test_it_is_compared_with_true(condition: str, server: str) -> None:
    select = "SELECT id FROM public.patients p WHERE "
    assert ask(select + condition, VIEW, PLANNER) == select + server


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM patients WHERE notes",
        "SELECT bool_and(ssn) FROM patients",
        "SELECT id FROM patients WHERE COALESCE(ssn, city)",
        "SELECT id FROM patients WHERE CASE WHEN id = 1 THEN ssn END",
        "SELECT id FROM patients ORDER BY NOT ssn, ssn",
    ],
)
def test_what_is_no_truth_value_or_has_no_order_is_refused(statement: str) -> None:
    assert ask(statement, VIEW, PLANNER) in ("0A000", "42804")


def test_an_operator_of_somebodys_own() -> None:
    assert ask("SELECT id FROM patients WHERE ssn", VIEW, planner(frozenset({"="}))) == "0A000"
