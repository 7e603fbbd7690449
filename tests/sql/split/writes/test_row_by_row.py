"""Aggregates, window functions and sets in the clauses of a write that PostgreSQL evaluates row by row."""

from __future__ import annotations

import pytest

from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.row_by_row import check_row_by_row
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import planner

SIGNATURES = planner().catalog.signatures
SEVERAL = (
    "max(ssn)", "row_number() OVER ()", "count(*) OVER ()", "generate_series(1, 2)::text", "upper(unnest(ARRAY[ssn]))",
    "GROUPING(ssn)", "coalesce(pg_catalog.max(ssn), 'x')", "percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn)",
)  # fmt: skip
CLAUSES = (
    "UPDATE patients SET city = 'x' RETURNING id, {}",
    "UPDATE patients SET ssn = {}",
    "UPDATE patients SET (city, ssn) = ('x', {})",
    "DELETE FROM patients RETURNING {}",
    "INSERT INTO patients (ssn) VALUES ({})",
    "INSERT INTO patients (ssn) VALUES ('x'), ({})",
    "INSERT INTO patients (ssn) VALUES ('x') RETURNING {}",
    "INSERT INTO patients (ssn) VALUES ('x') ON CONFLICT (ssn) DO UPDATE SET ssn = {}",
    "INSERT INTO patients (ssn) VALUES ('x') ON CONFLICT (ssn) DO UPDATE SET city = 'x' WHERE {} = 'x'",
    "MERGE INTO patients p USING visits v ON p.mrn = v.mrn WHEN MATCHED THEN UPDATE SET ssn = {}",
    "MERGE INTO patients p USING visits v ON p.mrn = v.mrn WHEN MATCHED AND {} = 'x' THEN DELETE",
    "MERGE INTO patients p USING visits v ON p.mrn = v.mrn WHEN NOT MATCHED THEN INSERT (ssn) VALUES ({})",
    "WITH x AS (UPDATE patients SET city = 'x' RETURNING {} AS y) SELECT y FROM x",
    "SELECT 1 FROM patients WHERE id IN (1) UNION ALL (WITH x AS (DELETE FROM visits RETURNING {} AS y) SELECT 1 FROM x)",
)


def check(text: str) -> None:
    assert SIGNATURES is not None
    (statement,) = parse(text.encode())
    check_row_by_row(statement, SIGNATURES)


@pytest.mark.parametrize("clause", CLAUSES)
def test_nothing_of_several_rows(clause: str) -> None:
    for value in SEVERAL:
        with pytest.raises(Impossible):
            check(clause.format(value))
    for value in ("upper(ssn)", "(SELECT max(ssn) FROM patients)", "(SELECT generate_series(1, 1)::text)", "$1"):
        check(clause.format(value))


def test_in_queries_they_may_be() -> None:
    check("INSERT INTO patients (ssn) SELECT max(ssn) FROM patients")
    check("INSERT INTO patients (ssn) SELECT unnest(ARRAY['a', 'b'])")
    check("UPDATE patients SET ssn = q.m FROM (SELECT max(ssn) AS m FROM patients) q RETURNING id")
    check("UPDATE patients SET (ssn, city) = (SELECT max(ssn), 'x' FROM patients)")
