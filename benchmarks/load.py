"""Run one workload one way once, and say what it took."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.contenders import Contender
from benchmarks.measures import cpu_seconds, middle, percentile
from benchmarks.site import ROLE, Site, pgbench
from benchmarks.workloads import Bulk, Queries

# Of a timed run this much is left out at the beginning and at the end, so that logging in is not counted.
WARM_UP, COOL_DOWN = 0.4, 0.1


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
    """How long a run of pgbench is: seconds, or a number of transactions for each client."""

    seconds: int = 0
    transactions: int = 0

    @property
    def options(self) -> list[str]:
        """The options for pgbench."""
        return ["-T", str(self.seconds)] if self.seconds else ["-t", str(self.transactions)]


def run_queries(work: Queries, way: Contender, site: Site, length: Length) -> Taken:
    """Let pgbench work; what it logs between two looks at the CPU counts."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        log = home / "log"
        command = [
            pgbench(),
            "-n",
            *_script(work, home),
            "-D",
            f"rows={site.rows}",
            "-M",
            work.mode,
            "-c",
            str(work.clients),
            "-j",
            "1",
        ]
        command += [*length.options, "-l", f"--log-prefix={log}", "-h", "127.0.0.1", "-p", str(way.port), "-U", ROLE, way.database]
        environment = {**os.environ, "PGPASSWORD": site.password}
        before, begun = cpu_seconds(way.pids), time.time()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
            if length.seconds:
                time.sleep(WARM_UP)
                before, begun = cpu_seconds(way.pids), time.time()
                time.sleep(length.seconds - WARM_UP - COOL_DOWN)
                after, ended = cpu_seconds(way.pids), time.time()
            complaint = process.communicate()[1]
        if not length.seconds:
            after, ended = cpu_seconds(way.pids), time.time()
        if process.returncode:
            raise SystemExit(f"{work.title}, {way.name}: {complaint.decode('utf-8', 'replace')}")
        return taken(logged(home, begun, ended), after - before, ended - begun)


def _script(work: Queries, home: Path) -> list[str]:
    if work.script.startswith("-"):
        return [work.script]
    path = home / "script.sql"
    path.write_text(work.script, encoding="ascii")
    return ["-f", str(path)]


def logged(home: Path, begun: float, ended: float) -> list[float]:
    """Return the latencies in µs of the transactions that pgbench's logs say to have ended between two times."""
    found = []
    for log in home.glob("log.*"):
        for line in log.read_text(encoding="ascii").splitlines():
            fields = line.split()
            if begun <= int(fields[4]) + int(fields[5]) / 1e6 <= ended:
                found.append(float(fields[2]))
    return found


def taken(latencies: list[float], cpu: float, seconds: float) -> Taken:
    """Return what a run took."""
    if not latencies:
        raise SystemExit("no transaction has ended")
    p50, p95, p99 = (percentile(latencies, share) for share in (0.50, 0.95, 0.99))
    return Taken(cpu / len(latencies) * 1e6, len(latencies) / seconds, p50, p95, p99, seconds)


def run_bulk(work: Bulk, way: Contender, site: Site) -> Taken:
    """Let a driver work."""
    with psycopg.connect(site.dsn(way.port, way.database), autocommit=True) as connection:
        connection.execute(b"TRUNCATE arrivals")
        before, begun = cpu_seconds(way.pids), time.perf_counter()
        done = work.work(connection, max(int(site.rows * work.share), 2))
        seconds = time.perf_counter() - begun
        cpu = cpu_seconds(way.pids) - before
    return Taken(cpu / done * 1e6, done / seconds, seconds=seconds)


def middle_of(runs: list[Taken]) -> Taken:
    """Return the medians of several runs."""
    return Taken(*(middle([getattr(r, name) for r in runs]) for name in ("cpu", "rate", "p50", "p95", "p99", "seconds")))
