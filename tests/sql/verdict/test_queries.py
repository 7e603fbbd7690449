"""Queries and writes: what their parts have to do with each other."""

from __future__ import annotations

import pytest

from tests.sql.verdict.ask import said


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
            "WITH x AS (DELETE FROM visits RETURNING room) SELECT room + 1 FROM x",
            "42883",
            "operator does not exist: text + integer",
        ),
        (
            "INSERT INTO visits (id) SELECT ssn FROM patients",
            "42804",
            'column "id" is of type integer but expression is of type text',
        ),
        ("INSERT INTO visits VALUES (true)", "42804", 'column "id" is of type integer but expression is of type boolean'),
        ("INSERT INTO stays VALUES (1, 5)", "42804", 'column "born" is of type date but expression is of type integer'),
        ("UPDATE stays SET born = bed", "42804", 'column "born" is of type date but expression is of type integer'),
        (
            "UPDATE visits v SET id = p.ssn FROM patients p",
            "42804",
            'column "id" is of type integer but expression is of type text',
        ),
        (
            "INSERT INTO visits VALUES (1) ON CONFLICT (id) DO UPDATE SET id = excluded.mrn",
            "42804",
            'column "id" is of type integer but expression is of type character varying',
        ),
        ("DELETE FROM log v USING patients p WHERE p.id = v.msg", "42883", "operator does not exist: integer = text"),
        ("DELETE FROM visits RETURNING mrn + 1", "42883", "operator does not exist: character varying + integer"),
    ],
)
def test_what_does_not_fit(text: str, state: str, words: str) -> None:
    found = said(text)
    assert found is not None
    assert found[:2] == (state, words)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ssn, NULL FROM patients UNION ALL SELECT 'x', id FROM patients",
        "VALUES (1), ('2'), (NULL), (3.5)",
        "SELECT ssn FROM patients LIMIT '5' OFFSET 1.5",
        "INSERT INTO visits (diagnosis, patient_id) VALUES (5, '1'), (true, 2.5), (DEFAULT, DEFAULT)",
        "INSERT INTO stays (born) SELECT admitted FROM stays",
        "UPDATE visits SET (diagnosis, id) = (SELECT 'x', 'y')",
        "WITH RECURSIVE r AS (SELECT id FROM patients UNION SELECT r.id || 1 FROM r) SELECT * FROM r",
        "SELECT ssn FROM patients ORDER BY 1, ssn",
        "SELECT (r).* FROM patients r",
        "INSERT INTO visits DEFAULT VALUES",
    ],
)
def test_what_may_fit(text: str) -> None:
    assert said(text) is None


MERGE = "MERGE INTO visits v USING patients p ON p.id = v.patient_id "


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        (MERGE + "AND p.ssn WHEN MATCHED THEN DELETE", "42804", "argument of AND must be type boolean, not type text"),
        (MERGE + "WHEN MATCHED AND p.id THEN DELETE", "42804", "argument of WHEN must be type boolean, not type integer"),
        (
            MERGE + "WHEN MATCHED THEN UPDATE SET patient_id = p.ssn",
            "42804",
            'column "patient_id" is of type integer but expression is of type text',
        ),
        (
            MERGE + "WHEN NOT MATCHED THEN INSERT (id, patient_id) VALUES (1, p.ssn)",
            "42804",
            'column "patient_id" is of type integer but expression is of type text',
        ),
        ("INSERT INTO patients (ssn[1]) VALUES ('x')", "42804", "cannot assign to a part of a column of type text"),
    ],
)
def test_merge_and_parts_of_columns(text: str, state: str, words: str) -> None:
    found = said(text)
    assert found is not None
    assert found[:2] == (state, words)


def test_what_merge_may_do() -> None:
    assert said(MERGE + "WHEN MATCHED THEN UPDATE SET diagnosis = p.ssn WHEN NOT MATCHED THEN INSERT (id) VALUES (p.id)") is None
