"""The verdict as a whole: which statements have one, and where it stands in a text."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from tests.fixtures.model import VIEW, planner
from tests.sql.pg_errors.ask import UNKNOWN, said, verdict


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


def planned(text: str) -> str:
    """Return what becomes of a statement that touches something protected: a SQLSTATE and its words, or nothing."""
    try:
        planner().statement(text.encode(), (), VIEW)
    except StatementRefused as refused:
        return f"{refused.sqlstate} {refused.message}"
    return ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT ssn FROM patients WHERE id = true", "42883 operator does not exist: integer = boolean"),
        ("SELECT id FROM patients WHERE ssn = 'x' AND city", "42804 argument of AND must be type boolean, not type text"),
        (
            "SELECT p.id FROM patients p, (VALUES ('t')) v (b) WHERE v.b AND p.ssn = 'x'",
            "42804 argument of AND must be type boolean",
        ),
        ("SELECT full_name FROM patients p JOIN visits v ON p.id = v.room AND p.ssn = 'x'", "42883 operator does not exist"),
        ("UPDATE patients SET city = 5, ssn = 'x', active = id WHERE ssn = 'y'", '42804 column "active" is of type boolean'),
        ("MERGE INTO patients p USING visits v ON p.id = v.room WHEN MATCHED THEN UPDATE SET ssn = 'x'", "42883 operator does not"),
    ],
)
def test_what_is_understood_is_refused_where_postgresql_would_refuse_it(text: str, words: str) -> None:
    assert planned(text).startswith(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT nullif(bed, 2.5) FROM stays", "0A000 values of type numeric would be shown together with public.stays.bed"),
        (
            "SELECT nullif(bed, 2::float8) FROM stays",
            "0A000 values of type double precision would be shown together with public.stays.bed",
        ),
    ],
)
def test_a_result_is_of_the_type_that_postgresql_gives_it(text: str, words: str) -> None:
    assert planned(text).startswith(words)


def test_types_that_postgresql_may_match_are_no_error_of_its_own() -> None:
    # Of two domains, say: what is said is that this is not in this version.
    assert planned("SELECT id FROM stays WHERE born = CASE WHEN id > 1 THEN born ELSE now() END").startswith("0A000 ")
    assert planned("SELECT id FROM stays WHERE born = 5") == "42883 operator does not exist: date = integer"


def test_nothing_is_said_of_a_statement_without_a_rule() -> None:
    assert verdict("TRUNCATE patients") is None


def test_what_is_inside_of_an_expression_without_a_rule_is_checked() -> None:
    text = "SELECT xmlelement(name a, {}(ssn)) FROM patients"
    assert said(text.format("lower")) is None
    error = said(text.format("nothing"))
    assert error is not None
    assert error[:2] == ("42883", "function nothing(text) does not exist")
