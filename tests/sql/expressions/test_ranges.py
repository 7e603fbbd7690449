"""Ranges in statements; what they answer on data is in the fixture pairs."""

from __future__ import annotations

import pytest

from phiproxy.errors import PhiproxyError
from phiproxy.sql.result import BoundPair
from phiproxy.sql.values.uses import Search
from tests.fixtures.model import VIEW, planner

SELECT = "SELECT id FROM people WHERE "


def refused(statement: str) -> PhiproxyError:
    with pytest.raises(PhiproxyError) as caught:
        planner().statement(statement.encode(), (), VIEW)
    return caught.value


def test_each_index_that_may_answer_has_a_parameter_made_of_both_ends() -> None:
    plan = planner().statement(f"{SELECT}born >= $2 AND city = $1 AND born < $3".encode(), (), VIEW)
    pairs = [source for _, _, source in plan.outputs if isinstance(source, BoundPair)]
    assert [list(pair.numbers()) for pair in pairs] == [[1, 2]] * 3
    parts = {use.range.parts[use.range.own] for use, _, _ in plan.outputs if isinstance(use, Search) and use.range is not None}
    assert parts == {"@", "extract('year',@)", "date_trunc('month',@::timestamp)"}
    assert plan.described == (None, 1082, 1082)
    assert plan.read_inputs() == {1, 2}


def test_an_end_may_be_compared_elsewhere_too() -> None:
    plan = planner().statement(f"{SELECT}born BETWEEN $1 AND $2 OR born = $1".encode(), (), VIEW)
    assert plan.sql.decode().endswith("OR pg_catalog.substring(born, 13, 16) = $1")


def test_an_end_that_is_used_unprotected_is_refused() -> None:
    assert refused("SELECT id FROM people WHERE id = $1 AND born BETWEEN $1 AND $2").sqlstate == "0A000"


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("born >= '1980-01-01'", "A range has two ends, as in born >= … AND born < …"),
        ("born >= '1980-01-01'", "`born` or `extract('year',born)` or `date_trunc('month',born::timestamp)`"),
        ("born >= '1980-01-01'", "at most 1000 of these"),
        ("born BETWEEN NULL AND '1980-01-01' IS NULL", "give both ends"),
        ("name > 'a'", "no order"),
        ("extract(month from born) BETWEEN 1 AND 3", "Add `extract(month from born)` to the indexes of public.people.born"),
    ],
)
def test_a_refusal_names_the_index_that_would_answer(condition: str, hint: str) -> None:
    error = refused(SELECT + condition)
    assert error.sqlstate == "0A000"
    assert hint in (error.hint or "")


def test_without_an_index_it_is_said_which_would_answer() -> None:
    error = refused("SELECT id FROM stays WHERE discharged::date BETWEEN '1980-01-01' AND '1980-12-31'")
    assert error.sqlstate == "0A000"
    error = refused("SELECT id FROM stays WHERE date_part('hour', admitted) BETWEEN 1 AND 2")
    assert "Add `date_part('hour',admitted)`" in (error.hint or "")


def test_the_operator_that_there_is_not_is_named() -> None:
    error = refused("SELECT id FROM people WHERE born >= 1 AND born < '1981-01-01'")
    assert (error.sqlstate, "date >= integer" in error.public_text) == ("42883", True)


def test_literals_of_one_shape_share_what_was_understood() -> None:
    texts = [
        planner().statement(f"SELECT id FROM people WHERE born BETWEEN '{year}-01-01' AND '{year}-12-31'".encode(), (), VIEW).sql
        for year in (1980, 1981)
    ]
    assert texts[0] == texts[1]
