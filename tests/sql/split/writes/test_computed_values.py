"""Values that are computed once for all rows: what is said of those that only the server can be asked for."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from tests.fixtures.model import VIEW, planner


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers'))",
        "INSERT INTO patients (mrn, notes) VALUES ('x', upper('y')), (lpad(nextval('numbers')::text, 8, '0'), NULL)",
        "UPDATE patients SET notes = md5(random()::text)",
    ],
)
def test_volatile_functions_are_asked_for_first(text: str) -> None:
    there = planner()
    with pytest.raises(StatementRefused) as refused:
        Planner(there.protection, there.catalog, there.ciphers, EngineFacts()).statement(text.encode(), (), VIEW)
    assert "SELECT nextval" in (refused.value.hint or "")
