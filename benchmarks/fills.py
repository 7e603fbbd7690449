"""How fast ``encrypt`` fills the hidden columns of a full table, beside an UPDATE in SQL that rewrites the same columns.

python -m benchmarks.fills [--rows N] [--columns 1,3] [--rounds N] [--no-neighbour]

Both take turns over fresh tables of the same rows with the same indexes. A neighbour reads a row of the table by its key and
changes another column of one, through a proxy, a hundred times a second: what it waits for is told of before, beside the UPDATE
(which is over another table), beside each fill, and at the switch. A loop that only seals as many values, by the code by which the
job does, says what of the job's CPU is cryptography. A fill's CPU is told of job and server apart, and of the clock
what the job waited for a core, and what it slept: that is what it waited for the server.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks.job_phases import Owner, phases, rewrite_in_sql
from benchmarks.measures import middle, percentile
from benchmarks.site import INDEXES, PROTECTED, ROLE, SETTINGS, TEN_COLUMNS, THREE, Site, copied, row, say
from benchmarks.targets import Job
from phiproxy.demo.postgres import EmbeddedPostgres
from phiproxy.plan.sealed_columns import column_store
from tests.session.screenplay import CIPHERS, SSN

COLUMNS = ("ssn", "full_name", "diagnosis")
TABLE = f"id integer PRIMARY KEY, {THREE}, {TEN_COLUMNS}"
INDEXED = "".join(line + "\n" for line in INDEXES.splitlines() if " people " in line)
POLICY = f"database: {PROTECTED}\ndeployment: fills\ntables:\n"
COLUMN = "      {}: {{type: text, indexes: [{}], accept_leakage: nobody in here exists}}\n"
PAUSE = 0.01
QUIET = 2.0
"""Seconds for which the neighbour is measured alone, before each round."""


class Neighbour:
    """A session through the proxy, and how long its statements took (seconds)."""

    def __init__(self, dsn: str, rows: int, *, pings: bool) -> None:
        self._dsn, self._rows = dsn, rows
        self.table = ""
        self._took: list[float] = []
        self.failed = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run) if pings else None

    def _run(self) -> None:
        try:
            with psycopg.connect(self._dsn, autocommit=True) as conn:
                while not self._stop.wait(PAUSE):
                    for query in ("SELECT visits FROM {} WHERE id = %s", "UPDATE {} SET visits = visits + 1 WHERE id = %s"):
                        began = time.monotonic()
                        conn.execute(query.format(self.table).encode(), (1 + secrets.randbelow(self._rows),))
                        self._took.append(time.monotonic() - began)
        except psycopg.Error as error:
            self.failed = f"{type(error).__name__} (SQLSTATE {error.sqlstate})"

    def __enter__(self) -> Neighbour:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def took(self) -> list[float]:
        """Return how long each statement took since this was asked last."""
        took, self._took = self._took, []
        return took


class Round(NamedTuple):
    """An UPDATE in SQL and a fill: the seconds and the CPU of each, what the neighbour waited for before and beside.

    ``held``: the seconds for which statements waited at the switch.
    """

    in_sql: tuple[float, float]
    seconds: float
    busiest: float
    before: list[float]
    beside: list[float]
    held: float


def sealed_alone(columns: int, turns: int = 5, rows: int = 20_000, at_once: int = 200) -> float:
    """Return for how many seconds of CPU a loop that does nothing else seals a row of so many columns with a tag each."""
    store, took = column_store(CIPHERS, SSN, canonical=True), list[float]()
    assert store is not None
    values = [[str(row(n)[1 + column]).encode() for n in range(rows)] for column in range(columns)]
    for _ in range(turns):
        began = time.process_time()
        for begin in range(0, rows, at_once):
            (macs,), keys = CIPHERS.macs([SSN]), CIPHERS.draw_row_keys(SSN.scope, at_once)
            for column in values:
                given = column[begin : begin + at_once]
                store.seal(given, keys, store.slots(given, macs))
        took.append((time.process_time() - began) / rows)
    return middle(took)


def tell(text: str) -> None:
    """Print a line of the result at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def told(took: Sequence[float]) -> str:
    """Say how long statements took."""
    if not took:
        return "none"
    return f"p50 {percentile(took, 0.5) * 1e3:.1f} ms, p99 {percentile(took, 0.99) * 1e3:.1f}, longest {max(took) * 1e3:.0f}"


def _slower(before: Sequence[float], beside: Sequence[float]) -> float | None:
    """Return the 99th percentile beside a fill in that of before; None where a fill of few rows was over before any statement."""
    return percentile(beside, 0.99) / percentile(before, 0.99) if before and beside else None


