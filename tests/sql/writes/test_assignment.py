"""Values on their way into columns: rows of salts, and what stops a value."""

from __future__ import annotations

import pytest

from phiproxy.sql.values.uses import Store
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
    row_numbers = rows(
        "UPDATE patients SET ssn = CASE id WHEN 1 THEN $1 WHEN 2 THEN $2 END, notes = CASE id WHEN 1 THEN $3 ELSE $4 END"
    )
    assert len(set(row_numbers)) == 4


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
def test_a_value_that_the_server_computes_is_not_assigned(client: str) -> None:
    assert ask(client) == "0A000"


def test_a_refusal_stands_where_the_value_stands() -> None:
    client = "UPDATE patients SET ssn = COALESCE('x', initcap('y'))"
    assert refusal(client).position == client.index("initcap") + 1


def limits(statement: str) -> list[int | None]:
    """Return how many characters the casts of each stored value leave."""
    plan = PLANNER.statement(statement.encode(), (), VIEW)
    casts = [use.given.casts if use.given is not None else () for use, _, _ in plan.outputs if isinstance(use, Store)]
    return [min((to.max_length for to in one if to.max_length is not None), default=None) for one in casts]


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("$1", None),
        ("$1::text", None),
        ("$1::varchar(5)", 5),
        ("CAST($1 AS character varying(5))", 5),
        ("($1::varchar(3))::text::varchar(7)", 3),
        ("COALESCE($1, ssn)::varchar", None),
        ("CASE WHEN active THEN $1::varchar(9) END::varchar(4)", 4),
    ],
)
def test_a_cast_to_varchar_n_cuts_what_is_stored(value: str, limit: int | None) -> None:
    assert limits(f"UPDATE patients SET ssn = {value}") == [limit]


def test_such_a_cast_goes_and_gives_the_parameter_its_type() -> None:
    plan = PLANNER.statement(b"UPDATE patients SET ssn = CAST($1 AS varchar(5)), notes = $2::varchar(3)", (), VIEW)
    assert b"varchar" not in plan.sql
    assert plan.described == (1043, 1043)


def test_given_values_are_cut_where_they_are_stored() -> None:
    assert limits("UPDATE patients SET ssn = v.a::varchar(4) FROM (VALUES ($1)) v (a)") == [4]


@pytest.mark.parametrize(
    "value",
    ["ssn::varchar(3)", "$1::varchar(3)[]", "COALESCE($1, ssn)::varchar(3)", "full_name::varchar(9)"],
)
def test_a_cast_that_would_cut_an_envelope_is_refused(value: str) -> None:
    assert ask(f"UPDATE patients SET ssn = {value}") == "0A000"


def test_given_values_of_two_lengths_are_refused() -> None:
    values = "FROM (VALUES ($1)) v (a)"
    assert ask(f"UPDATE patients SET ssn = CASE WHEN active THEN v.a ELSE v.a::varchar(3) END {values}") == "0A000"
