"""The same mixed work over and over: the proxy's memory, once warm, does not grow, and a client that was idle meanwhile is served.

``PHIPROXY_SOAK=SECONDS`` makes it last; ``PHIPROXY_SOAK_REPORT=FILE`` keeps the samples as JSON.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import wire_site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc"),
]
MIB = 1 << 20
WARM = 8  # rounds, after which every cache is full
ROUNDS = 8
PER_ROUND = 60
GROWTH = 4 * MIB
Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    with wire_site(postgres_server, tmp_path) as site:
        site.proxy.fresh = True
        site.proxy.start()
        yield site
        site.proxy.terminate()


def work(site: Site, conn: Connection, number: int) -> None:
    """Write, read, change and remove rows, in every way that makes the proxy keep something; ``number`` makes new texts."""
    first = number * PER_ROUND
    for key in range(first, first + PER_ROUND):
        conn.execute("INSERT INTO notes VALUES (%s, %s)", (key, f"body {key}"))
        conn.execute(f"UPDATE notes SET body = 'changed {key}' WHERE body = 'body {key}'".encode())
        assert conn.execute("SELECT id FROM notes WHERE body = %s", (f"changed {key}",)).fetchall() == [(key,)]
        conn.execute(f"SELECT id AS c{key % 50} FROM notes WHERE body IN ('a', 'b{key}') OR id = {key}".encode())
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        conn.execute(f"SELECT body FROM notes ORDER BY body LIMIT {number}".encode())
    with conn.transaction(), conn.cursor("rows") as cursor:
        cursor.execute(f"SELECT body AS b{number % 8} FROM notes".encode())
        assert len(cursor.fetchall()) == PER_ROUND
    with conn.pipeline():
        for key in range(first, first + PER_ROUND):
            conn.execute("SELECT body FROM notes WHERE id = %s", (key,))
    with conn.cursor() as filler, filler.copy("COPY notes FROM STDIN") as copy:
        for key in range(first, first + PER_ROUND):
            copy.write_row((-1 - key, f"copied {key}"))
    conn.execute("DELETE FROM notes")
    for _ in range(3):
        with psycopg.connect(site.proxy_dsn) as other:
            other.execute("SELECT count(*) FROM plain")


def test_memory_does_not_grow(site: Site) -> None:
    lasting, began = float(os.environ.get("PHIPROXY_SOAK", "0")), time.monotonic()
    samples: list[tuple[float, int]] = []
    with (
        psycopg.connect(site.proxy_dsn, autocommit=True) as idle,
        psycopg.connect(site.proxy_dsn, autocommit=True) as conn,
    ):
        idle.execute("SELECT body FROM notes")
        while len(samples) < WARM + ROUNDS or time.monotonic() - began < lasting:
            work(site, conn, len(samples))
            samples.append((time.monotonic() - began, site.proxy.resident))
        assert idle.execute("SELECT body FROM notes").fetchall() == []
    if report := os.environ.get("PHIPROXY_SOAK_REPORT"):
        Path(report).write_text(json.dumps([{"seconds": round(at, 2), "resident": size} for at, size in samples]))
    sizes = [size for _, size in samples]
    grown = max(sizes[WARM:]) - sizes[WARM - 1]
    assert grown < GROWTH, f"{grown / MIB:.1f} MiB in {len(samples) - WARM} rounds"