def main() -> None:
    """Make the tables, take turns, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", default="1,3", help="how many are sealed; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-neighbour", action="store_true", help="nobody else is at work on the tables")
    chosen = parser.parse_args()
    began = time.monotonic()
    counts = [int(count) for count in chosen.columns.split(",")]
    for count, done in rounds(chosen.rows, counts, chosen.rounds, pings=not chosen.no_neighbour).items():
        _compare(count, done)
    load = os.getloadavg()[0]
    tell(f"{time.monotonic() - began:.0f} s; {load:.1f} processes at the end (1 minute), {os.cpu_count()} cores")


def measured(rows: int, turns: int) -> Job:
    """Return what ``encrypt`` of three columns of a table in use takes, beside what there is without it."""
    (done,) = rounds(rows, [len(COLUMNS)], turns, pings=True).values()
    before, beside = [t for each in done for t in each.before], [t for each in done for t in each.beside]
    return Job(
        f"encrypt, 3 columns of {rows} rows",
        wait=max(each.held for each in done),
        p99=_slower(before, beside),
        rate=middle([each.in_sql[0] / each.seconds for each in done]),
    )


def rounds(rows: int, counts: Sequence[int], turns: int, *, pings: bool) -> dict[int, list[Round]]:
    """Return the rounds for each count of columns that are sealed."""
    tables = {f"people_{count}_{n}": COLUMNS[:count] for count in counts for n in range(turns)}
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(settings=SETTINGS) as server:
        site = Site(server, Path(directory), rows=rows, scale=1)
        site.make_databases()
        with psycopg.connect(server.dsn(PROTECTED), autocommit=True) as owner:
            say(f"loading {len(tables)} tables of {rows} rows")
            _make_tables(owner, server.superuser, tables, rows)
            site.make_keys(POLICY + "".join(map(_policy, tables, tables.values())))
            with site.proxy() as (port, _):
                config = ["-c", str(site.home / f"phiproxy-{port}.yaml")]
                with Neighbour(site.dsn(port, PROTECTED), rows, pings=pings) as neighbour:
                    done = {
                        count: [
                            _round(owner, neighbour, f"people_{count}_{n}", rows, COLUMNS[:count], config) for n in range(turns)
                        ]
                        for count in counts
                    }
                if neighbour.failed:
                    sys.exit(f"a statement of the neighbour has failed: {neighbour.failed}")
    return done


def _policy(table: str, columns: Sequence[str]) -> str:
    return f"  public.{table}:\n    columns:\n" + "".join(COLUMN.format(column, column) for column in columns)


def _make_tables(owner: Owner, superuser: str, tables: Sequence[str] | dict[str, tuple[str, ...]], rows: int) -> None:
    owner.execute(f"GRANT {superuser} TO phiproxy".encode())
    owner.execute(b"GRANT SET ON PARAMETER session_replication_role TO phiproxy")
    for table in tables:
        owner.execute(f"CREATE TABLE {table} ({TABLE})".encode())
        with owner.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
            copy.write(copied(rows))
        owner.execute(INDEXED.replace(" people ", f" {table} ").encode())
        owner.execute(f"VACUUM ANALYZE {table}".encode())
        owner.execute(f"GRANT SELECT, UPDATE ON {table} TO phiproxy, {ROLE}".encode())


def _round(owner: Owner, neighbour: Neighbour, table: str, rows: int, columns: Sequence[str], config: Sequence[str]) -> Round:
    neighbour.table = table
    owner.execute(b"CHECKPOINT")
    neighbour.took()
    time.sleep(QUIET)
    before = neighbour.took()
    in_sql = rewrite_in_sql(owner, columns, copied(rows), TABLE, INDEXED.replace(" people ", " copied "))
    owner.execute(b"CHECKPOINT")
    said = [f"neighbour alone: {told(before)}; beside the UPDATE: {told(neighbour.took())}"]
    filled = beside = None
    held = 0.0
    for phase in phases(owner, ["encrypt", f"public.{table}", "--json", *config], said.append):
        took = neighbour.took()
        held = max(held, phase.held)
        if phase.name == f"sealing public.{table}":
            filled, beside = phase, took
        if phase.name == "switching":
            said.append(f"  neighbour at the switch: {told(took)}")
    if filled is None or beside is None:
        raise SystemExit("the command did not tell of its fill")
    used, each = filled.used, 1e6 / rows
    asleep = max(0.0, filled.seconds - used.job - used.queued)
    tell(
        f"{table}: UPDATE in SQL {rows / in_sql[0]:,.0f} rows/s, {in_sql[1] * each:.1f} µs of CPU;"
        f" fill {rows / filled.seconds:,.0f} rows/s, {filled.seconds * each:.1f} µs by the clock: the job computed"
        f" {used.job * each:.1f}, waited for a core {used.queued * each:.1f}, for the server {asleep * each:.1f};"
        f" server {used.server * each:.1f} µs of CPU"
    )
    tell("\n".join([*said, f"  neighbour beside the fill: {told(beside)}"]))
    return Round(in_sql, filled.seconds, max(used.job, used.server), before, beside, held)


def _compare(columns: int, rounds: Sequence[Round]) -> None:
    by_clock = [each.in_sql[0] / each.seconds for each in rounds]
    by_cpu = [each.in_sql[1] / each.busiest for each in rounds]
    before, beside = [t for each in rounds for t in each.before], [t for each in rounds for t in each.beside]
    slower = _slower(before, beside)
    ratio = "" if slower is None else f", {slower:.1f} times"
    alone = sealed_alone(columns)
    tell(f"== {columns} columns in a loop that only seals: {alone * 1e6:.1f} µs of CPU a row, {1 / alone:,.0f} rows/s")
    tell(
        f"== {columns} columns: the fill has {middle(by_clock):.2f} of the rate of UPDATE in SQL by the clock"
        f" ({', '.join(f'{each:.2f}' for each in by_clock)}), {middle(by_cpu):.2f} by CPU with a core for each of job and server"
        f" ({', '.join(f'{each:.2f}' for each in by_cpu)}); neighbour alone {told(before)}, beside {told(beside)}{ratio}"
    )


if __name__ == "__main__":
    main()
