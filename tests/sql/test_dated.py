"""Constants that are written as arithmetic; what they are on data is in the fixture pairs."""

from __future__ import annotations

import dataclasses

import pytest

from phiproxy.plan.cache import Planner
from phiproxy.sql.meaning import Search, Store
from tests.clinic_model import CATALOG
from tests.fixtures.model import VIEW, planner
from tests.sql.ask import ask


def literals(statement: str) -> list[bytes]:
    """Return what a statement's protected constants are."""
    plan = planner(17).statement(statement.encode(), (), VIEW)
    return [made for use, _, made in plan.outputs if isinstance(use, Search | Store) and isinstance(made, bytes)]


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("make_date(1980, 1, 31)", b"1980-01-31"),
        ("date '1980-02-28' + 1", b"1980-02-29"),
        ("2 + date '1980-02-28'", b"1980-03-01"),
        ("'1980-03-01'::date - (2 * 3 - 1)", b"1980-02-25"),
        ("date '1980-01-31' + interval '1 month'", b"1980-02-29 00:00:00"),
        ("(interval '1 month 2 days' + timestamp '1980-01-31 12:30')::date", b"1980-03-02"),
        ("pg_catalog.make_date(1980, 1, 1) - interval '1 year 1 minute'", b"1978-12-31 23:59:00"),
        ("CAST(date '1980-01-01' + 1 AS timestamp)", b"1980-01-02 00:00:00"),
    ],
)
def test_they_are_computed(constant: str, value: bytes) -> None:
    assert literals(f"SELECT id FROM people WHERE born = {constant}") == [value]


@pytest.mark.parametrize(
    "constant",
    [
        "date '01/02/1980' + 1",  # by DateStyle
        "date '1980-02-30' + 1",
        "'1980-01-01' + 1",
        "make_date(1980, 13, 1)",
        "make_date(1980, 1.5, 1)",
        "date '9999-12-31' + 1",
        "date '1980-01-01' + interval '-1 day'",  # by IntervalStyle
        "date '1980-01-01' + interval '1' year",
        "date '1980-01-01' + '1 day'",
        "timestamptz '1980-01-01' + interval '1 day'",  # by TimeZone
        "current_date - 30",
        "now()::date",
        "date '1980-01-01' + $1",
        "date '1980-01-01'" + " + 1" * 17,
        "(date '1980-01-01' + 1)::timestamp(0)",
    ],
)
def test_others_are_none(constant: str) -> None:
    assert ask(f"SELECT id FROM people WHERE born = {constant}", VIEW, planner(17)) == "0A000"


@pytest.mark.parametrize("replaced", ["+", "make_date"])
def test_somebodys_own_is_not_computed(replaced: str) -> None:
    known = planner(17)
    own = Planner(known.protection, dataclasses.replace(known.catalog, replaced=frozenset({replaced})), known.ciphers)
    constant = "make_date(1980, 1, 1)" if replaced == "make_date" else "date '1980-01-01' + 1"
    assert ask(f"SELECT id FROM people WHERE born = {constant}", VIEW, own) == "0A000"


def test_an_operator_that_leads_somewhere_else_leaves_the_statement_as_it_is() -> None:
    assert CATALOG.replaced == frozenset()
    statement = b"SELECT id FROM people WHERE id = 1 + 1 AND city = 'x'"
    assert b"id = 1 + 1" in planner(17).statement(statement, (), VIEW).sql


def test_what_was_computed_is_not_said_of_other_constants() -> None:
    known = planner(17)
    texts = [f"SELECT id FROM people WHERE born = make_date(1980, 1, {day})".encode() for day in (1, 2, 1)]
    first, second, third = (known.script(text, VIEW) for text in texts)
    assert [p.rendered.occurrences[0].literal for p in (first, second, third) if p.rendered] == [
        b"1980-01-01", b"1980-01-02", b"1980-01-01",
    ]  # fmt: skip
