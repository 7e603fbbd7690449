"""The verdict as a whole: which statements have one, and where it stands in a text."""

from __future__ import annotations

import pytest

from tests.sql.verdict.ask import UNKNOWN, said, verdict


def test_the_statement_that_is_asked_for() -> None:
    text = "SELECT ssn + 1 FROM patients; SELECT 'é', ssn * 2 FROM patients"
    assert said(text) == ("42883", "operator does not exist: text * integer", "*")


@pytest.mark.parametrize(
    "around",
    ["EXPLAIN {}", "DECLARE c CURSOR FOR {}", "COPY ({}) TO STDOUT", "PREPARE p AS {}", "CREATE VIEW v AS {}", "EXPLAIN PREPARE"],
)
def test_what_stands_around_a_query(around: str) -> None:
    text = around.format("SELECT ssn + 1 FROM patients") if "{}" in around else "CREATE TABLE t AS SELECT ssn + 1 FROM patients"
    assert said(text) == ("42883", "operator does not exist: text + integer", "+")


@pytest.mark.parametrize("text", ["TRUNCATE patients", "EXECUTE p", "CREATE TABLE t (ssn text)", "COPY patients TO STDOUT"])
def test_what_is_no_query_has_none(text: str) -> None:
    assert verdict(text) is None


def test_nothing_is_said_where_the_catalogue_is_not_known() -> None:
    assert verdict("SELECT ssn + 1 FROM patients", UNKNOWN) is None


@pytest.mark.parametrize(
    "text", ["SELECT id + $1 FROM patients", "SELECT nowhere.a + 1 FROM nowhere", "SELECT ssn || 'x' FROM patients"]
)
def test_nothing_is_said_of_what_is_not_known(text: str) -> None:
    assert verdict(text) is None
