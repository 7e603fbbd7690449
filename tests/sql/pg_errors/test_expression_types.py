"""Types of expressions, and what PostgreSQL says of those that do not fit."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said


@pytest.mark.parametrize(
    ("expression", "state", "words", "at"),
    [
        ("coalesce(ssn, id)", "42804", "COALESCE types text and integer cannot be matched", "id"),
        ("greatest(id, ssn)", "42804", "GREATEST types integer and text cannot be matched", "ssn"),
        ("ARRAY[NULL, ssn, true]", "42804", "ARRAY types text and boolean cannot be matched", "true]"),
        ("NOT ssn", "42804", "argument of NOT must be type boolean, not type text", "ssn"),
        ("id = 1 AND ssn", "42804", "argument of AND must be type boolean, not type text", "ssn"),
        ("(ssn IS NULL) IS TRUE OR id", "42804", "argument of OR must be type boolean, not type integer", "id"),
        ("ssn IS NOT UNKNOWN", "42804", "argument of IS NOT UNKNOWN must be type boolean, not type text", "ssn"),
        ("id::date", "42846", "cannot cast type integer to date", "::date"),
        ("CAST(id AS uuid)", "42846", "cannot cast type integer to uuid", "CAST(id"),
        ("ssn::nosuch", "42704", 'type "nosuch" does not exist', "nosuch"),
        ("ssn COLLATE nosuch", "42704", 'collation "nosuch" for encoding "UTF8" does not exist', "COLLATE"),
        ("ssn[1]", "42804", "cannot subscript type text because it does not support subscripting", "ssn[1]"),
        ("(id).a", "42809", "column notation .a applied to type integer, which is not a composite type", "id).a"),
        ("current_date + true", "42883", "operator does not exist: date + boolean", "+"),
        ("(now(), ssn) = 5", "42883", "operator does not exist: record = integer", "="),
    ],
)
def test_what_does_not_fit(expression: str, state: str, words: str, at: str) -> None:
    assert said(f"SELECT {expression} FROM patients") == (state, words, at)


@pytest.mark.parametrize(
    "expression",
    [
        "coalesce(NULL, ssn, 'x')",
        "greatest(1, 2.5, id)",
        "ARRAY[ARRAY[1], ARRAY[2]]",
        "ARRAY['1', '2']::int[]",
        "ssn::int",
        "ssn::varchar(3)[]",
        "id::text::date",
        "('{}'::jsonb)['a']",
        "'{1}'::int[] = ARRAY[id]",
        'ssn COLLATE "C"',
        "(patients).ssn + 1",
        "$1 + 1",
        "NOT $1",
        "ssn::patients",
        "1::bool",
        "9223372036854775807 + 1",
        "patients.* IS NULL",
        "ROW(1, ssn) = ROW(1, 'x')",
    ],
)
def test_nothing_is_said_of_types_that_may_fit(expression: str) -> None:
    assert said(f"SELECT {expression} FROM patients") is None


def test_what_cannot_become_the_common_type() -> None:
    error = said("SELECT coalesce(admitted, time '12:00') FROM stays")
    assert error is not None
    assert error[0] in ("42804", "42846")
