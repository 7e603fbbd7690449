"""The type of a parameter beside others (tried on PostgreSQL 15)."""

from __future__ import annotations

import pytest

from tests.sql.ask import PLANNER, VIEW


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
def test_parameter(assignment: str, oid: int) -> None:
    plan = PLANNER.statement(f"UPDATE patients SET {assignment}".encode(), (), VIEW)
    assert plan.described == (oid,)
