"""The targets: each a ratio within one run, and whether it is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.catalogue import DDL, Beside
from benchmarks.contenders import AUDITED, AUDITED_IN_MEMORY, BOUNCER, DIRECT, FORWARDER, OTHER, SEALED
from benchmarks.load import Taken
from benchmarks.measures import middle
from benchmarks.rounds import Results
from benchmarks.split import FACTOR, FIXED, SplitCosts
from benchmarks.stalls import Stall

PREPARED, EXTENDED, SIMPLE = (f"pgbench -S, {mode}, 8 clients" for mode in ("prepared", "extended", "simple"))
TPC_B = "pgbench TPC-B-like, simple, 8 clients"
CLIENTS = 8
BY_TAG = "point select by tag, 3 protected columns, prepared, 8 clients"
BY_MANY = "point select by tag, 3 protected columns, prepared, 64 clients"
ALONE = "point select by tag, 3 protected columns, prepared, 1 client"
BY_LITERAL = "point select by literal, 3 protected columns, simple, 8 clients"
INSERT = "insert of 3 protected columns, prepared, 8 clients"
ALL_SEALED = "SELECT * of 3 protected columns of 10, binary"
ALL_PLAIN = "SELECT * of 10 unprotected columns, binary"
COPY = "COPY FROM, 3 protected columns of 10"
# CPU per query, against PgBouncer's: what is said of it, the workload, the way, and the target.
AGAINST_BOUNCER = (
    ("unprotected point select, prepared", PREPARED, OTHER, 1.4),
    ("unprotected point select, extended", EXTENDED, OTHER, 1.7),
    ("unprotected point select, simple", SIMPLE, OTHER, 1.7),
    ("unprotected TPC-B-like, simple", TPC_B, OTHER, 1.6),
    ("protected point select by tag", BY_TAG, SEALED, 2.5),
    ("protected point select by literal (simple, shape seen)", BY_LITERAL, SEALED, 3.5),
    ("insert of 3 protected columns", INSERT, SEALED, 3.0),
)
LONGEST, P99 = 50.0, 10.0
"""Milliseconds that a neighbour of a heavy statement may wait: at the longest, and at the 99th percentile."""


@dataclass(frozen=True)
class Row:
    """One target; ``ratio`` is None where what it compares with is not installed, and ``met`` then too."""

    workload: str
    ratio: float | None
    target: float
    better: Literal["higher", "lower"]
    unit: str = "times"

    @property
    def met(self) -> bool | None:
        """Tell whether the target is met."""
        if self.ratio is None:
            return None
        return self.ratio >= self.target if self.better == "higher" else self.ratio <= self.target


def _cpu(taken: Taken) -> float:
    return taken.cpu


def _rate(taken: Taken) -> float:
    return taken.rate


def _seconds(taken: Taken) -> float:
    return taken.seconds


def _recorded(results: Results) -> list[Row]:
    """Return the targets for an audit log: in memory, on the disk with few clients and many, and what it takes beside one sync.

    Without a log each of 8 clients gets an answer after 8 / rate seconds. One that is durable first adds a sync at least, and then
    it is the disk that is measured. With many clients the proxy's core is busy while they wait, and what counts is what a log takes
    of it.
    """
    without, on_disk = results.runs.get((BY_TAG, SEALED)), results.runs.get((BY_TAG, AUDITED))
    beside = None
    if without and on_disk:
        rounds = zip(without, on_disk, results.syncs, strict=True)
        beside = middle([CLIENTS / logged.rate / (CLIENTS / plain.rate + sync) for plain, logged, sync in rounds])
    throughput = "throughput, protected point select by tag, without an audit log against with one"
    time = "time, protected point select by tag, with an audit log on the disk, against without one and a sync of that disk"
    in_memory = results.ratio(BY_TAG, SEALED, AUDITED_IN_MEMORY, _rate)
    return [
        *([Row(f"{throughput} in memory, 8 clients", in_memory, 1.15, "lower")] if in_memory is not None else []),
        Row(f"{throughput} on the disk, 64 clients", results.ratio(BY_MANY, SEALED, AUDITED, _rate), 1.15, "lower"),
        Row(f"{throughput} on the disk, 8 clients", results.ratio(BY_TAG, SEALED, AUDITED, _rate), 1.15, "lower"),
        Row(time, beside, 1.15, "lower"),
    ]


def _against_loop(results: Results, workload: str, loop: list[float], of: Callable[[Taken], float]) -> float | None:
    runs = results.runs.get((workload, SEALED))
    return middle([of(taken) / limit for taken, limit in zip(runs, loop, strict=True)]) if runs else None


def _added(results: Results) -> float | None:
    """Return the latency that the proxy adds, in those that the forwarder adds, round by round."""
    runs = [results.runs.get((ALONE, way)) for way in (DIRECT, FORWARDER, SEALED)]
    if not all(runs):
        return None
    direct, forwarder, sealed = ([taken.p50 for taken in one] for one in runs if one)
    return middle([(s - d) / max(f - d, 1.0) for d, f, s in zip(direct, forwarder, sealed, strict=True)])


@dataclass(frozen=True)
class Job:
    """What a job over a table in use has taken, beside what there is without it; None where there is or was none.

    ``wait``: the longest time for which statements waited, from its switch on (seconds); ``p99``: that of the application's
    statements while all rows are gone through, in that of before; ``rate``: rows per second, in those of an UPDATE in SQL.
    """

    name: str
    wait: float | None = None
    p99: float | None = None
    rate: float | None = None


def of_jobs(jobs: Sequence[Job]) -> list[Row]:
    """Return the targets for jobs over a table in use."""
    every = [
        *(Row(f"longest wait at the switch of `{job.name}`", job.wait, 2.0, "lower", "s") for job in jobs),
        *(Row(f"p99 of the application's statements beside `{job.name}`, against before", job.p99, 2.0, "lower") for job in jobs),
        *(Row(f"rows per second that `{job.name}` fills, against UPDATE in SQL", job.rate, 0.5, "higher") for job in jobs),
    ]
    return [row for row in every if row.ratio is not None]


def rows(
    results: Results,
    memory: dict[str, float],
    beside: Sequence[Beside],
    stalls: Sequence[Stall] = (),
    splits: SplitCosts | None = None,
    jobs: Sequence[Job] = (),
) -> list[Row]:
    """Return every target."""
    ratio, opened = results.ratio, _against_loop(results, ALL_SEALED, results.opening, _seconds)
    sealed = _against_loop(results, COPY, results.sealing, _seconds)
    return [
        *(
            Row(f"proxy CPU per query, {name}, against PgBouncer", ratio(workload, way, BOUNCER, _cpu), target, "lower")
            for name, workload, way, target in AGAINST_BOUNCER
        ),
        Row("time of SELECT * with 3 protected columns, against the crypto-only loop", opened, 2.0, "lower"),
        Row("time of SELECT * unprotected, against the forwarder", ratio(ALL_PLAIN, OTHER, FORWARDER, _seconds), 1.15, "lower"),
        Row("time of COPY FROM with 3 protected columns, against the crypto-only loop", sealed, 2.5, "lower"),
        Row("added latency, 1 client, protected point select by tag, against the forwarder's", _added(results), 2.0, "lower"),
        *_recorded(results),
        Row("memory per idle connection", memory.get(OTHER), 40.0, "lower", "KiB"),
        *(_splits(splits) if splits else ()),
        *_many_tables(beside[-1]),
        *of_jobs(jobs),
        *(row for stall in stalls if stall.way == SEALED for row in _waits(stall)),
    ]


def _waits(stall: Stall) -> list[Row]:
    """Return the targets for a neighbour of a heavy statement."""
    return [
        Row(f"`SELECT 1` waits at longest, beside {stall.statement}", stall.longest, LONGEST, "lower", "ms"),
        Row(f"`SELECT 1` waits (p99), beside {stall.statement}", stall.p99, P99, "lower", "ms"),
    ]


def _splits(costs: SplitCosts) -> list[Row]:
    """Return the targets for split statements."""
    return [
        *(
            Row(f"time of `{name}` over {costs.rows} split rows, against these rows through the proxy", factor, FACTOR, "lower")
            for name, factor in costs.factors.items()
        ),
        Row("what a split of 10 rows costs more than the rows, median", costs.fixed, FIXED, "lower", "ms"),
    ]


def _many_tables(most: Beside) -> list[Row]:
    """Return the targets for DDL of tables without a policy, the start and the poll, beside the most tables that were measured."""
    where = f"beside {most.tables} tables and views without a policy"
    return [
        Row(f"time that {DDL} takes longer than directly, {where}", most.through - most.directly, 5.0, "lower", "ms"),
        Row(f"start, {where}", most.start, 3.0, "lower", "s"),
        Row(f"the server's part of a core for an idle proxy, {where}", most.server, 0.5, "lower", "%"),
        Row(f"the server's part of a core for an idle proxy of 4 workers, {where}", most.workers, 0.5, "lower", "%"),
    ]
