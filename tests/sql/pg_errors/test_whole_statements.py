"""Queries: what their parts have to do with each other."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said, verdict


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("SELECT ssn FROM patients UNION SELECT id FROM patients", "42804", "UNION types text and integer cannot be matched"),
        ("SELECT id, 1 FROM patients EXCEPT SELECT 1", "42601", "each EXCEPT query must have the same number of columns"),
        ("VALUES ('a'), ((SELECT id FROM patients)), (true)", "42804", "VALUES types integer and boolean cannot be matched"),
        ("VALUES (1, 2), (3)", "42601", "VALUES lists must all be the same length"),
        ("SELECT ssn FROM patients LIMIT ssn", "42804", "argument of LIMIT must be type bigint, not type text"),
        ("SELECT ssn FROM patients OFFSET id", "42P10", "argument of OFFSET must not contain variables"),
        ("SELECT 1 FROM patients GROUP BY id ORDER BY ssn + 1", "42883", "operator does not exist: text + integer"),
        ("WITH x AS (SELECT id AS a FROM patients) SELECT a + true FROM x", "42883", "operator does not exist: integer + boolean"),
        (
            "SELECT 1 FROM (patients p JOIN visits v USING (mrn)) AS j FOR UPDATE OF j",
            "0A000",
            "FOR UPDATE cannot be applied to a join",
        ),
        (
            "SELECT 1 FROM patients p JOIN visits v USING (mrn) AS j FOR KEY SHARE OF p, j",
            "0A000",
            "FOR KEY SHARE cannot be applied to a join",
        ),
        (
            "SELECT 1 FROM patients p, generate_series(1, 2) FOR SHARE OF generate_series",
            "0A000",
            "FOR SHARE cannot be applied to a function",
        ),
        (
            "WITH w AS (SELECT 1) SELECT 1 FROM patients p, w FOR NO KEY UPDATE OF w",
            "0A000",
            "FOR NO KEY UPDATE cannot be applied to a WITH query",
        ),
        (
            "SELECT 1 FROM patients FOR UPDATE OF public.patients",
            "42601",
            "FOR UPDATE must specify unqualified relation names",
        ),
        (
            "WITH x AS (DELETE FROM visits RETURNING room) SELECT room + 1 FROM x",
            "42883",
            "operator does not exist: text + integer",
        ),
    ],
)
def test_what_does_not_fit(text: str, state: str, words: str) -> None:
    error = said(text)
    assert error is not None
    assert error[:2] == (state, words)


def test_a_side_without_columns_has_no_position() -> None:
    error = verdict("SELECT ssn || 'x' FROM patients INTERSECT SELECT FROM patients")
    assert error is not None
    assert (error.sqlstate, error.message) == ("42601", "each INTERSECT query must have the same number of columns")
    assert error.position is None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ssn, NULL FROM patients UNION ALL SELECT 'x', id FROM patients",
        "VALUES (1), ('2'), (NULL), (3.5)",
        "SELECT ssn FROM patients LIMIT '5' OFFSET 1.5",
        "WITH RECURSIVE r AS (SELECT id FROM patients UNION SELECT r.id || 1 FROM r) SELECT * FROM r",
        "SELECT ssn FROM patients ORDER BY 1, ssn",
        "SELECT (r).* FROM patients r",
    ],
)
def test_nothing_is_said_of_a_statement_that_may_fit(text: str) -> None:
    assert said(text) is None
