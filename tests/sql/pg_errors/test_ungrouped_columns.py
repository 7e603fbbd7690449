"""Columns beside totals: by which is grouped, on which they depend, or by neither."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said


@pytest.mark.parametrize(
    ("text", "column", "at"),
    [
        ("SELECT count(*), upper(ssn) FROM patients", "patients.ssn", "ssn"),
        ("SELECT p.id FROM patients p HAVING true", "p.id", "p.id"),
        ("SELECT count(*) FROM patients ORDER BY ssn", "patients.ssn", "ssn"),
        ("SELECT city FROM patients GROUP BY city HAVING ssn = 'x'", "patients.ssn", "ssn"),
        ("SELECT upper(ssn) FROM patients GROUP BY lower(ssn)", "patients.ssn", "ssn"),
        ("SELECT count(*) OVER (PARTITION BY ssn) FROM patients GROUP BY city", "patients.ssn", "ssn"),
        ("SELECT upper(p.ssn) FROM patients p, visits v GROUP BY v.id", "p.ssn", "p.ssn"),
    ],
)
def test_a_column_that_is_not_grouped(text: str, column: str, at: str) -> None:
    words = f'column "{column}" must appear in the GROUP BY clause or be used in an aggregate function'
    assert said(text) == ("42803", words, at)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ssn, upper(p.ssn) FROM patients p GROUP BY ssn",
        "SELECT upper(ssn) FROM patients GROUP BY id",
        "SELECT upper(ssn) FROM patients GROUP BY 1",
        "SELECT upper(ssn), mrn, city FROM patients GROUP BY (1, mrn), ((city))",
        "SELECT upper(ssn) AS u FROM patients GROUP BY u ORDER BY u",
        "SELECT max(ssn), count(*) FROM patients ORDER BY min(mrn)",
        "SELECT count(*), (SELECT ssn) FROM patients GROUP BY ssn",
        "SELECT upper(ssn), mrn FROM patients GROUP BY GROUPING SETS ((ssn), (mrn))",
        "SELECT upper(ssn), count(*) OVER () FROM patients",
        "SELECT a.x, count(*) FROM patients, pairs() a",
    ],
)
def test_a_column_that_is(text: str) -> None:
    assert said(text) is None
