"""What rows are sorted, grouped and made distinct by, where PostgreSQL says that it cannot be; and what it may accept."""

from __future__ import annotations

import pytest

from tests.sql.pg_errors.ask import said

IN_LIST = "for SELECT DISTINCT, ORDER BY expressions must appear in select list"
INITIAL = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions"
ARGUMENT = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list"


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELECT DISTINCT upper(ssn) FROM patients ORDER BY id", ("42P10", IN_LIST, "id")),
        ("SELECT DISTINCT upper(ssn), * FROM patients p, visits v ORDER BY p.id || 'x'", ("42P10", IN_LIST, "p.id")),
        ("SELECT DISTINCT p.* FROM patients p, visits v ORDER BY v.room", ("42P10", IN_LIST, "v.room")),
        ("SELECT DISTINCT upper(ssn) FROM patients ORDER BY lower(ssn)", ("42P10", IN_LIST, "lower(ssn")),
        ("SELECT DISTINCT ssn || 'x' FROM patients ORDER BY ssn || city", ("42P10", IN_LIST, "ssn")),
        ("SELECT DISTINCT ON (city) ssn FROM patients ORDER BY id, city", ("42P10", INITIAL, "city")),
        ("SELECT DISTINCT ON (city, active) ssn FROM patients ORDER BY id, active", ("42P10", INITIAL, "active")),
        ("SELECT DISTINCT ON (2) ssn, city FROM patients ORDER BY 1", ("42P10", INITIAL, "2")),
        ("SELECT upper(ssn) FROM patients ORDER BY -1", ("42P10", "ORDER BY position -1 is not in select list", "-1")),
        ("SELECT upper(ssn) FROM patients GROUP BY ROLLUP (1, 3)", ("42P10", "GROUP BY position 3 is not in select list", "3")),
        ("SELECT DISTINCT ON (0) upper(ssn) FROM patients", ("42P10", "DISTINCT ON position 0 is not in select list", "0")),
        ("SELECT upper(ssn) FROM patients ORDER BY NULL", ("42601", "non-integer constant in ORDER BY", "NULL")),
        ("SELECT upper(ssn) FROM patients GROUP BY 1.5", ("42601", "non-integer constant in GROUP BY", "1.5")),
        ("SELECT string_agg(DISTINCT ssn, ',' ORDER BY id) FROM patients", ("42P10", ARGUMENT, "id")),
        ("SELECT array_agg(DISTINCT upper(ssn) ORDER BY ssn) FROM patients", ("42P10", ARGUMENT, "ssn")),
        ("SELECT upper(ssn), rank() OVER (w ORDER BY id) FROM patients", ("42704", 'window "w" does not exist', "(w")),
        (
            "SELECT ssn AS u FROM patients UNION SELECT city FROM patients ORDER BY length(u)",
            ("0A000", "invalid UNION/INTERSECT/EXCEPT ORDER BY clause", "length(u"),
        ),
        (
            "SELECT ssn AS u FROM patients UNION SELECT city FROM patients ORDER BY 2",
            ("42P10", "ORDER BY position 2 is not in select list", "2"),
        ),
    ],
)
def test_refused(query: str, error: tuple[str, str, str]) -> None:
    assert said(query) == error


@pytest.mark.parametrize(
    "query",
    [
        "SELECT DISTINCT upper(ssn), id FROM patients ORDER BY upper(ssn), 2",
        "SELECT DISTINCT upper(ssn), id FROM patients p ORDER BY upper(p.ssn)",
        "SELECT DISTINCT upper(ssn) AS u, id FROM patients ORDER BY u",
        "SELECT DISTINCT * FROM patients ORDER BY ssn",
        "SELECT DISTINCT p.* FROM patients p, visits v ORDER BY p.ssn, p.id",
        "SELECT DISTINCT id FROM patients p JOIN visits v USING (id) ORDER BY p.id",
        "SELECT DISTINCT (p).ssn FROM patients p ORDER BY p.ssn",
        "SELECT DISTINCT ssn(p) FROM patients p ORDER BY p.ssn",
        "SELECT DISTINCT ssn::text FROM patients p ORDER BY p.ssn",
        "SELECT DISTINCT ssn || 'x' FROM patients p ORDER BY ssn || 'x'",
        "SELECT DISTINCT ON (city) upper(ssn) FROM patients p ORDER BY p.city, id",
        "SELECT DISTINCT ON (city, active) upper(ssn) FROM patients p ORDER BY active, city, id",
        "SELECT DISTINCT ON (c) upper(ssn), city AS c FROM patients ORDER BY 2",
        "SELECT string_agg(DISTINCT ssn, ',' ORDER BY ssn) FROM patients p",
        "SELECT array_agg(DISTINCT upper(ssn) ORDER BY upper(p.ssn)) FROM patients p",
        "SELECT upper(ssn), rank() OVER w FROM patients WINDOW w AS (ORDER BY id)",
        "SELECT upper(ssn) FROM patients ORDER BY '1'::int",
        "SELECT ssn AS u FROM patients UNION SELECT city FROM patients ORDER BY u, 1",
    ],
)
def test_what_may_be_accepted(query: str) -> None:
    assert said(query) is None
