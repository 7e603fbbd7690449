"""Measure split statements through the proxy beside the same rows selected through it, and the whole statement on plain rows.

python -m benchmarks.split [--rounds N] [--rows N] [--beside ROWS]

One round runs every variant once, so what is compared has met the same machine. Times are of a client that reads all results.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.contenders import SEALED
from benchmarks.measures import cpu_seconds, family, machine, middle, percentile
from benchmarks.stalls import QUIET, Stall, neighbour, table, waited
from phiproxy.demo import clinic
from phiproxy.demo.postgres import EmbeddedPostgres, free_port
from phiproxy.demo.run import Demo

NAMES = ("Smith", "Kowalczyk", "Østergaard", "Nguyen", "Goldsmith", "Müller", "Okonkwo", "Fernández")
COLUMNS = "mrn, ssn, full_name, date_of_birth, city"
SELECTED = "SELECT id, full_name, date_of_birth, city FROM patients WHERE city = 'Many'"
SORTED = f"{SELECTED} ORDER BY full_name LIMIT 50"
MANY = {
    "ORDER BY full_name LIMIT 50": SORTED,
    "ILIKE '%smi%'": f"{SELECTED} AND full_name ILIKE '%smi%'",
    "GROUP BY … max(date_of_birth)": (
        "SELECT left(full_name, 3), max(date_of_birth), count(*) FROM patients WHERE city = 'Many' GROUP BY 1"
    ),
}
FEW = "SELECT id, full_name FROM patients WHERE city = 'Few'"
FEW_SORTED = f"{FEW} ORDER BY full_name"
FACTOR, FIXED = 1.5, 3.0
"""The targets: times the rows themselves, and milliseconds more than ten rows."""
ROWS = "the rows, through the proxy"
Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class SplitCosts:
    """What splits cost, each against the rows themselves selected through the proxy.

    ``factors``: by statement, times the time of ``rows`` rows; ``fixed``: milliseconds more for ten rows, the median.
    """

    rows: int
    factors: dict[str, float]
    fixed: float


def load(conn: Connection, rows: int) -> None:
    """Load ``rows`` people of one city, and ten of another."""
    with conn.cursor().copy(f"COPY patients ({COLUMNS}) FROM STDIN".encode()) as copy:
        for n in range(rows + 10):
            name = f"{NAMES[n * 7 % len(NAMES)]} {n * 7919 % 99991}"
            copy.write_row((f"M{n}", f"{n:09d}", name, f"{1930 + n % 80}-0{1 + n % 9}-1{n % 9}", "Many" if n < rows else "Few"))
    conn.commit()


def timed(conn: Connection, statement: str) -> float:
    """Return the milliseconds that a statement takes, its results read, prepared by the protocol."""
    begun = time.perf_counter()
    conn.execute(statement.encode(), prepare=True).fetchall()
    return 1000 * (time.perf_counter() - begun)


def rounds(count: int, variants: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run all variants so many times, one after the other; the first round does not count."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for n in range(count + 1):
        for name, run in variants.items():
            milliseconds = run()
            if n:
                taken[name].append(milliseconds)
    return taken


def many(count: int, plain: Connection, proxied: Connection) -> dict[str, list[float]]:
    """Return the milliseconds of the statements over many candidate rows, and of these rows."""
    variants: dict[str, Callable[[], float]] = {ROWS: lambda: timed(proxied, SELECTED)}
    for name, statement in MANY.items():
        variants[f"{name}, plain"] = lambda statement=statement: timed(plain, statement)  # type: ignore[misc]
        variants[name] = lambda statement=statement: timed(proxied, statement)  # type: ignore[misc]
    return rounds(count, variants)


def few(count: int, plain: Connection, proxied: Connection) -> dict[str, list[float]]:
    """Return the milliseconds of ten rows, and of these sorted."""
    return rounds(
        count,
        {
            ROWS: lambda: timed(proxied, FEW),
            "split": lambda: timed(proxied, FEW_SORTED),
            "plain": lambda: timed(plain, FEW_SORTED),
        },
    )


def factor(taken: dict[str, list[float]], name: str) -> float:
    """Return how many times as long as the rows themselves a variant took, the median of the rounds' ratios."""
    return middle([t / rows for t, rows in zip(taken[name], taken[ROWS], strict=True)])


