"""Every query of the fixtures that is refused without an engine: by a client, through a proxy with one, answered or refused."""

from __future__ import annotations

import re

import pytest

from tests.fixtures.cases import CASES, Case
from tests.fixtures.live import Twins
from tests.sql.split.ask import is_split

QUERY = re.compile(r"\s*(select|with|table|values)\b", re.IGNORECASE)
WRITES = re.compile(r"\b(insert|update|delete|merge)\b", re.IGNORECASE)


@pytest.fixture
def twins(kept_split_twins: Twins) -> Twins:
    """One seeded clinic for all cases, with an engine; the leak oracle at the end."""
    return kept_split_twins


def refused_without_an_engine() -> list[object]:
    """Return them but for those whose write is split, which are run in one way more (test_split_write_fixtures.py).

    Which of them are split is asked test by test: it takes seconds for all, which each process that collects tests would spend.
    """
    cases = [c for c in CASES if c.refuse == "0A000" and not (c.unit or c.write) and c.since <= 15 and QUERY.match(c.statement)]
    return [pytest.param(case, id=case.id) for case in cases]


@pytest.mark.parametrize("case", refused_without_an_engine())
def test_as_postgresql(twins: Twins, case: Case) -> None:
    if twins.both.plain.server_version < case.since * 10_000:
        pytest.skip(f"needs PostgreSQL {case.since}")
    statement, params = case.with_values(twins.value)
    if not is_split(case):
        twins.both.refused(statement, params, types=case.types)
        return
    ordered = bool(case.rest) and "ORDER BY" in case.statement
    with twins.rolled_back():
        outcome = twins.both.run(statement, params, types=case.types or None, ordered=ordered)
        _same_state(twins, case, outcome.sqlstate)
    if case.rest:
        assert (outcome.sqlstate or "") == case.error
    with twins.rolled_back():
        if params:
            twins.both.run(statement, params, types=case.types or None, ordered=ordered, result_format=1, named=True)
        else:
            twins.both.run(statement, protocol="simple", ordered=ordered)
        _same_state(twins, case, outcome.sqlstate)


def _same_state(twins: Twins, case: Case, sqlstate: str | None) -> None:
    """Compare what is stored behind a write in WITH."""
    if WRITES.search(case.statement) and not sqlstate:
        twins.same_state()
