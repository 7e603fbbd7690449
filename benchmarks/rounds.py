"""The rounds of a run: every workload one way after the other, and again, so that a machine whose speed drifts slows all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import pinning
from benchmarks.contenders import Contender
from benchmarks.limits import opening, sealing, sync
from benchmarks.load import Length, Taken, middle_of, run_bulk, run_queries
from benchmarks.measures import middle
from benchmarks.site import Site
from benchmarks.workloads import Bulk, Queries


@dataclass(frozen=True)
class Extent:
    """How much is measured. ``rounds`` for what targets are about, ``others`` for the rest.

    ``beside``: the numbers of tables beside which DDL is measured; ``idle``: the seconds for which nothing is done then.
    ``splits``: the rows that a split statement opens, and its rounds; ``split_beside``: those of one that a neighbour waits beside.
    ``smoke``: each part runs once, so that it is seen to run: what would be pinned only pinned, heavy statements only sealed.
    """

    rows: int
    scale: int
    length: Length
    rounds: int
    others: int
    connections: int
    stage_rounds: int
    beside: tuple[int, ...]
    idle: float
    splits: tuple[int, int]
    split_beside: int
    fills: tuple[int, int]
    smoke: bool = False


FULL = Extent(
    rows=100_000,
    scale=4,
    length=Length(seconds=2),
    rounds=3,
    others=1,
    connections=90,
    stage_rounds=30,
    beside=(0, 500, 5_000),
    idle=20,
    splits=(10_000, 20),
    split_beside=500_000,
    fills=(100_000, 2),
)
QUICK = Extent(
    rows=2_000,
    scale=1,
    length=Length(transactions=10, clients=2),
    rounds=1,
    others=1,
    connections=3,
    stage_rounds=1,
    beside=(20,),
    idle=0.2,
    splits=(500, 1),
    split_beside=500,
    fills=(500, 1),
    smoke=True,
)


@dataclass
class Results:
    """What was taken, round by round: by (workload, way); the seconds of the loops that only encrypt, and of a sync of the disk."""

    runs: dict[tuple[str, str], list[Taken]] = field(default_factory=dict)
    opening: list[float] = field(default_factory=list)
    sealing: list[float] = field(default_factory=list)
    syncs: list[float] = field(default_factory=list)

    def add(self, workload: str, way: str, taken: Taken) -> None:
        """Note one run."""
        self.runs.setdefault((workload, way), []).append(taken)

    def middle(self, workload: str, way: str) -> Taken | None:
        """Return the medians of a workload one way."""
        runs = self.runs.get((workload, way))
        return middle_of(runs) if runs else None

    def ratio(self, workload: str, way: str, other: str, of: Callable[[Taken], float], other_workload: str = "") -> float | None:
        """Return the median of the rounds' ratios of what ``of`` reads, one way to another."""
        mine, others = self.runs.get((workload, way)), self.runs.get((other_workload or workload, other))
        if not mine or not others:
            return None
        return middle([of(a) / of(b) for a, b in zip(mine, others, strict=True)])


@dataclass(frozen=True)
class Measured:
    """``shared``: every process on any core; ``pinned``: what stands between on a core of its own. None where there is one core."""

    shared: Results
    pinned: Results | None

    @property
    def judged(self) -> Results:
        """The results that targets are about."""
        return self.pinned or self.shared


def measure(
    site: Site, ways: dict[str, Contender], work: Sequence[Queries | Bulk], extent: Extent, say: Callable[[str], None]
) -> Measured:
    """Take turns, round by round; what targets are about also with a core of its own for what stands between."""
    shared, pinned = Results(), Results() if pinning.possible() else None
    server = site.server.pid
    assert server is not None
    for number in range(extent.rounds):
        for each in work:
            if number >= (extent.rounds if each.often else extent.others):
                continue
            for name in each.ways:
                way = ways.get(name)
                if way is None:
                    continue
                where = f"{number + 1}/{extent.rounds} {each.title} | {name}"
                alone = not extent.smoke or pinned is None or not each.often
                if alone:
                    shared.add(each.title, name, _run(each, way, site, extent, say, where))
                if pinned is not None and each.often:
                    with pinning.apart(way.pids, server):
                        one = _run(each, way, site, extent, say, f"{where}, pinned")
                    for results in (pinned,) if alone else (pinned, shared):
                        results.add(each.title, name, one)
        _add_limits(site, [results for results in (shared, pinned) if results is not None])
    return Measured(shared, pinned)


def _add_limits(site: Site, each: Sequence[Results]) -> None:
    loops = opening(site.rows), sealing(site.rows), sync(site.home)
    for results in each:
        results.opening.append(loops[0])
        results.sealing.append(loops[1])
        results.syncs.append(loops[2])


def _run(work: Queries | Bulk, way: Contender, site: Site, extent: Extent, say: Callable[[str], None], where: str) -> Taken:
    one = run_bulk(work, way, site) if isinstance(work, Bulk) else run_queries(work, way, site, extent.length)
    say(f"{where}: {one.cpu:.1f} µs CPU, {one.rate:.0f} a second")
    return one
