"""pgbench in its three modes: nothing fails, and the tables hold afterwards what they hold after the same run directly."""

from __future__ import annotations

import re

import psycopg
import pytest

from tests.conformance.tools import Ground

SEEDED = ("-n", "--random-seed=20", "-c", "1", "-t", "150")
CROWD = ("-n", "-c", "8", "-j", "2", "-t", "40")
# pgbench_history has the time of day
ROWS = {
    "pgbench_accounts": "SELECT md5(string_agg(t::text, '|' ORDER BY aid)) FROM pgbench_accounts t",
    "pgbench_tellers": "SELECT md5(string_agg(t::text, '|' ORDER BY tid)) FROM pgbench_tellers t",
    "pgbench_branches": "SELECT md5(string_agg(t::text, '|' ORDER BY bid)) FROM pgbench_branches t",
    "pgbench_history": "SELECT md5(string_agg((tid, bid, aid, delta)::text, '|' ORDER BY tid, aid, delta)) FROM pgbench_history",
}
SUMS = """SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
(SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)"""


def pgbench(database: Ground, port: int, *arguments: str) -> str:
    done = database.run(port, "pgbench", *arguments)
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    return said


def transactions(database: Ground, port: int, expected: int, *arguments: str) -> None:
    said = pgbench(database, port, *arguments)
    assert f"number of transactions actually processed: {expected}/{expected}" in said, said
    assert re.search(r"number of failed transactions: 0 ", said), said


def tables(database: Ground) -> dict[str, object]:
    with psycopg.connect(database.server.dsn(database.database)) as conn:
        return {name: conn.execute(query.encode()).fetchone() for name, query in ROWS.items()}


def sums(database: Ground) -> tuple[int, ...]:
    with psycopg.connect(database.server.dsn(database.database)) as conn:
        row = conn.execute(SUMS.encode()).fetchone()
    assert row is not None
    return tuple(int(value or 0) for value in row)


@pytest.mark.slow
def test_three_modes(database: Ground) -> None:
    left: dict[tuple[int, str], dict[str, object]] = {}
    for port in database.ports:
        for mode in ("simple", "extended", "prepared"):
            pgbench(database, port, "-i", "-q")
            transactions(database, port, 150, "-M", mode, *SEEDED)
            left[port, mode] = tables(database)
    assert len({str(found) for found in left.values()}) == 1, "the tables differ after the same transactions"
    pgbench(database, database.proxied, "-i", "-q")
    for round_, mode in enumerate(("simple", "extended", "prepared"), 1):
        transactions(database, database.proxied, 320, "-M", mode, "-S", *CROWD)
        transactions(database, database.proxied, 320, "-M", mode, *CROWD)
        accounts, tellers, branches, deltas, count = sums(database)
        assert accounts == tellers == branches == deltas
        assert count == 320 * round_


@pytest.mark.slow
def test_pipelines(database: Ground, tmp_path_factory: pytest.TempPathFactory) -> None:
    pgbench(database, database.proxied, "-i", "-q")
    script = tmp_path_factory.mktemp("pgbench") / "pipeline.sql"
    script.write_text("\\startpipeline\n" + "SELECT abalance FROM pgbench_accounts WHERE aid = 1;\n" * 20 + "\\endpipeline\n")
    for mode in ("extended", "prepared"):
        transactions(database, database.proxied, 320, "-M", mode, "-f", str(script), *CROWD)
