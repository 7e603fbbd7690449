"""Which views show a row for each, or for some, of the rows of their source."""

from __future__ import annotations

import pytest

from tests.sql.split.test_view_definition import rest_of


@pytest.mark.parametrize(
    ("query", "rows", "seen"),
    [
        ("SELECT id, upper(full_name) AS u FROM patients WHERE id > 3", "each", (True, False)),
        ("SELECT id, upper(full_name) AS u FROM patients WHERE full_name > 'b'", "some", (True, False)),
        ("SELECT id, city FROM patients WHERE ssn = '123'", "some", (True, True)),
        ("SELECT p.id, v.id AS v, upper(p.ssn) AS u FROM patients p JOIN visits v ON v.mrn = p.mrn", "each", (True, True, False)),
        ("SELECT id, upper(full_name) AS u, now() AS t FROM patients", "each", (True, False, False)),
        ("SELECT id, upper(ssn) AS u FROM patients ORDER BY id LIMIT 3", "each", (True, False)),
        ("SELECT id, upper(ssn) AS u FROM patients ORDER BY ssn LIMIT 3", "other", (False, False)),
        ("SELECT max(ssn) AS m FROM patients", "other", (False,)),
        ("SELECT DISTINCT id, upper(ssn) AS u FROM patients", "other", (False, False)),
        ("SELECT id, row_number() OVER (ORDER BY ssn) AS n FROM patients", "other", (False, False)),
        ("SELECT upper(ssn) AS u FROM patients UNION ALL SELECT upper(diagnosis) FROM visits", "other", (False,)),
        ("SELECT id, (SELECT max(v.diagnosis) FROM visits v) || ssn AS x FROM patients", "other", (False, False)),
    ],
)
def test_what_is_known_of_its_rows(query: str, rows: str, seen: tuple[bool, ...]) -> None:
    rest = rest_of(f"CREATE VIEW v AS {query}")
    assert (rest.rows, rest.shown) == (rows, seen)