def more(taken: dict[str, list[float]]) -> list[float]:
    """Return the milliseconds that a split took more than its rows, round by round."""
    return [split - rows for split, rows in zip(taken["split"], taken[ROWS], strict=True)]


def beside(rows: int) -> Stall:
    """Measure how long a neighbour waits while one split opens this many rows."""
    with site(rows) as (_, proxied, _, uri):
        return _beside(rows, proxied, uri)


def _beside(rows: int, proxied: Connection, uri: str) -> Stall:
    with neighbour(uri) as ended:
        time.sleep(10 * QUIET)
        begun = time.monotonic()
        seconds = timed(proxied, SORTED) / 1000
        return waited(f"a split of {rows} rows", SEALED, ended(), begun, seconds)


def measured(rows: int, count: int, many_rows: int) -> tuple[SplitCosts, Stall]:
    """Measure what splits cost, and how long a neighbour waits beside one of ``many_rows``; as many rows are loaded once."""
    with site(rows) as (plain, proxied, _, uri):
        taken = many(count, plain, proxied)
        costs = SplitCosts(rows, {name: factor(taken, name) for name in MANY}, middle(more(few(10 * count, plain, proxied))))
        if many_rows == rows:
            return costs, _beside(rows, proxied, uri)
    return costs, beside(many_rows)


def processor(count: int, proxied: Connection, pids: tuple[int, ...]) -> None:
    """Print the CPU time of proxy and engine for ten rows, for these sorted by the engine, and for a point select by tag."""
    point = "SELECT id, full_name FROM patients WHERE ssn = '000000007'"
    used: dict[str, list[float]] = {FEW: [], FEW_SORTED: [], point: []}
    for n in range(count + 1):
        for statement, taken in used.items():
            before = cpu_seconds(pids)
            for _ in range(100):
                proxied.execute(statement.encode(), prepare=True).fetchall()
            if n:
                taken.append((cpu_seconds(pids) - before) * 1e6 / 100)
    sys.stdout.write("\nCPU time of proxy and engine for one execution\n")
    for statement, taken in used.items():
        sys.stdout.write(f"{statement:90} {middle(taken):6.0f} µs\n")


@contextmanager
def site(rows: int) -> Iterator[tuple[Connection, Connection, tuple[int, ...], str]]:
    """Give the demo's clinic with an engine: connections to plain rows and through the proxy, its processes, and its address."""
    with tempfile.TemporaryDirectory() as home, EmbeddedPostgres() as server:
        demo = Demo(server, Path(home), free_port())
        demo.prepare()
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE DATABASE plain")
        with psycopg.connect(server.dsn("plain")) as plain, demo.serving() as proxy:
            plain.execute(clinic.schema().encode())
            load(plain, rows)
            with psycopg.connect(demo.uri) as proxied:
                load(proxied, rows)
                for conn in (plain, proxied):
                    conn.commit()
                    conn.autocommit = True
                with psycopg.connect(server.dsn(clinic.DATABASE), autocommit=True) as owner:
                    owner.execute("CREATE INDEX ON patients (city); ANALYZE patients")
                plain.execute("CREATE INDEX ON patients (city); ANALYZE patients")
                yield plain, proxied, family(proxy.pid), demo.uri


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--beside", type=int, metavar="ROWS", help="only: how long a neighbour waits while one split opens these")
    options = parser.parse_args()
    say = sys.stdout.write
    if options.beside:
        say(table([beside(options.beside)]))
        return 0
    with site(options.rows) as (plain, proxied, pids, _):
        taken = many(options.rounds, plain, proxied)
        say(f"\n{options.rows} candidate rows, {options.rounds} rounds; target: {FACTOR} times the rows themselves\n")
        for name, times in taken.items():
            say(f"{name:45} {middle(times):8.1f} ms  {factor(taken, name):5.2f} x\n")
        taken = few(10 * options.rounds, plain, proxied)
        say(f"\n10 rows, {10 * options.rounds} rounds; target: {FIXED:g} ms more than the rows themselves at the median\n")
        for name, times in {**taken, "a split costs more": more(taken)}.items():
            say(f"{name:45} {middle(times):8.2f} ms  p99 {percentile(times, 0.99):8.2f} ms\n")
        processor(options.rounds, proxied, pids)
    for name, value in machine().items():
        say(f"{name}: {value}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
