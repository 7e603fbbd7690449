"""What is told of a write that no way splits."""

from __future__ import annotations

import pytest

from phiproxy.sql.context import Context
from phiproxy.sql.passes import analyse
from phiproxy.sql.result import Refused
from phiproxy.sql.split.any_kind import split_statement
from phiproxy.sql.text.parse import parse
from tests.fixtures.model import VIEW, planner
from tests.sql.split.ask import split_of

NUMBER = "nextval('numbers')"
# With {} for what is drawn, and for a parameter in its place.
DRAWN = [
    "WITH n AS (SELECT {} AS v) INSERT INTO patients (mrn) SELECT 'M' || v FROM n",
    "INSERT INTO patients (mrn) SELECT 'M' || {} WHERE NOT EXISTS (SELECT 1 FROM patients WHERE mrn = 'x')",
    "INSERT INTO patients (mrn, city) SELECT 'M' || {}, 'c' WHERE NOT EXISTS (SELECT 1 FROM patients WHERE city = 'x')",
    "INSERT INTO patients (mrn) SELECT 'M' || {} UNION ALL SELECT 'x'",
    "UPDATE patients SET mrn = 'M' || s.n FROM (SELECT {} AS n) s WHERE id = 1",
]


@pytest.mark.parametrize("text", DRAWN)
def test_a_number_that_is_not_drawn_is_to_be_asked_for_first_and_then_it_is_split(text: str) -> None:
    there, encoded = planner(), text.format(NUMBER).encode()
    context = Context(there.protection, there.catalog, VIEW.path, VIEW.database)
    (statement,) = parse(encoded)
    outcome = analyse(statement, encoded, context)
    assert isinstance(outcome, Refused)
    assert split_statement(statement, encoded, context, outcome.error) is None
    assert "SELECT nextval" in (outcome.error.hint or "")
    assert split_of(text.format("$1::bigint")) is not None
