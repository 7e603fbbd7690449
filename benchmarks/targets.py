"""The targets: each a ratio within one run, and whether it is met."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.catalogue import DDL, Beside
from benchmarks.contenders import BOUNCER, DIRECT, FORWARDER, OTHER, SEALED, TWO_WORKERS
from benchmarks.load import Taken
from benchmarks.measures import middle
from benchmarks.rounds import Results
from benchmarks.stalls import Stall

PREPARED = "pgbench -S, prepared, 8 clients"
BY_TAG = "point select by tag, 3 protected columns, prepared, 8 clients"
ALONE = "point select by tag, 3 protected columns, prepared, 1 client"
BY_LITERAL = "point select by literal, 3 protected columns, simple, 8 clients"
INSERT = "insert of 3 protected columns, prepared, 8 clients"
ALL_SEALED = "SELECT * of 3 protected columns of 10, binary"
ALL_PLAIN = "SELECT * of 10 unprotected columns, binary"
COPY = "COPY FROM, 3 protected columns of 10"


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


def rows(results: Results, memory: dict[str, float], beside: Sequence[Beside], stalls: Sequence[Stall] = ()) -> list[Row]:
    """Return every target."""
    cores = os.cpu_count() or 1
    shared = f" (here client, server and proxies share {cores} cores)" if cores <= 4 else ""
    ratio, opened = results.ratio, _against_loop(results, ALL_SEALED, results.opening, _seconds)
    sealed = _against_loop(results, COPY, results.sealing, _seconds)
    cpu, rate = "proxy CPU per query", "throughput"
    return [
        Row(f"{cpu}, unprotected point select, against PgBouncer", ratio(PREPARED, OTHER, BOUNCER, _cpu), 1.3, "lower"),
        Row(f"{cpu}, protected point select by tag, against PgBouncer", ratio(BY_TAG, SEALED, BOUNCER, _cpu), 2.0, "lower"),
        Row(f"{rate}, unprotected point select, against the forwarder", ratio(PREPARED, OTHER, FORWARDER, _rate), 0.90, "higher"),
        Row(
            f"{rate}, protected point select by tag, against the forwarder", ratio(BY_TAG, SEALED, FORWARDER, _rate), 0.70, "higher"
        ),
        Row(
            f"{rate}, protected point select by literal (simple, shape seen), against the forwarder",
            ratio(BY_LITERAL, SEALED, FORWARDER, _rate),
            0.50,
            "higher",
        ),
        Row(
            f"{rate}, insert of 3 protected columns, against the forwarder", ratio(INSERT, SEALED, FORWARDER, _rate), 0.65, "higher"
        ),
        Row("time of SELECT * with 3 protected columns, against the crypto-only loop", opened, 2.5, "lower"),
        Row("time of SELECT * unprotected, against the forwarder", ratio(ALL_PLAIN, OTHER, FORWARDER, _seconds), 1.15, "lower"),
        Row("time of COPY FROM with 3 protected columns, against the crypto-only loop", sealed, 3.0, "lower"),
        Row("added latency, 1 client, protected point select by tag, against the forwarder's", _added(results), 1.6, "lower"),
        Row(f"{rate}, two workers against one{shared}", ratio(BY_TAG, TWO_WORKERS, SEALED, _rate), 1.7, "higher"),
        Row("memory per idle connection", memory.get(OTHER), 40.0, "lower", "KiB"),
        *_many_tables(beside[-1]),
        *(
            Row(f"`SELECT 1` waits at longest, beside {s.statement}", s.longest, 50.0, "lower", "ms")
            for s in stalls
            if s.way == SEALED
        ),
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
