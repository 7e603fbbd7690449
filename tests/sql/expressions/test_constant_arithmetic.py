"""Constants that are written as arithmetic; what they are on data is in the fixture pairs."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.sql.values.uses import Search, Store
from tests.clinic_model import CATALOG
from tests.fixtures.model import VIEW, planner
from tests.harness.server import PostgresServer
from tests.sql.ask import ask
from tests.types.against import batches


def literals(statement: str) -> list[bytes]:
    """Return what a statement's protected constants are."""
    plan = planner(17).statement(statement.encode(), (), VIEW)
    return [literal for use, _, literal in plan.outputs if isinstance(use, Search | Store) and isinstance(literal, bytes)]


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
def test_arithmetic_of_constants_is_one_constant(constant: str, value: bytes) -> None:
    assert literals(f"SELECT id FROM people WHERE born = {constant}") == [value]


@pytest.mark.parametrize(
    "constant",
    [
        "date '01/02/1980' + 1",  # by DateStyle
        "date '1980-02-30' + 1",
        "make_date(1980, 13, 1)",
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
def test_what_depends_on_settings_or_fails_is_no_constant(constant: str) -> None:
    assert ask(f"SELECT id FROM people WHERE born = {constant}", VIEW, planner(17)) == "0A000"


@pytest.mark.parametrize("replaced", ["+", "make_date"])
def test_somebodys_own_is_not_computed(replaced: str) -> None:
    own_planner = planner(17)
    own = Planner(
        own_planner.protection, dataclasses.replace(own_planner.catalog, replaced=frozenset({replaced})), own_planner.ciphers
    )
    constant = "make_date(1980, 1, 1)" if replaced == "make_date" else "date '1980-01-01' + 1"
    assert ask(f"SELECT id FROM people WHERE born = {constant}", VIEW, own) == "0A000"


def test_an_operator_that_leads_somewhere_else_leaves_the_statement_as_it_is() -> None:
    assert CATALOG.replaced == frozenset()
    statement = b"SELECT id FROM people WHERE id = 1 + 1 AND city = 'x'"
    assert b"id = 1 + 1" in planner(17).statement(statement, (), VIEW).sql


def test_what_was_computed_is_not_said_of_other_constants() -> None:
    own_planner = planner(17)
    texts = [f"SELECT id FROM people WHERE born = make_date(1980, 1, {day})".encode() for day in (1, 2, 1)]
    first, second, third = (own_planner.script(text, VIEW) for text in texts)
    assert [p.rendered.occurrences[0].literal for p in (first, second, third) if p.rendered] == [
        b"1980-01-01", b"1980-01-02", b"1980-01-01",
    ]  # fmt: skip


DAYS = st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))
NUMBERS = st.integers(-40_000, 40_000).map(lambda n: str(n) if n >= 0 else f"({n})")
UNITS = st.sampled_from(["year", "years", "month", "mons", "week", "days", "hours", "min", "seconds", "decade"])
INTERVALS = st.lists(st.tuples(st.integers(0, 500), UNITS), min_size=1, max_size=3, unique_by=lambda part: part[1][:3]).map(
    lambda parts: "interval '" + " ".join(f"{n} {unit}" for n, unit in parts) + "'"
)
LEAVES = st.one_of(
    DAYS.map(lambda day: f"date '{day.isoformat()}'"),
    DAYS.map(lambda day: f"CAST('{day.isoformat()}' AS date)"),
    DAYS.map(lambda day: f"'{day.isoformat()} 12:30:00.5'::timestamp"),
    st.tuples(st.integers(1, 9999), st.integers(1, 12), st.integers(1, 28)).map(lambda d: f"make_date{d}"),
)


def _more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-"), INTERVALS).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(inner, st.sampled_from("+-"), NUMBERS, NUMBERS).map(lambda p: f"(({p[0]})::date {p[1]} ({p[2]} + {p[3]}))"),
        st.tuples(INTERVALS, inner).map(lambda p: f"({p[0]} + {p[1]})"),
        inner.map(lambda text: f"({text})::timestamp"),
        st.tuples(inner, inner).map(lambda p: f"make_date(2000, 1, 1) + (({p[0]})::date - ({p[1]})::date)"),
    )


@given(st.lists(st.recursive(LEAVES, _more, max_leaves=3), min_size=1, max_size=20))
@batches(15)
def test_what_is_computed_is_what_the_server_computes(postgres_server: PostgresServer, constants: list[str]) -> None:
    with postgres_server.connect("postgres") as conn:
        for constant in constants:
            try:
                (literal,) = literals(f"SELECT id FROM stays WHERE admitted = {constant} + interval '0 days'")
            except StatementRefused:
                continue
            answer = conn.execute(f"SELECT ({constant} + interval '0 days')::text".encode()).fetchone()
            assert answer == (literal.decode(),)
