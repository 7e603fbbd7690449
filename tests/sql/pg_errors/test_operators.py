"""Operators in all their spellings: there is none for these operands, or there may be one."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said


@pytest.mark.parametrize(
    ("expression", "words", "at"),
    [
        ("ssn = id", "text = integer", "="),
        ("id IN (1, ssn)", "integer = text", "IN"),
        ("id BETWEEN 1 AND ssn", "integer <= text", "BETWEEN"),
        ("id NOT BETWEEN ssn AND 2", "integer < text", "NOT"),
        ("id LIKE 'x'", "integer ~~ unknown", "LIKE"),
        ("id SIMILAR TO 'x'", "integer ~ text", "SIMILAR"),
        ("ssn IS DISTINCT FROM 5", "text = integer", "IS"),
        ("nullif(ssn, 5)", "text = integer", "nullif(ssn"),
        ("CASE id WHEN 1 THEN 1 WHEN ssn THEN 2 END", "integer = text", "WHEN"),
        ("(id, ssn) = (1, 2)", "text = integer", "="),
        ("(id, ssn) IN (SELECT ssn, id FROM patients)", "integer = text", "IN"),
        ("id = ANY (SELECT ssn FROM patients)", "integer = text", "="),
        ("id = ANY (ARRAY['x'::text])", "integer = text", "="),
        ("(SELECT ssn FROM patients) > 5", "text > integer", ">"),
        ("- ssn", "- text", "-"),
        ("(id || ssn) + 1", "text + integer", "+"),
        ("ssn = 'x'::date", "text = date", "="),
        ("ssn = B'101'", "text = bit", "="),
    ],
)
def test_an_operation_without_an_operator_is_an_error(expression: str, words: str, at: str) -> None:
    assert said(f"SELECT {expression} FROM patients") == ("42883", f"operator does not exist: {words}", at)


@pytest.mark.parametrize(
    "expression",
    [
        "id = '5'",
        "ssn < 'x'::varchar",
        "id = 5.0",
        "id IN (1, NULL)",
        "ssn || id",
        "id = ANY ('{1}')",
        "ssn OPERATOR(x.+) 1",
        "id = (SELECT 1)",
    ],
)
def test_there_may_be_one(expression: str) -> None:
    assert said(f"SELECT {expression} FROM patients") is None


@pytest.mark.parametrize(
    ("expression", "state", "words"),
    [
        ("'x' = ANY (ssn)", "42809", "op ANY/ALL (array) requires array on right side"),
        ("(id, ssn) = (1, 'x', 2)", "42601", "unequal number of entries in row expressions"),
        ("id IN (SELECT id, ssn FROM patients)", "42601", "subquery has too many columns"),
        ("(id, ssn) = ANY (SELECT id FROM patients)", "42601", "subquery has too few columns"),
        ("(SELECT id, ssn FROM patients)", "42601", "subquery must return only one column"),
        ("CASE WHEN ssn THEN 1 END", "42804", "argument of CASE/WHEN must be type boolean, not type text"),
        ("CASE WHEN true THEN 1 ELSE ssn END", "42804", "CASE types text and integer cannot be matched"),
    ],
)
def test_operands_of_another_number_or_form_are_an_error(expression: str, state: str, words: str) -> None:
    error = said(f"SELECT {expression} FROM patients")
    assert error is not None
    assert error[:2] == (state, words)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("ARRAY['a'] = ARRAY['b']::varchar[]", "text[] = character varying[]"),
        ("nullif(id, 2.5) + true", "numeric + boolean"),
        ("nullif(id, 2::int8) + true", "integer + boolean"),
        ("nullif(id, 2::float8) + true", "double precision + boolean"),
        ("nullif(mrn, 'x') + true", "text + boolean"),
        ("(SELECT unnest(ARRAY[1])) + true", "integer + boolean"),
        ("(SELECT u FROM unnest(ARRAY[ARRAY[1]]) u) + true", "integer + boolean"),
        ("(SELECT x FROM unnest('{1}'::int[]) y (x)) + true", "integer + boolean"),
        ("$1::int = true OR $1 = 'x'", "integer = boolean"),
    ],
)
def test_types_of_arrays_and_nullif(expression: str, words: str) -> None:
    error = said(f"SELECT {expression} FROM patients")
    assert error is not None
    assert error[:2] == ("42883", f"operator does not exist: {words}")


@pytest.mark.parametrize("expression", ["$1 = 'x' OR $1::int = true OR $1", "ARRAY['a'] || ARRAY['b']::varchar[]", "$1 + 1"])
def test_a_parameter_is_what_it_is_where_it_stands_first(expression: str) -> None:
    error = said(f"SELECT {expression} FROM patients")
    assert error is None or "integer = boolean" in error[1]


def test_what_a_cast_says_of_a_parameter_holds_behind_it() -> None:
    assert said("SELECT $1::int, ssn || 'x' = $1 FROM patients") == ("42883", "operator does not exist: text = integer", "=")
    assert said("SELECT ssn = $1, $1::int FROM patients") is None
