"""CASE, COALESCE and NULLIF: their type once the statement is planned, and what they compare (tried on PostgreSQL 15)."""

from __future__ import annotations

import pytest

from tests.sql.ask import PLANNER, VIEW, ask, tag

SELECT = 'SELECT id FROM "public".patients WHERE '


@pytest.mark.parametrize(
    ("client", "planned"),
    [
        ("SELECT CASE WHEN true THEN mrn END FROM patients", "varchar(12)"),
        ("SELECT CASE WHEN false THEN 'x' ELSE mrn END FROM patients", "varchar(12)"),
        ("SELECT CASE WHEN id > 1 THEN mrn WHEN true THEN mrn ELSE 'x' END FROM patients", "varchar(12)"),
        ("SELECT CASE WHEN false THEN mrn WHEN id > 1 THEN mrn END FROM patients", "varchar"),
        ("SELECT CASE WHEN id > 1 THEN mrn ELSE 'x' END FROM patients", None),
    ],
)
def test_constants_among_the_conditions_of_case_decide_the_type_once_it_is_planned(client: str, planned: str | None) -> None:
    columns = PLANNER.statement(client.encode(), (), VIEW).columns
    assert columns is not None
    (reveal,) = columns.reveals
    assert reveal is not None
    assert (reveal.planned.name if reveal.planned is not None else None) == planned


def test_case_compares_a_literal_without_a_type_as_a_text() -> None:
    assert ask(SELECT + "CASE 'x' WHEN ssn THEN true END") == SELECT + f"CASE $1 WHEN {tag('ssn')} THEN true END"


@pytest.mark.parametrize(
    ("assignment", "oid"),
    [
        ("mrn = $1", 1043),
        ("ssn = $1", 25),
        ("mrn = CASE id WHEN 1 THEN $1 END", 25),
        ("mrn = CASE id WHEN 1 THEN $1 ELSE mrn END", 1043),
        ("ssn = CASE id WHEN 1 THEN $1 WHEN 2 THEN NULL::varchar END", 1043),
        ("ssn = CASE id WHEN 1 THEN 'x'::text WHEN 2 THEN $1 ELSE NULL::varchar END", 1043),
        ("ssn = CASE id WHEN 1 THEN $1 WHEN 2 THEN 'x'::varchar(3) END", 1043),
        ("mrn = COALESCE($1, mrn)", 1043),
        ("ssn = COALESCE($1, ssn)", 25),
        ("mrn = COALESCE($1, 'x')", 25),
        ("mrn = COALESCE($1, CASE id WHEN 1 THEN 'x' ELSE mrn END)", 1043),
        ("mrn = COALESCE($1, COALESCE(NULL, mrn))", 1043),
        ("mrn = (SELECT $1)", 25),
        ("(mrn, city) = ($1, 'x')", 1043),
        ("(mrn, city) = (SELECT $1, 'x')", 25),
        ("mrn = COALESCE($1, (SELECT 'x'))", 25),
    ],
)
def test_else_and_the_column_decide_the_type_of_a_parameter(assignment: str, oid: int) -> None:
    plan = PLANNER.statement(f"UPDATE patients SET {assignment}".encode(), (), VIEW)
    assert plan.described == (oid,)
