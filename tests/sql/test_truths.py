"""A protected truth value as a condition: what the server gets."""

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.policy.types import builtin
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import VIEW, ask, tag


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
def test_refused(statement: str) -> None:
    assert ask(statement, VIEW, PLANNER) in ("0A000", "42804")


def test_an_operator_of_somebodys_own() -> None:
    assert ask("SELECT id FROM patients WHERE ssn", VIEW, planner(frozenset({"="}))) == "0A000"
