"""Every fixture pair is executed: the client's statement on plaintext directly and on the sealed twin through the proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.cases import CASES, Case
from tests.fixtures.live import Twins, extended_site, watched_twins
from tests.harness.server import PostgresServer


@pytest.fixture(scope="module")
def twins(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """One seeded clinic for all cases; the leak oracle at the end."""
    with extended_site(postgres_server, tmp_path_factory.mktemp("fixtures")) as site, watched_twins(site) as found:
        yield found


def executed(*, refused: bool) -> list[object]:
    return [pytest.param(case, id=case.id) for case in CASES if not case.unit and bool(case.refuse) is refused]


@pytest.mark.parametrize("case", executed(refused=False))
def test_equal_both_ways(twins: Twins, case: Case) -> None:
    statement, params = case.with_values(twins.value)
    for outcome in twins.everywhere(statement, params):
        assert (outcome.sqlstate or "") == case.error


@pytest.mark.parametrize("case", executed(refused=True))
def test_refused_and_nothing_sent(twins: Twins, case: Case) -> None:
    statement, params = case.with_values(twins.value)
    twins.both.refused(statement, params, sqlstate=case.refuse)
    with twins.rolled_back():
        twins.both.refused(statement, params, sqlstate=case.refuse, protocol="extended" if params else "simple")
