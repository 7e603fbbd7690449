"""20 000 cases of the matrix, the same in every run: each answers as PostgreSQL does, or is refused; PHIPROXY_EXPLORE for others.

Of these, those are run in which choices meet that meet in none before.
PHIPROXY_EXPLORE=SECONDS looks at cases of another seed, for so long each part; ``python -m tests.matrix`` at as many as one likes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from tests.harness.oracle import LeakOracle
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.matrix.cases import Case, Met, case
from tests.matrix.runner import Runner, Tally, matrix_site, oracle_of

EXPLORE = float(os.environ.get("PHIPROXY_EXPLORE", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 2 * EXPLORE)]
PARTS, EACH = 20, 1000
SHOWN = 5


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with matrix_site(postgres_server, tmp_path_factory.mktemp("matrix")) as found:
        yield found


@pytest.fixture(scope="module")
def oracle(site: Site) -> LeakOracle:
    """One for all parts: what it has searched of a log it does not search again."""
    return oracle_of(site)


@pytest.fixture(scope="module")
def runner(site: Site) -> Iterator[Runner]:
    with Runner(site) as found:
        yield found


def cases(part: int) -> Iterable[Case]:
    """Return the cases of a part; those of a chance seed while time is left, if others are looked at."""
    if not EXPLORE:
        return _by_part()[part]
    return _others(random.SystemRandom().randrange(1, 1 << 32))


@cache
def _by_part() -> list[list[Case]]:
    met = Met()
    return [[made for n in range(part * EACH, (part + 1) * EACH) if met.adds(made := case(0, n))] for part in range(PARTS)]


def _others(seed: int) -> Iterator[Case]:
    end, number = time.monotonic() + EXPLORE, 0
    while time.monotonic() < end:
        yield case(seed, number)
        number += 1


@pytest.mark.parametrize("part", range(PARTS))
def test_both_ways(site: Site, oracle: LeakOracle, runner: Runner, part: int) -> None:
    site.tap.reset()
    tally = Tally()
    for result in runner.run(cases(part)):
        tally.add(result)
    oracle.assert_no_leak()
    counts = dict(tally.counts)
    assert not tally.faults, "\n".join([f"{counts}", *(runner.simplest(r).told() for r in tally.faults[:SHOWN])])
    assert not tally.undocumented, "\n".join([f"{counts}", *(runner.simplest(r).told() for r in tally.undocumented[:SHOWN])])
    # A matrix that is all refused, or all wrong, would prove nothing.
    assert tally.counts["equal"] > tally.counts.total() // 4, counts
