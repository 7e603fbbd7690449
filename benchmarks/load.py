"""Run one workload one way once, and say what it took."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from bisect import bisect
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from benchmarks.contenders import Contender
from benchmarks.measures import cpu_seconds, middle, percentile
from benchmarks.site import ROLE, Site, pgbench
from benchmarks.workloads import Bulk, Queries

# How often the CPU is looked at while pgbench works, and what is left out behind the clients' first transactions: logging in, to
# the server too, does not count.
LOOK, WARM_UP = 0.05, 0.1
Look = tuple[float, float]
"""When (seconds since the epoch), and the CPU seconds used until then."""
Transaction = tuple[float, float, int]
"""When it ended, its latency in µs, and its client."""


@dataclass(frozen=True)
class Taken:
    """One run: CPU microseconds per query (or row) between client and server, queries (or rows) per second, latencies in µs."""

    cpu: float
    rate: float
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Length:
    """How long a run of pgbench is: seconds, or a number of transactions for each client; with so many clients at most."""

    seconds: int = 0
    transactions: int = 0
    clients: int = 1000

    @property
    def options(self) -> list[str]:
        """The options for pgbench."""
        return ["-T", str(self.seconds)] if self.seconds else ["-t", str(self.transactions)]


def run_queries(work: Queries, way: Contender, site: Site, length: Length) -> Taken:
    """Let pgbench work; for longer where its time, in which it logs in too, was over before its first transaction was."""
    for longer in (1, 4, 15):
        transactions, looks = _run_pgbench(work, way, site, replace(length, seconds=length.seconds * longer))
        if transactions:
            return between(transactions, looks)
    raise SystemExit(f"{work.title}, {way.name}: no transaction has ended")


def _run_pgbench(work: Queries, way: Contender, site: Site, length: Length) -> tuple[list[Transaction], list[Look]]:
    """Let pgbench work, and look at the CPU meanwhile; return what it logs, and the looks."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        command = [
            pgbench(),
            "-n",
            *_script(work, home),
            "-D",
            f"rows={site.rows}",
            "-M",
            work.mode,
            "-c",
            str(min(work.clients, length.clients)),
            "-j",
            "1",
        ]
        command += [
            *length.options,
            "-l",
            f"--log-prefix={home / 'log'}",
            "-h",
            "127.0.0.1",
            "-p",
            str(way.port),
            "-U",
            ROLE,
            way.database,
        ]
        looks = [(time.time(), cpu_seconds(way.pids))]
        environment = {**os.environ, "PGPASSWORD": site.password}
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
            while process.poll() is None:
                time.sleep(LOOK)
                looks.append((time.time(), cpu_seconds(way.pids)))
            looks.append((time.time(), cpu_seconds(way.pids)))  # a short run may be over between the last look and the question
            complaint = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"{work.title}, {way.name}: {complaint.decode('utf-8', 'replace')}")
        return logged(home), looks


def _script(work: Queries, home: Path) -> list[str]:
    if work.script.startswith("-"):
        return [work.script]
    path = home / "script.sql"
    path.write_text(work.script, encoding="ascii")
    return ["-f", str(path)]


def logged(home: Path) -> list[Transaction]:
    """Return the transactions in pgbench's logs, in the order in which they ended."""
    lines = (line.split() for log in home.glob("log.*") for line in log.read_text(encoding="ascii").splitlines())
    return sorted((int(fields[4]) + int(fields[5]) / 1e6, float(fields[2]), int(fields[0])) for fields in lines)


def between(transactions: list[Transaction], looks: list[Look]) -> Taken:
    """Return what was taken between the first and last look at which every client was at work; or in all, if that was short."""
    first = {client: at for at, _, client in reversed(transactions)}
    began, ended = max(first.values()) + WARM_UP, transactions[-1][0]
    chosen = [look for look in looks if began <= look[0] <= ended]
    ends = {bisect([at for at, _, _ in transactions], when) for when, _ in (chosen[:1] + chosen[-1:])}
    (begin, before), (end, after) = (chosen[0], chosen[-1]) if len(ends) > 1 else (looks[0], looks[-1])
    latencies = [latency for at, latency, _ in transactions if begin <= at <= end]
    p50, p95, p99 = (percentile(latencies, share) for share in (0.50, 0.95, 0.99))
    return Taken((after - before) / len(latencies) * 1e6, len(latencies) / (end - begin), p50, p95, p99, end - begin)


def run_bulk(work: Bulk, way: Contender, site: Site) -> Taken:
    """Let a driver work."""
    rows = max(int(site.rows * work.share), 2)
    if work.prepare is not None:
        work.prepare(rows)
    with psycopg.connect(site.dsn(way.port, way.database), autocommit=True) as connection:
        connection.execute(b"TRUNCATE arrivals")
        before, begun = cpu_seconds(way.pids), time.perf_counter()
        done = work.work(connection, rows)
        seconds = time.perf_counter() - begun
        cpu = cpu_seconds(way.pids) - before
    return Taken(cpu / done * 1e6, done / seconds, seconds=seconds)


def middle_of(runs: list[Taken]) -> Taken:
    """Return the medians of several runs."""
    return Taken(*(middle([getattr(r, name) for r in runs]) for name in ("cpu", "rate", "p50", "p95", "p99", "seconds")))
