"""The tap forwards unchanged, records each direction, forgets on request."""

from __future__ import annotations

import psycopg

from tests.harness.server import PostgresServer
from tests.harness.tap import Tap
from tests.net.serving import open_sockets, until


def through(server: PostgresServer, tap: Tap) -> str:
    return server.dsn().replace(f":{server.port}/", f":{tap.port}/")


def test_records_both_directions(postgres_server: PostgresServer) -> None:
    with Tap(postgres_server.host, postgres_server.port) as tap:
        with psycopg.connect(through(postgres_server, tap)) as conn:
            assert conn.execute("SELECT 'up' || 'stream'").fetchone() == ("upstream",)
        assert b"SELECT 'up' || 'stream'" in tap.upstream_bytes()
        assert any(b"upstream" in data for data in tap.downstream())
        assert tap.connections >= 1


def test_reset_forgets_but_goes_on(postgres_server: PostgresServer) -> None:
    with Tap(postgres_server.host, postgres_server.port) as tap, psycopg.connect(through(postgres_server, tap)) as conn:
        conn.execute("SELECT 'before'")
        tap.reset()
        assert tap.upstream_bytes() == b""
        conn.execute("SELECT 'after'")
        assert b"after" in tap.upstream_bytes()
        assert b"before" not in tap.upstream_bytes()


def test_large_values_pass(postgres_server: PostgresServer) -> None:
    with Tap(postgres_server.host, postgres_server.port) as tap, psycopg.connect(through(postgres_server, tap)) as conn:
        row = conn.execute("SELECT repeat('x', 3000000), %s::text", ("y" * 3_000_000,)).fetchone()
        assert row == ("x" * 3_000_000, "y" * 3_000_000)


def test_a_dead_server_is_a_closed_connection() -> None:
    with Tap("127.0.0.1", 1) as tap:
        try:
            psycopg.connect(f"postgresql://x@127.0.0.1:{tap.port}/x", connect_timeout=5)
        except psycopg.OperationalError:
            return
    raise AssertionError("it connected to nothing")


async def test_what_a_tap_carries_is_no_socket_of_a_proxy_in_this_process(postgres_server: PostgresServer) -> None:
    """A site's proxy, another process, connects whenever it likes: also while a test counts what its own proxy leaves behind."""
    with Tap(postgres_server.host, postgres_server.port) as tap:
        before = open_sockets()
        with psycopg.connect(through(postgres_server, tap)) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
            assert open_sockets() == before + 1  # the client's own
            assert len(Tap.descriptors()) >= 2
        await until(lambda: open_sockets() == before, "sockets of the tap are counted")
    assert open_sockets() < before
