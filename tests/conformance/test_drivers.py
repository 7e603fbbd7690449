"""The drivers' own suites end through the proxy as they end directly, test by test."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from tests.conformance.drivers import STEADY, Driver, Way, Workshop, suite
from tests.conformance.outcomes import Outcomes, Run, count, describe, differences

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# so that a suite which no longer finds its server, or its tests, cannot pass by doing nothing
LEAST_PASSED: dict[tuple[Driver, Way], int] = {
    ("asyncpg", "no policy"): 300,
    ("asyncpg", "policy"): 250,
    ("sqlalchemy-psycopg", "no policy"): 1500,
    ("sqlalchemy-psycopg", "policy"): 1500,
    ("sqlalchemy-asyncpg", "no policy"): 500,
    ("psycopg2", "policy"): 700,
}
AT_ONCE = 4


@dataclass
class Finished:
    """A suite that has run, and how to run some of its tests again."""

    outcomes: Outcomes
    again: Run


Runs = dict[tuple[Driver, Way], Future[Finished]]


def _wanted(session: pytest.Session) -> list[tuple[Driver, Way]]:
    """Return the runs that the collected tests need, the slowest first."""
    here = [item for item in session.items if item.path == Path(__file__) and isinstance(item, pytest.Function)]
    chosen = {(item.callspec.params["driver"], item.callspec.params["way"]) for item in here}
    compared = {driver for driver, _ in chosen}
    return [
        (driver, way)
        for driver in get_args(Driver)
        for way in get_args(Way)
        if (driver, way) in chosen or (way == "direct" and driver in compared)
    ]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Run all suites that are wanted, several at once; what they were made ready with stays until the module is done."""
    assert pytestconfig.cache is not None
    shop = Workshop(Path(pytestconfig.cache.mkdir("sdists")), tmp_path_factory.mktemp("conformance"))
    with ExitStack() as cleanup, ThreadPoolExecutor(AT_ONCE) as pool:

        def run(driver: Driver, way: Way) -> Finished:
            ready = cleanup.enter_context(suite(shop, driver, way))
            report = shop.directory / f"{driver} {way}.json"
            return Finished(ready.run(report), partial(ready.run, report))

        started = {wanted: pool.submit(run, *wanted) for wanted in _wanted(request.session)}
        for future in started.values():
            future.exception()  # nothing else runs beside them: they are told apart by time, and so are others
        yield started


@pytest.mark.parametrize(("driver", "way"), LEAST_PASSED)
def test_ends_as_it_does_directly(runs: Runs, driver: Driver, way: Way) -> None:
    direct, proxied = runs[driver, "direct"].result(), runs[driver, way].result()
    outcomes = direct.outcomes
    if way == "policy":  # it leaves some out: only what both ran can be compared
        outcomes = {t: found for t, found in outcomes.items() if t in proxied.outcomes}
    through = {t: found for t, found in proxied.outcomes.items() if way != "policy" or t in outcomes}
    passed = count(through, "passed")
    print(f"{driver}, {way}: {len(through)} tests, {count(outcomes, 'passed')} pass directly, {passed} through the proxy")
    found = differences(outcomes, through, (direct.again, proxied.again), STEADY)
    assert not found, f"{len(found)} tests end otherwise through the proxy:\n{describe(found)}"
    assert passed >= LEAST_PASSED[driver, way]
