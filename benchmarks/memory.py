"""What connections cost in memory, what values cost on disk, and what the first statement of a proxy costs that has no keys yet."""

from __future__ import annotations

import time
from contextlib import ExitStack

import psycopg

from benchmarks.contenders import BOUNCER, FORWARDER, NO_POLICY, OTHER, Contender
from benchmarks.measures import middle, resident_kib
from benchmarks.site import PLAIN, PROTECTED, Site
from benchmarks.workloads import FIELDS


def per_connection(site: Site, connections: int) -> dict[str, float]:
    """Return the KiB that each idle connection, one that has asked something, adds to what stands between.

    Each in a process that was just started, and the second half of twice as many counts: the first take what was freed before.
    """
    found = {}
    starts = (
        (FORWARDER, site.forwarder, PLAIN),
        (NO_POLICY, site.proxy, PLAIN),
        (OTHER, site.proxy, PROTECTED),
        (BOUNCER, site.pooler, PLAIN),
    )
    for name, start, database in starts:
        with start() as started:
            if started is not None:
                found[name] = _per_connection(site, *started, database, connections)
    return found


def _per_connection(site: Site, port: int, pids: tuple[int, ...], database: str, connections: int) -> float:
    before = 0
    with ExitStack() as stack:
        for n in range(2 * connections):
            if n == connections:
                before = resident_kib(pids)
            connection = stack.enter_context(psycopg.connect(site.dsn(port, database), autocommit=True))
            connection.execute(b"SELECT 1")
        return (resident_kib(pids) - before) / connections


def per_process(ways: dict[str, Contender]) -> dict[str, float]:
    """Return the MiB that are resident in each process between client and server, by its way."""
    seen = {name: way for name, way in ways.items() if way.pids and name != NO_POLICY}
    return {name: max(resident_kib((pid,)) for pid in way.pids) / 1024 for name, way in seen.items()}


def per_value(site: Site) -> dict[str, float]:
    """Return the average bytes of a stored value of each protected column in both databases, and the MiB of table and indexes."""
    found = {}
    for database in (PLAIN, PROTECTED):
        with psycopg.connect(site.server.dsn(database)) as owner:
            for column in FIELDS.split(", "):
                answer = owner.execute(f"SELECT avg(octet_length({column})) FROM people".encode()).fetchone()
                assert answer is not None
                found[f"{database}: bytes per {column}"] = float(answer[0])
            answer = owner.execute(b"SELECT pg_table_size('people'), pg_indexes_size('people')").fetchone()
            assert answer is not None
            found[f"{database}: MiB of the table"], found[f"{database}: MiB of its indexes"] = (size / 2**20 for size in answer)
    return found


def first_statements(site: Site, rounds: int) -> dict[str, float]:
    """Return the milliseconds of the first point select by tag through a proxy that was just started, and of one later."""
    cold, warm = [], []
    query = f"SELECT {FIELDS} FROM people WHERE ssn = %s".encode()
    for _ in range(rounds):
        with site.proxy() as (port, _), psycopg.connect(site.dsn(port, PROTECTED), autocommit=True) as connection:
            times = []
            for n in range(20):
                begun = time.perf_counter()
                connection.execute(query, (str(100_000_001 + n),), prepare=True).fetchall()
                times.append((time.perf_counter() - begun) * 1e3)
            cold.append(times[0])
            warm.append(middle(times[5:]))
    return {"first select, cold keys and plan": middle(cold), "later select, warm": middle(warm)}
