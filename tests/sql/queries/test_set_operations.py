"""UNION, INTERSECT, EXCEPT: which types the outputs have, and what is not united; the fixture files have the rewrites."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION
from tests.sql.ask import PLANNER, VIEW, ask, refusal


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("SELECT mrn FROM patients UNION ALL SELECT mrn FROM visits", "varchar(12)"),
        ("SELECT mrn FROM patients UNION SELECT mrn FROM visits", "varchar(12)"),
        ("SELECT mrn FROM patients UNION ALL SELECT 'x'", "varchar"),
        ("SELECT mrn FROM patients UNION ALL SELECT $1::text", "varchar"),
        ("SELECT NULL::varchar UNION ALL SELECT mrn FROM patients", "varchar"),
    ],
)
def test_a_set_operation_has_the_common_type_of_its_queries(statement: str, shown: str) -> None:
    plan = PLANNER.statement(statement.encode(), (), VIEW)
    assert plan.columns is not None
    (reveal,) = plan.columns.reveals
    assert reveal is not None
    assert reveal.type.name == shown


def test_the_left_rows_pass_as_they_are_from_postgresql_18_on() -> None:
    newer = Planner(PROTECTION, dataclasses.replace(CATALOG, server_version=180000), Ciphers(Keyring(lambda: 0.0)))
    for planner, planned in ((PLANNER, None), (newer, "varchar(12)")):
        for operator in ("INTERSECT", "EXCEPT"):
            plan = planner.statement(f"SELECT mrn FROM patients {operator} SELECT 'x'".encode(), (), VIEW)
            assert plan.columns is not None
            (reveal,) = plan.columns.reveals
            assert reveal is not None
            assert reveal.type.name == "varchar"
            assert (reveal.planned and reveal.planned.name) == planned


@pytest.mark.parametrize("operator", ["UNION", "INTERSECT", "EXCEPT", "UNION ALL"])
def test_columns_of_another_identity_are_not_put_one_below_the_other(operator: str) -> None:
    for other in ("full_name FROM patients", "city FROM patients", "lower(city) FROM patients"):
        assert ask(f"SELECT ssn FROM patients {operator} SELECT {other}") == "0A000"


def test_what_is_refused_says_what_would_work() -> None:
    assert "without ALL" in (refusal("SELECT ssn FROM patients EXCEPT ALL SELECT ssn FROM patients").hint or "")
    assert refusal("SELECT ssn FROM patients UNION SELECT ssn, id FROM patients").sqlstate == "42601"
    assert refusal("SELECT ssn, upper(city) || 'x', CAST(1 AS xml) FROM patients EXCEPT SELECT ssn, 'x', 1 FROM patients").hint
