"""Constants that mean a moment of the clock: 'today' as a date is the server's, as a text it is a word."""

from __future__ import annotations

import pytest

from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from tests.fixtures.model import VIEW, planner


def plan_of(text: str) -> object:
    there = planner()
    return Planner(there.protection, there.catalog, there.ciphers, EngineFacts()).statement(text.encode(), (), VIEW)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("SELECT id FROM people WHERE born = 'today'", "CAST('today' AS date)"),
        ("SELECT id FROM people WHERE born > date 'yesterday'", "date 'yesterday'"),
        ("SELECT id FROM people WHERE 'now' > born", "CAST('now' AS date)"),
        ("SELECT id FROM people WHERE born BETWEEN '1980-01-01' AND ' Today '", "CAST(' Today ' AS date)"),
        ("SELECT id FROM people WHERE born IN ('1980-01-01', 'tomorrow')", "CAST('tomorrow' AS date)"),
        ("SELECT id FROM people WHERE born IS DISTINCT FROM 'today'", "CAST('today' AS date)"),
        ("INSERT INTO people (born) VALUES ('today')", "CAST('today' AS date)"),
        ("INSERT INTO people (name, born) VALUES ('x', '1980-01-01'), ('y', date 'today')", "date 'today'"),
        ("UPDATE people SET born = 'yesterday' WHERE name = 'x'", "CAST('yesterday' AS date)"),
        ("UPDATE stays SET admitted = 'now', word = word || 'x'", "CAST('now' AS timestamp)"),
        ("DELETE FROM people WHERE born < 'today'", "CAST('today' AS date)"),
    ],
)
def test_as_dates_they_are_asked_for(text: str, asked: str) -> None:
    plan = plan_of(text)
    assert isinstance(plan, SplitPlan)
    assert asked in plan.split.source.decode()
    assert b"to" not in b"".join(plan.split.rest.parts) + (plan.split.write.text if plan.split.write is not None else b"")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT id FROM people WHERE name = 'today'",
        "INSERT INTO people (name) VALUES ('now')",
        "SELECT id FROM stays WHERE id = 1 AND born BETWEEN '1980-01-01' AND '1980-12-31'",
    ],
)
def test_as_texts_they_are_words(text: str) -> None:
    assert not isinstance(plan_of(text), SplitPlan)


def test_a_word_that_is_both() -> None:
    assert not isinstance(plan_of("INSERT INTO people (name, born) VALUES ('today', 'today')"), SplitPlan)
