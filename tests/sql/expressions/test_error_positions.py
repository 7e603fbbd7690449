"""An operator that does not exist is where the refusal points."""

from __future__ import annotations

import pytest

from phiproxy.errors import PhiproxyError
from tests.sql.ask import PLANNER, VIEW, refusal


@pytest.mark.parametrize(
    ("statement", "operator"),
    [
        ("SELECT 'é' FROM patients WHERE id = 5 AND ssn = 5", "= 5"),
        ("SELECT id FROM patients WHERE ssn IS DISTINCT FROM true", "IS DISTINCT"),
        ("SELECT id FROM patients WHERE ssn NOT IN ('x', 5::int)", "NOT IN"),
        ("SELECT id FROM patients WHERE ssn = ANY (ARRAY[5])", "= ANY"),
        ("SELECT id FROM patients WHERE (id, ssn) = (1, 5)", "= (1"),
        ("SELECT CASE ssn WHEN 'x' THEN 1 WHEN 5 THEN 2 END FROM patients", "WHEN 5"),
        ("SELECT nullif(ssn, 5) FROM patients", "nullif"),
        ("SELECT id FROM patients WHERE ssn < 5", "< 5"),
        ("SELECT id FROM patients WHERE id = 1 OR 5 >= ssn", ">="),
    ],
)
def test_a_missing_operator_is_pointed_at(statement: str, operator: str) -> None:
    refused = refusal(statement)
    assert (refused.sqlstate, refused.position) == ("42883", statement.rindex(operator) + 1)


@pytest.mark.parametrize(
    ("statement", "operator", "state"),
    [
        ("SELECT 'é' FROM patients WHERE id = 5 AND (ssn = $1)", "= $1", "42883"),
        ("SELECT id FROM patients WHERE city = 'c' OR NOT ssn IN ('x', $1)", "IN (", "42883"),
        ("SELECT id FROM patients WHERE ssn = ANY ($1)", "= ANY", "42809"),
    ],
)
def test_the_place_of_a_declared_parameter(statement: str, operator: str, state: str) -> None:
    with pytest.raises(PhiproxyError) as refused:
        PLANNER.statement(statement.encode(), (16,), VIEW)
    assert (refused.value.sqlstate, refused.value.position) == (state, statement.rindex(operator) + 1)


def test_what_is_about_a_parameter_points_at_it() -> None:
    statement = "INSERT INTO patients (ssn) VALUES ($1)"
    with pytest.raises(PhiproxyError) as refused:
        PLANNER.statement(statement.encode(), (17,), VIEW)
    assert refused.value.position == statement.index("$1") + 1


@pytest.mark.parametrize(
    ("client", "state"),
    [
        ("INSERT INTO patients (mrn) VALUES (CASE WHEN true THEN $1::text ELSE $1 END)", ""),
        ("INSERT INTO patients (mrn) VALUES (COALESCE($1::int8::text, $1))", "42804"),
        ("SELECT id FROM patients WHERE COALESCE(mrn, $1) = $1", "0A000"),
    ],
)
def test_a_parameter_that_stands_twice_in_a_choice(client: str, state: str) -> None:
    if state:
        assert refusal(client).sqlstate == state
    else:
        assert PLANNER.statement(client.encode(), (), VIEW).touches
