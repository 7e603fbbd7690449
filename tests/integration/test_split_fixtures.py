"""Every split of the fixtures, and every SELECT of theirs that an engine answers: by a client, through a proxy with an engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.cases import CASES, Case
from tests.fixtures.live import STATE, Twins, extended_site, watched_twins
from tests.harness.server import PostgresServer
from tests.sql.split.ask import split_of

QUERY = re.compile(r"\s*(select|with|table|values)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def twins(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, engine_directory: Path) -> Iterator[Twins]:
    """One seeded clinic for all cases, with an engine; the leak oracle at the end."""
    settings = f"compute: {{engine: embedded, directory: {engine_directory}}}\n"
    directory = tmp_path_factory.mktemp("split_fixtures")
    with extended_site(postgres_server, directory, settings=settings) as site, watched_twins(site) as found:
        yield found


def split() -> list[object]:
    cases = [c for c in CASES if c.refuse == "0A000" and not c.unit and c.since <= 15 and QUERY.match(c.statement)]
    return [pytest.param(case, id=case.id) for case in cases if case.rest or _is_split(case)]


def _is_split(case: Case) -> bool:
    text, _ = case.with_values(lambda word: f"Zoë-{word}-9")
    try:
        return split_of(text, 15, case.types) is not None
    except AssertionError:
        return False


@pytest.mark.parametrize("case", split())
def test_as_postgresql(twins: Twins, case: Case) -> None:
    if twins.both.plain.server_version < case.since * 10_000:
        pytest.skip(f"needs PostgreSQL {case.since}")
    statement, params = case.with_values(twins.value)
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
    for state in STATE if case.writes and not sqlstate else ():
        twins.both.run(state)
