"""Much through the proxy in either direction, and rows that no buffer should hold: what it costs in the proxy's memory.

Measured as the kernel's own peak of a real proxy process, so that nothing between two samples is missed.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from phiproxy.wire.messages import encode_query, message
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import wire_site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc"),
]
MIB = 1 << 20
# Eight times what the proxy may grow by.
MUCH = 256 * MIB
Connection = psycopg.Connection[tuple[object, ...]]
READY = b"Z\0\0\0\x05I"


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with its proxy, warm."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("memory")) as site:
        site.proxy.fresh = True  # a fork maps pages only as it touches them, which would count as growth
        with site.proxy:
            for database in (site.sealed, site.plain):
                with psycopg.connect(site.proxy.dsn(database, site.role, site.password), autocommit=True) as conn:
                    conn.execute("SELECT body FROM plain WHERE id < 20000").fetchall()
            yield site


@contextmanager
def costs_less_than(site: Site, limit: int) -> Iterator[None]:
    """Check by how much the proxy's memory grew at its greatest."""
    assert site.proxy.process is not None
    status, clear = (Path(f"/proc/{site.proxy.process.pid}/{name}") for name in ("status", "clear_refs"))

    def field(name: str) -> int:
        return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith(name))

    clear.write_text("5")  # the peak begins anew
    before = field("VmRSS")
    yield
    grown = field("VmHWM") - before
    assert grown < limit, f"{grown / MIB:.1f} MiB"


@contextmanager
def connected(site: Site, route: str) -> Iterator[socket.socket]:
    """Log in and yield the socket: to the database with the policy (where nothing protected is named), or to one without."""
    database = site.sealed if route == "unprotected" else site.plain
    with psycopg.connect(site.proxy.dsn(database, site.role, site.password), autocommit=True) as conn:
        with socket.socket(fileno=os.dup(conn.fileno())) as raw:
            raw.setblocking(True)
            raw.settimeout(240)
            yield raw
        conn.pgconn.finish()


def received(raw: socket.socket) -> int:
    """Read up to ReadyForQuery without keeping anything; return how much it was."""
    buffer = memoryview(bytearray(MIB))
    total, tail = 0, b""
    while tail != READY:
        count = raw.recv_into(buffer)
        assert count, "the connection ended"
        total += count
        tail = (tail + bytes(buffer[max(0, count - 6) : count]))[-6:]
    return total


ROUTES = pytest.mark.parametrize("route", ["unprotected", "passthrough"])


@ROUTES
def test_much_is_copied_out(site: Site, route: str) -> None:
    with connected(site, route) as raw, costs_less_than(site, 32 * MIB):
        raw.sendall(encode_query(b"COPY (SELECT repeat('x', 1023) FROM generate_series(1, 262144)) TO STDOUT"))
        assert received(raw) > MUCH


@ROUTES
def test_much_is_copied_in(site: Site, route: str) -> None:
    """Each row is read by the server, which keeps none; the messages are cut anywhere, as libpq may cut them."""
    rows = b"7\t%s\n" % (b"y" * 1021) * 65
    data = message(b"d", rows[:8192]) * 1 + message(b"d", rows[8192:])
    rounds = MUCH // len(rows) + 1
    with connected(site, route) as raw, costs_less_than(site, 32 * MIB):
        raw.sendall(encode_query(b"COPY plain (id, body) FROM STDIN WHERE id < 0"))
        for _ in range(rounds):
            raw.sendall(data)
        raw.sendall(message(b"c", b""))
        raw.shutdown(socket.SHUT_WR)
        answer = b""
        while part := raw.recv(65536):
            answer += part
        assert b"COPY 0\0" in answer


@ROUTES
def test_a_row_of_200_mib(site: Site, route: str) -> None:
    """Three times ``max_message``: it passes as it comes."""
    with connected(site, route) as raw, costs_less_than(site, 8 * MIB):
        raw.sendall(encode_query(b"SELECT repeat('x', 200 << 20)"))
        assert received(raw) > 200 * MIB


@ROUTES
def test_a_parameter_of_100_mib(site: Site, route: str) -> None:
    value = b"z" * (100 * MIB)
    bind = message(b"B", b"\0\0\0\0\0\1" + len(value).to_bytes(4, "big") + value + b"\0\0")
    with connected(site, route) as raw, costs_less_than(site, 8 * MIB):
        raw.sendall(message(b"P", b"\0SELECT length($1::text)\0\0\0"))
        raw.sendall(bind)
        raw.sendall(message(b"E", b"\0\0\0\0\0") + message(b"S", b""))
        answer = b""
        while not answer.endswith(READY):
            answer += raw.recv(65536)
        assert str(100 * MIB).encode() in answer


def test_a_message_that_must_be_held_is_refused_above_the_limit(site: Site) -> None:
    """A statement may name something protected in its last byte; so may a parameter of a protected column."""
    with connected(site, "unprotected") as raw, costs_less_than(site, 8 * MIB):
        raw.sendall(b"Q" + (65 * MIB).to_bytes(4, "big") + b"SELECT ")
        answer = b""
        while part := raw.recv(65536):
            answer += part
        assert b"C08P01\0" in answer
        assert b"SFATAL\0" in answer


@ROUTES
def test_both_directions_full_at_once(site: Site, route: str) -> None:
    """64 MiB of queries in one pipeline, read and written by two threads: neither direction waits for the other."""
    query = encode_query(b"SELECT repeat('x', 40000), '" + b"y" * 40_000 + b"'")
    count = 64 * MIB // len(query)
    failures: list[BaseException] = []
    with connected(site, route) as raw, costs_less_than(site, 16 * MIB):  # 8 MiB for each direction

        def write() -> None:
            try:
                for _ in range(count):
                    raw.sendall(query)
            except OSError as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        seen = b""
        ready = 0
        while ready < count:
            part = raw.recv(MIB)
            assert part, "the connection ended"
            ready += (seen + part).count(READY) - seen.count(READY)
            seen = part[-5:]
        writer.join(240)
        assert not failures


@ROUTES
def test_a_client_that_stops_in_a_pipeline_costs_little(site: Site, route: str) -> None:
    """It writes until nobody takes more, and reads nothing: less than a MiB of buffers, and what the allocator makes of it."""
    query = encode_query(b"SELECT repeat('x', 40000), '" + b"y" * 40_000 + b"'")
    with connected(site, route) as raw, costs_less_than(site, 3 * MIB):
        raw.setblocking(False)
        rest, idle = query, 0
        while idle < 20:
            try:
                rest = rest[raw.send(rest) :] or query
                idle = 0
            except BlockingIOError:
                idle += 1
                time.sleep(0.05)
