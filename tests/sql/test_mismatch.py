"""What PostgreSQL would refuse too has its SQLSTATE; a column of given values in a condition is an ordinary one."""

from __future__ import annotations

import pytest

from tests.sql.ask import ask


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
