"""Casts to varchar(n) of what is stored."""

from __future__ import annotations

import pytest

from phiproxy.sql.meaning import Store
from tests.sql.ask import PLANNER, VIEW, ask


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
def test_what_casts_leave(value: str, limit: int | None) -> None:
    assert limits(f"UPDATE patients SET ssn = {value}") == [limit]


def test_casts_are_gone_and_give_the_parameter_its_type() -> None:
    plan = PLANNER.statement(b"UPDATE patients SET ssn = CAST($1 AS varchar(5)), notes = $2::varchar(3)", (), VIEW)
    assert b"varchar" not in plan.sql
    assert plan.described == (1043, 1043)


def test_given_values_are_cut_where_they_are_stored() -> None:
    assert limits("UPDATE patients SET ssn = v.a::varchar(4) FROM (VALUES ($1)) v (a)") == [4]


@pytest.mark.parametrize(
    "value",
    ["ssn::varchar(3)", "$1::varchar(3)[]", "COALESCE($1, ssn)::varchar(3)", "full_name::varchar(9)"],
)
def test_refused(value: str) -> None:
    assert ask(f"UPDATE patients SET ssn = {value}") == "0A000"


def test_two_lengths_of_given_values_are_refused() -> None:
    values = "FROM (VALUES ($1)) v (a)"
    assert ask(f"UPDATE patients SET ssn = CASE WHEN active THEN v.a ELSE v.a::varchar(3) END {values}") == "0A000"
