"""What one process counts and measures, taken once a second into its metrics, so that hot paths count in plain integers."""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Counter as MetricCounter

from phiproxy.net.listener import Listener
from phiproxy.net.statement_times import Finished
from phiproxy.ops.metrics import STATES, AuditCounts, Metrics
from phiproxy.served_database import ServedDatabase

EVERY = 1.0
# How often the event loop is looked at, and for how long its longest delay is told: longer than Prometheus waits between scrapes.
LOOK_EVERY = 0.05
TOLD_FOR = 20.0


class Measuring:
    """Of one process: its listener and its databases."""

    def __init__(
        self, metrics: Metrics, listener: Listener, databases: Iterable[ServedDatabase], audit: AuditCounts | None = None
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._listener = listener
        self._databases = list(databases)
        self._before: dict[tuple[object, ...], float] = {}
        self._delays: deque[tuple[float, float]] = deque()
        listener.times.told_to(self._observe)

    async def watch(self) -> None:
        """Take what was counted, again and again, forever."""
        while True:
            await asyncio.sleep(EVERY)
            self.take()

    def take(self) -> None:
        """Take what was counted since this was done last."""
        metrics, listener = self._metrics, self._listener
        metrics.clients.set(listener.clients)
        states = Counter(_state(relay.waiting) for relay in listener.relays)
        for state in STATES:
            metrics.sessions.labels(state).set(states[state])
        c = listener.counters
        self._grow(metrics.statements, ("forwarded", ""), c.forwarded)
        self._grow(metrics.statements, ("rewritten", ""), c.rewritten)
        for anchor, number in c.reasons.items():
            self._grow(metrics.statements, ("refused", anchor.removeprefix("err-")), number)
        for engine_metric, total in zip(metrics.of_engine, (c.splits, c.rows_computed, c.engine_seconds), strict=True):
            self._grow(engine_metric, (), total)
        listener.times.adapt()
        self._grow(metrics.open_failures, (), c.open_failures)
        self._count(metrics.logins, listener.tallies.logins)
        self._count(metrics.refusals, listener.tallies.shapes)
        self._count(metrics.upstream_errors, listener.tallies.upstream_errors)
        for database in self._databases:
            self._take_of(database)
        self._count(metrics.kek_unwraps, *(database.watch.unwraps for database in self._databases))
        self._count(metrics.data_keys_refused, *(database.watch.refused for database in self._databases))
        self._count(metrics.registry_faults, *(database.trust.faults for database in self._databases))
        self._count(metrics.observed, *(database.observed for database in self._databases))
        if self._audit is not None:
            metrics.told(self._audit)
        metrics.key_cache_age.set(max((database.key_cache_age for database in self._databases), default=0.0))
        metrics.loop_delay.set(max((delay for _, delay in self._delays), default=0.0))

    def _take_of(self, database: ServedDatabase) -> None:
        metrics = self._metrics
        name = database.policy.database
        for column, number in database.counts.rows_opened().items():
            self._grow(metrics.rows_opened, (name, column), number)
        for column, number in database.counts.values_stored().items():
            self._grow(metrics.values_stored, (name, column), number)
        for (kind, state), number in database.jobs.jobs.items():
            metrics.jobs.labels(name, kind, state).set(number)
        for (kind, counted), number in database.jobs.rows.items():
            metrics.job_rows.labels(name, kind, counted).set(number)
        while database.watch.seconds:
            metrics.kek_unwrap_seconds.observe(database.watch.seconds.popleft())

    def _count(self, metric: MetricCounter, *counted: Mapping[Any, int]) -> None:
        """Raise a metric, label by label, to what was counted."""
        total = Counter[str]()
        for each in counted:
            total.update(each)
        for label, number in total.items():
            self._grow(metric, (label,), number)

    def _grow(self, metric: MetricCounter, labels: tuple[str, ...], number: float) -> None:
        """Raise one series to a number."""
        key = (metric, *labels)
        grown = number - self._before.get(key, 0)
        if grown:
            self._before[key] = number
            (metric.labels(*labels) if labels else metric).inc(grown)

    def _observe(self, finished: Finished) -> None:
        for phase, seconds in (*finished.phases.items(), ("total", finished.total)):
            self._metrics.statement_seconds.labels(phase, finished.verdict).observe(seconds)

    async def watch_loop(self) -> None:
        """Remember by how much the event loop was late each time, forever: for so long everybody had to wait."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            now = clock()
            self._delays.append((now, now - due))
            while self._delays[0][0] < now - TOLD_FOR:
                self._delays.popleft()


def _state(waiting: bytes) -> str:
    if not waiting:
        return "active"
    return "idle" if waiting == b"I" else "in_transaction"
