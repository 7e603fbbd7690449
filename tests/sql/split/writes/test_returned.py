"""What RETURNING may be computed of: the rows that a write returns, and of them one state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts, SplitPlan
from tests.clinic_model import CATALOG, PATH, PROTECTION
from tests.plan.rings import full_ring

VIEW = View(PATH, "clinic", catalog_fresh=True)


def planner(version: int) -> Planner:
    return Planner(PROTECTION, replace(CATALOG, server_version=version), Ciphers(full_ring(10**9)), engine=EngineFacts())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE patients SET city = 'x' WHERE id = 1 RETURNING upper(old.ssn)",
        "UPDATE patients SET city = 'x' WHERE id = 1 RETURNING upper(ssn), new.city",
        "UPDATE patients SET city = 'x' RETURNING WITH (OLD AS o) upper(o.ssn)",
        "WITH w AS (UPDATE patients SET ssn = '1' RETURNING old.ssn) SELECT upper(ssn) FROM w",
    ],
)
def test_rows_before_and_after_are_not_computed_over(statement: str) -> None:
    with pytest.raises(StatementRefused) as refused:
        planner(180000).statement(statement.encode(), (), VIEW)
    assert refused.value.sqlstate == "0A000"


def test_a_table_that_is_called_so_is_computed_over() -> None:
    text = b"UPDATE patients AS old SET city = 'x' WHERE id = 1 RETURNING upper(old.ssn)"
    assert isinstance(planner(180000).statement(text, (), VIEW), SplitPlan)
