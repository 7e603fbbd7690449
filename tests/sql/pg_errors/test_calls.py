"""Calls: there is no such function, or it is of another kind, or stands where it may not."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("lower(ssn, 'x')", "lower(text, unknown)"),
        ("left(ssn)", "left(text)"),
        ("left(ssn, 3.5)", "left(text, numeric)"),
        ("lower(id)", "lower(integer)"),
        ("sum(ssn)", "sum(text)"),
        ("extract(year from ssn)", "pg_catalog.extract(unknown, text)"),
        ("nosuch(ssn, id)", "nosuch(text, integer)"),
        ("unnest(ssn)", "unnest(text)"),
    ],
)
def test_a_call_of_which_there_is_no_function_is_an_error(call: str, words: str) -> None:
    at = call.partition(" ")[0].removesuffix(",").removesuffix(")")
    assert said(f"SELECT {call} FROM patients") == ("42883", f"function {words} does not exist", at)


@pytest.mark.parametrize(
    "call",
    [
        "left(ssn, 3)",
        "concat(ssn, 1, true)",
        "format('%s', VARIADIC ARRAY[ssn])",
        "public.own(ssn)",
        "nosuch(patients)",
        "nosuch($1), $1",
        "text(ssn)",
        "make_interval(days => id)",
        "percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn)",
        "count(*) OVER (PARTITION BY ssn)",
        "max(id) FILTER (WHERE id > 1)",
        "array_agg(ssn ORDER BY id)",
        "date(ssn)",
    ],
)
def test_there_may_be_one(call: str) -> None:
    assert said(f"SELECT {call} FROM patients") is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("lower(DISTINCT ssn)", "DISTINCT specified, but lower is not an aggregate function"),
        ("lower(ssn ORDER BY id)", "ORDER BY specified, but lower is not an aggregate function"),
        ("lower(ssn) FILTER (WHERE true)", "FILTER specified, but lower is not an aggregate function"),
        ("now(*)", "now(*) specified, but now is not an aggregate function"),
        ("lower(ssn) OVER ()", "OVER specified, but lower is not a window function nor an aggregate function"),
        ("row_number()", "window function row_number requires an OVER clause"),
    ],
)
def test_a_call_of_another_kind_of_function_is_an_error(call: str, words: str) -> None:
    error = said(f"SELECT {call} FROM patients")
    assert error is not None
    assert error[:2] == ("42809", words)


@pytest.mark.parametrize(
    ("text", "state", "place"),
    [
        ("SELECT 1 FROM patients WHERE ssn = max('x')", "42803", "WHERE"),
        ("SELECT 1 FROM patients p JOIN visits v ON p.ssn = max('x')", "42803", "JOIN conditions"),
        ("INSERT INTO patients (ssn) VALUES (max('x'))", "42803", "VALUES"),
        ("UPDATE patients SET ssn = max('x')", "42803", "UPDATE"),
        ("SELECT count(*) FILTER (WHERE ssn = max('x')) FROM patients", "42803", "FILTER"),
        ("SELECT 1 FROM patients WHERE ssn < lag('x'::text) OVER ()", "42P20", "WHERE"),
        ("UPDATE patients SET city = 'x' RETURNING max(ssn)", "42803", "RETURNING"),
        ("DELETE FROM patients RETURNING percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn)", "42803", "RETURNING"),
        ("UPDATE patients SET city = 'x' RETURNING (SELECT max(patients.ssn))", "42803", "RETURNING"),
        ("UPDATE patients SET ssn = (SELECT max(patients.ssn) FROM log)", "42803", "UPDATE"),
        ("INSERT INTO patients (ssn) VALUES ('x') RETURNING rank() OVER (ORDER BY ssn)", "42P20", "RETURNING"),
        ("WITH x AS (DELETE FROM patients RETURNING max(ssn)) SELECT 1 FROM x", "42803", "RETURNING"),
        ("UPDATE patients SET city = 'x' RETURNING unnest(ARRAY[ssn])", "0A000", "RETURNING"),
        ("UPDATE patients SET ssn = upper(generate_series(1, 2)::text)", "0A000", "UPDATE"),
        ("INSERT INTO patients (ssn) VALUES ('x'), (regexp_split_to_table('x', ''))", "0A000", "VALUES"),
        ("SELECT 1 FROM patients WHERE ssn = regexp_split_to_table('x', '')", "0A000", "WHERE"),
        (
            "MERGE INTO patients p USING visits v ON p.mrn = v.mrn WHEN MATCHED AND max(p.ssn) = 'x' THEN DELETE",
            "42803",
            "MERGE WHEN conditions",
        ),
        (
            "MERGE INTO patients p USING visits v ON p.mrn = v.mrn WHEN NOT MATCHED THEN INSERT (ssn) VALUES (max(v.mrn))",
            "42803",
            "VALUES",
        ),
    ],
)
def test_where_it_may_not_stand(text: str, state: str, place: str) -> None:
    error = said(text)
    assert error is not None
    assert (error[0], error[1].partition(" are not allowed in ")[2]) == (state, place)


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO patients (ssn) VALUES (regexp_split_to_table('x', ''))",
        "UPDATE patients SET ssn = (SELECT max(ssn) FROM patients) RETURNING (SELECT max(p.ssn) FROM patients p)",
        "SELECT ssn FROM patients, LATERAL unnest(ARRAY[ssn]) u",
        "UPDATE patients SET ssn = 'x' RETURNING (SELECT unnest(ARRAY[ssn]) LIMIT 1)",
    ],
)
def test_where_it_may(text: str) -> None:
    assert said(text) is None


def test_an_aggregate_may_be_one_of_a_query_outside() -> None:
    assert said("SELECT 1 FROM log l GROUP BY id HAVING EXISTS (SELECT 1 FROM patients WHERE ssn = max(l.msg))") is None
