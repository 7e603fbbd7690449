"""What a database of many tables costs that have no policy: DDL of other tables, the start, and a proxy that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.measures import cpu_seconds, middle
from benchmarks.site import CHECKOUT, PROTECTED, ROLE, Site

# Half of them tables, half of them views.
MAKE = """
DO $$ BEGIN
  FOR i IN {first}..{last} LOOP
    EXECUTE format('CREATE TABLE many.t%s (id int PRIMARY KEY, a text NOT NULL, b text, c int DEFAULT 3, d date)', i);
    EXECUTE format('CREATE VIEW many.v%s AS SELECT id, a, b FROM many.t%s WHERE c > 2', i, i);
  END LOOP;
END $$
"""
AT_ONCE = 250
DDL = "CREATE TABLE; INSERT; DROP TABLE"
TITLE = "many tables without a policy"


@dataclass(frozen=True)
class Beside:
    """Beside so many tables and as many views: milliseconds of DDL, seconds of the start, and percents of a core when idle.

    ``server``: of the server, for the proxy; ``workers``: of the server, for a proxy of four workers.
    """

    tables: int
    directly: float
    through: float
    start: float
    server: float
    proxy: float
    workers: float


def beside(site: Site, tables: int, rounds: int, seconds: float, checkout: Path = CHECKOUT) -> Beside:
    """Measure beside this many tables, which are made where there are fewer; ``seconds`` of doing nothing."""
    make(site, tables)
    begun = time.perf_counter()
    with site.proxy(checkout=checkout) as (port, pids):
        start = time.perf_counter() - begun
        ways = [site.dsn(site.server.port, PROTECTED), site.dsn(port, PROTECTED)]
        directly, through = (ddl(dsn, rounds) for dsn in ways)
        server, proxy = idle(site, pids, seconds)
    with site.proxy(workers=4, checkout=checkout) as (port, pids):
        for _ in range(8):  # until one answers, and the others with it
            with psycopg.connect(site.dsn(port, PROTECTED)) as app:
                app.execute(b"SELECT 1")
        workers, _ = idle(site, pids, seconds)
    return Beside(tables, directly, through, start, server, proxy, workers)


def make(site: Site, tables: int) -> None:
    """Make tables and views up to this number of each."""
    with psycopg.connect(site.server.dsn(PROTECTED), autocommit=True) as owner:
        owner.execute(f"CREATE SCHEMA IF NOT EXISTS many; CREATE SCHEMA IF NOT EXISTS scratch AUTHORIZATION {ROLE}".encode())
        answer = owner.execute(
            b"SELECT count(*) FROM pg_class WHERE relnamespace = 'many'::regnamespace AND relkind = 'r'"
        ).fetchone()
        assert answer is not None
        for first in range(int(answer[0]), tables, AT_ONCE):
            owner.execute(MAKE.format(first=first, last=min(tables, first + AT_ONCE) - 1).encode())
        owner.execute(b"VACUUM ANALYZE")


def ddl(dsn: str, rounds: int) -> float:
    """Return the milliseconds, the middle of all rounds, in which a table is made, filled and dropped again."""
    taken = []
    with psycopg.connect(dsn, autocommit=True) as app:
        for n in range(rounds):
            begun = time.perf_counter()
            app.execute(f"CREATE TABLE scratch.x{n} (id int, a text)".encode())
            app.execute(f"INSERT INTO scratch.x{n} VALUES (1, 'a')".encode())
            app.execute(f"DROP TABLE scratch.x{n}".encode())
            taken.append((time.perf_counter() - begun) * 1e3)
    return middle(taken)


def idle(site: Site, pids: Sequence[int], seconds: float) -> tuple[float, float]:
    """Return the percentages of a core that the server and these processes take while nobody asks anything."""
    time.sleep(min(seconds, 5.0))  # what the start has left to do
    with psycopg.connect(site.server.dsn(), autocommit=True) as owner:
        backends = [pid for (pid,) in owner.execute(b"SELECT pid FROM pg_stat_activity WHERE usename = 'phiproxy'").fetchall()]
    before = {pid: cpu_seconds([pid]) for pid in backends if _is_there(pid)}, cpu_seconds(pids)
    time.sleep(seconds)
    lasting = [pid for pid in before[0] if _is_there(pid)]  # a worker that has just begun closes its first connection
    spent = cpu_seconds(lasting) - sum(before[0][pid] for pid in lasting), cpu_seconds(pids) - before[1]
    return spent[0] / seconds * 100, spent[1] / seconds * 100


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def table(found: Sequence[Beside]) -> str:
    """Return what was found as a Markdown table."""
    lines = [
        f"| tables and views | {DDL}, directly | through the proxy | start | server, idle | proxy, idle | server, 4 workers |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {b.tables} | {b.directly:.1f} ms | {b.through:.1f} ms | {b.start:.1f} s | {b.server:.2f} % | {b.proxy:.2f} %"
        f" | {b.workers:.2f} % |"
        for b in found
    ]
    return "\n".join(lines) + "\n"
