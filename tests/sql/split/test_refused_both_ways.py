"""Every SELECT of the fixtures that is refused without an engine: what a split makes of it is what PostgreSQL answers."""

from __future__ import annotations

import re

import psycopg
import pytest

from phiproxy.engine.rest import Session
from tests.engine.both import Both, Outcome
from tests.fixtures.cases import CASES, Case
from tests.sql.split.ask import split_of
from tests.sql.split.test_both_ways import _value, computed, in_order

pytestmark = pytest.mark.asyncio(loop_scope="module")
REFUSED = [
    c for c in CASES if c.refuse == "0A000" and not c.rest and not c.unit and c.since <= 15
    and re.match(r"\s*(select|with|table|values)\b", c.statement, re.IGNORECASE)
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
async def test_as_postgresql(both: Both, session: Session, case: Case) -> None:
    text, given = case.with_values(_value)
    try:
        split = split_of(text, 15, case.types)
    except AssertionError:
        pytest.skip("not refused")
    if split is None or split.write is not None:
        pytest.skip("nobody answers it, or a write does")
    if split.row_types:
        pytest.skip("tests/integration/test_split_whole_rows.py: an engine without a proxy has no such types")
    params = [None if p is None else str(p).encode() for p in given]
    outcomes: list[Outcome | str | None] = []
    for whole in (True, False):
        try:
            if whole:
                outcome = both.whole(text, 0, params, case.types)
            else:
                outcome = await computed(both, session, split, params, case.types, 0)
            outcomes.append(in_order(outcome))
        except psycopg.Error as error:
            outcomes.append(error.sqlstate)
    assert outcomes[0] == outcomes[1]
