"""Columns of FROM and their types: tables, views, subqueries, joins, functions."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT p.ssn + true FROM patients p", "text + boolean"),
        ("SELECT public.patients.id + true FROM public.patients", "integer + boolean"),
        ("SELECT s.a + true FROM (SELECT id, ssn FROM patients) s (b, a)", "text + boolean"),
        ("SELECT s.x + true FROM (SELECT 'x' AS x, ssn FROM patients) s", "text + boolean"),
        ("SELECT s.ssn + true FROM (SELECT * FROM patients) s", "text + boolean"),
        ("SELECT social + true FROM springfield", "text + boolean"),
        ("SELECT mrn + true FROM patients JOIN visits USING (mrn)", "character varying + boolean"),
        ("SELECT j.diagnosis + true FROM (patients p NATURAL JOIN visits v) j", "text + boolean"),
        ("SELECT q.x + true FROM patients p, LATERAL (SELECT p.id AS x) q", "integer + boolean"),
        ("SELECT born + true FROM stays", "date + boolean"),
        ("SELECT 1 FROM patients, unnest(ARRAY[ssn + true]) u", "text + boolean"),
        ("SELECT u.a + true FROM patients, unnest(ARRAY[ssn], ARRAY[1]) u (a, b)", "text + boolean"),
        ("SELECT u.unnest + true FROM patients, unnest(ARRAY[ssn]) WITH ORDINALITY u (unnest)", "text + boolean"),
        ("SELECT ordinality + true FROM patients, unnest(ARRAY[ssn]) WITH ORDINALITY", "bigint + boolean"),
        ("SELECT n + true FROM patients, ROWS FROM (unnest(ARRAY[ssn]), unnest(ARRAY[1])) WITH ORDINALITY u (a, b, n)",
         "bigint + boolean"),
    ],
)
def test_a_column_has_its_type(query: str, words: str) -> None:
    error = said(query)
    assert error is not None
    assert error[:2] == ("42883", f"operator does not exist: {words}")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT u.a + 1 FROM patients, ROWS FROM (unnest(ARRAY[ssn]), pairs()) u (a, b)",
        "SELECT unnest + 1 FROM patients, unnest(ARRAY[ssn], ARRAY[1])",
        "SELECT a + 1 FROM patients, pairs()",
        "SELECT nope.a + 1 FROM patients, nope",
        "SELECT ssn + 1 FROM patients, (SELECT 1 AS ssn) s",
        "SELECT x.a + 1 FROM patients, XMLTABLE('/a' PASSING '<a/>' COLUMNS a int) x",
    ],
)
def test_what_is_not_known_has_none(query: str) -> None:
    assert said(query) is None


def test_a_join_over_two_types() -> None:
    query = "SELECT 1 FROM (patients p NATURAL JOIN (SELECT 1 AS id, true AS ssn) s)"
    assert said(query) == ("42804", "JOIN/USING types text and boolean cannot be matched", "1")
