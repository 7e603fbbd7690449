"""The drivers' own suites end through the proxy as they end directly, test by test.

What passes through the proxy says itself what PostgreSQL does: only what does not is run directly too.
"""

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
# Without a policy bytes pass as they come, whatever SQL they hold: for that, the suite with the most of the protocol is enough.
LEAST_PASSED: dict[tuple[Driver, Way], int] = {
    ("asyncpg", "no policy"): 300,
    ("asyncpg", "policy"): 250,
    ("sqlalchemy-psycopg", "policy"): 1500,
    ("sqlalchemy-asyncpg", "policy"): 500,
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
    return [(driver, way) for driver in get_args(Driver) for way in get_args(Way) if (driver, way) in chosen]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Run all suites that are wanted, several at once; what they were made ready with stays until the module is done."""
    assert pytestconfig.cache is not None
    shop = Workshop(Path(pytestconfig.cache.mkdir("sdists")), tmp_path_factory.mktemp("conformance"))
    with ExitStack() as cleanup, ThreadPoolExecutor(AT_ONCE) as pool:

        def run(driver: Driver, way: Way, *before: Future[Finished]) -> Finished:
            only = list(dict.fromkeys(test for one in before for test in _not_passed(one.result().outcomes))) if before else None
            ready = cleanup.enter_context(suite(shop, driver, way))
            report = shop.directory / f"{driver} {way}.json"
            return Finished(ready.run(report, only), partial(ready.run, report))

        started = {wanted: pool.submit(run, *wanted) for wanted in _wanted(request.session)}
        proxied = dict(started)
        for driver in dict.fromkeys(driver for driver, _ in proxied):  # behind all that they wait for
            started[driver, "direct"] = pool.submit(run, driver, "direct", *(f for (of, _), f in proxied.items() if of == driver))
        for future in started.values():
            future.exception()  # nothing else runs beside them: they are told apart by time, and so are others
        yield started


def _not_passed(outcomes: Outcomes) -> Outcomes:
    return {test: outcome for test, outcome in outcomes.items() if outcome.verdict != "passed"}


@pytest.mark.parametrize(("driver", "way"), LEAST_PASSED)
def test_ends_as_it_does_directly(runs: Runs, driver: Driver, way: Way) -> None:
    direct, proxied = runs[driver, "direct"].result(), runs[driver, way].result()
    passed, through = count(proxied.outcomes, "passed"), _not_passed(proxied.outcomes)
    outcomes = {test: found for test, found in direct.outcomes.items() if test in through}
    print(f"{driver}, {way}: {passed} of {len(proxied.outcomes)} tests pass; directly {count(outcomes, 'passed')} of the others do")
    found = differences(outcomes, through, (direct.again, proxied.again), STEADY)
    assert not found, f"{len(found)} tests end otherwise through the proxy:\n{describe(found)}"
    assert passed >= LEAST_PASSED[driver, way]
