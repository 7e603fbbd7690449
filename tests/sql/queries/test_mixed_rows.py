"""Whether a row may show what is of another one; how records say it: tests/sql/statements/test_subjects_of_statement.py."""

from __future__ import annotations

import pytest

from phiproxy.plan.planner import Planner
from tests.clinic_model import CATALOG, PROTECTION
from tests.plan.test_templates import VIEW, fresh
from tests.sql.statements.test_subjects_of_statement import with_subjects


@pytest.mark.parametrize(
    ("text", "mixes"),
    [
        ("SELECT id, ssn FROM patients", False),
        ("SELECT id, ssn, lag(city) OVER (ORDER BY id) FROM patients WHERE ssn = 'x'", False),
        ("SELECT id, ssn, coalesce(lag(city) OVER w, '') FROM patients WINDOW w AS (ORDER BY id)", False),
        ("SELECT id, ssn, lag(city) OVER (ORDER BY id) FROM patients OFFSET 1", True),
        ("SELECT id, ssn, lag(city) OVER (ORDER BY id) FROM patients FETCH FIRST ROW ONLY", True),
        ("SELECT DISTINCT ON (city) id, ssn, lag(city) OVER (ORDER BY id), city FROM patients", True),
        ("SELECT id, ssn FROM (SELECT id, ssn, lag(city) OVER (ORDER BY id) AS was FROM patients) t WHERE was = 'x'", True),
        ("SELECT id, ssn FROM (SELECT id, ssn, row_number() OVER (ORDER BY id) AS n FROM patients) t WHERE n = 1", False),
        ("SELECT id, ssn, ntile(4) OVER (ORDER BY city) FROM patients LIMIT 1", False),
        ("SELECT id, count(*) FROM patients GROUP BY GROUPING SETS ((id), ())", True),
    ],
)
def test_only_what_shows_another_row_mixes_rows(text: str, mixes: bool) -> None:
    planner = Planner(with_subjects(PROTECTION), CATALOG, fresh().ciphers)
    (subject,) = planner.statement(text.encode(), (), VIEW).touched.subjects
    assert (subject.output < 0) is mixes
