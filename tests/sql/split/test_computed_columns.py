"""What of a statement the server computes as a column of the source. Fixtures: split_computed_columns.sql."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from phiproxy.sql.pg_errors.names_and_signatures import Verdict
from phiproxy.sql.split.rest_nodes import unnoticed
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import planner
from tests.sql.split.ask import shown, split_of


def test_the_largest_expression_is_taken_once() -> None:
    split = split_of("SELECT severity(repeat(city, severity(city))) + 1, reverse(ssn) FROM patients")
    assert split is not None
    assert split.source == b'SELECT "patients"."ssn", severity(repeat(city, severity(city))) FROM patients'
    assert "severity" not in shown(split.rest)


def test_a_column_that_only_such_an_expression_needs_is_not_fetched() -> None:
    split = split_of("SELECT severity(city) AS s, ssn || 'x' FROM patients")
    assert split is not None
    assert b'"city"' not in split.source


def test_a_comment_in_it_is_not_sent() -> None:
    split = split_of("SELECT severity(/* planted */ city), upper(ssn) FROM patients")
    assert split is not None
    assert b"planted" not in split.source


def test_a_parameter_in_it_is_one_of_the_source() -> None:
    split = split_of("SELECT $1 || ssn, severity($2) FROM patients WHERE id = $3", types=(25, 25, 23))
    assert split is not None
    assert split.source_parameters == (2, 3)
    assert split.source.endswith(b"severity($1) FROM patients WHERE id = $2")


@pytest.mark.parametrize("protected", ["ssn || 'planted'", "upper(ssn) = 'planted'", "coalesce(upper(ssn), 'planted')"])
def test_no_value_that_meets_something_protected(protected: str) -> None:
    assert split_of(f"SELECT severity(city || 'planted'), {protected} FROM patients") is None
    assert split_of(f"SELECT severity(city || 'other'), {protected} FROM patients") is not None


def test_no_parameter_that_meets_something_protected() -> None:
    assert split_of("SELECT severity($1), $1 || ssn FROM patients", types=(25,)) is None


@pytest.mark.parametrize("locking", ["FOR UPDATE", "FOR KEY SHARE SKIP LOCKED"])
def test_not_where_rows_are_locked(locking: str) -> None:
    assert split_of(f"SELECT severity(city), upper(ssn) FROM patients {locking}") is None


@pytest.mark.parametrize("setting", ["search_path", "datestyle", "x.y"])
def test_not_what_changes_the_settings_under_which_the_rest_is_computed(setting: str) -> None:
    assert split_of(f"SELECT set_config('{setting}', city, false), upper(ssn) FROM patients") is None


def test_columns_of_several_tables() -> None:
    text = "SELECT severity(p.city || v.room), upper(v.diagnosis) FROM patients p JOIN visits v ON v.patient_id = p.id"
    split = split_of(text)
    assert split is not None
    assert split.source.startswith(b'SELECT "v"."diagnosis", severity(p.city || v.room) FROM')


def test_what_is_called_in_vain_has_no_argument_that_may_fail_or_draw() -> None:
    (statement,) = parse(b"SELECT uuidv7(city::interval), uuidv7(nextval('numbers') * interval '1 s'), uuidv7()")
    verdict = cast("Verdict", SimpleNamespace(signatures=planner(15).catalog.signatures))
    assert ["args" in call["FuncCall"] for call in unnoticed(verdict, statement.body)] == [False]
