"""UNION, INTERSECT, EXCEPT: which types the outputs have, and what is not united; the fixture files have the rewrites."""

from __future__ import annotations

import pytest

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
def test_types(statement: str, shown: str) -> None:
    plan = PLANNER.statement(statement.encode(), (), VIEW)
    assert plan.columns is not None
    (reveal,) = plan.columns.reveals
    assert reveal is not None
    assert reveal.type.name == shown


@pytest.mark.parametrize("operator", ["UNION", "INTERSECT", "EXCEPT", "UNION ALL"])
def test_only_one_identity(operator: str) -> None:
    for other in ("full_name FROM patients", "city FROM patients", "lower(city) FROM patients"):
        assert ask(f"SELECT ssn FROM patients {operator} SELECT {other}") == "0A000"


def test_refusals() -> None:
    assert "without ALL" in (refusal("SELECT ssn FROM patients EXCEPT ALL SELECT ssn FROM patients").hint or "")
    assert refusal("SELECT ssn FROM patients UNION SELECT ssn, id FROM patients").sqlstate == "42601"
    assert refusal("SELECT ssn, upper(city) || 'x', CAST(1 AS xml) FROM patients EXCEPT SELECT ssn, 'x', 1 FROM patients").hint
