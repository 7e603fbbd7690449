"""Values on their way into columns: rows of salts, and what stops a value."""

from __future__ import annotations

import pytest

from phiproxy.sql.meaning import Store
from tests.sql.ask import PLANNER, VIEW, ask, refusal


def rows(statement: str) -> list[int]:
    """Return the row numbers of the stored values in the order of the server's parameters."""
    plan = PLANNER.statement(statement.encode(), (), VIEW)
    return [use.row for use, _, _ in plan.outputs if isinstance(use, Store)]


def test_what_one_row_gets_is_sealed_together() -> None:
    one, two = rows("UPDATE patients SET (ssn, full_name) = ($1, $2)")
    assert one == two
    one, two = rows("UPDATE patients SET ssn = COALESCE($1, 'x'::varchar(3)), notes = $2")[:2]
    assert one == two


@pytest.mark.parametrize(
    "client",
    [
        "UPDATE patients SET ssn = COALESCE(ssn, $1), notes = COALESCE(notes, $2)",
        "UPDATE patients SET ssn = (SELECT $1 WHERE active), notes = (SELECT $2 WHERE NOT active)",
        "UPDATE patients p SET ssn = CASE p.id WHEN 1 THEN v.a WHEN 2 THEN v.b END FROM (VALUES ($1, $2)) v (a, b)",
        "UPDATE patients SET ssn = COALESCE(ssn, v.a), notes = COALESCE(notes, v.b) FROM (VALUES ($1, $2)) v (a, b)",
        "INSERT INTO patients (ssn) SELECT u.x FROM (VALUES ($1, $2)) v (a, b), LATERAL (SELECT v.a AS x UNION ALL SELECT v.b) u",
        "UPDATE patients SET ssn = (SELECT v.a WHERE active), notes = v.b FROM (VALUES ($1, $2)) v (a, b)",
    ],
)
def test_what_may_go_to_different_rows_is_not(client: str) -> None:
    assert len(set(rows(client))) == len(rows(client)) == 2


def test_results_of_case_go_to_different_rows() -> None:
    found = rows("UPDATE patients SET ssn = CASE id WHEN 1 THEN $1 WHEN 2 THEN $2 END, notes = CASE id WHEN 1 THEN $3 ELSE $4 END")
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    "client",
    [
        "UPDATE patients SET (ssn, city) = (SELECT ssn, ssn FROM patients)",
        "UPDATE patients SET (ssn, city) = $1",
        "UPDATE patients SET ssn = CASE WHEN true THEN city END",
        "UPDATE patients SET ssn = COALESCE('x', now()::text)",
        "UPDATE patients SET ssn = CASE ssn WHEN now()::text THEN $2 END",
        "UPDATE patients SET ssn = GREATEST('x', 'y')",
        "UPDATE patients SET ssn = (SELECT 'x' ORDER BY 1)",
        "UPDATE patients SET ssn = EXISTS (SELECT 1)",
        "UPDATE patients SET city = COALESCE(ssn, 'x')",
    ],
)
def test_refused(client: str) -> None:
    assert ask(client) == "0A000"


def test_a_refusal_stands_where_the_value_stands() -> None:
    client = "UPDATE patients SET ssn = COALESCE('x', initcap('y'))"
    assert refusal(client).position == client.index("initcap") + 1
