"""The first bytes of a connection: raw sockets against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest

from tests.harness.server import PostgresServer
from tests.net.peer import GSSENC, SSL, Peer, silent_server, startup
from tests.net.serving import bare_settings, connect, listener_of, serving, until


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        struct.pack("!II", 20_000, 0x30000) + b"x" * 100,
        struct.pack("!II", 7, 0x30000),
        b"\xff" * 64,
        struct.pack("!II", 12, 80877102) + b"\0\0\0\1",
        struct.pack("!II", 9, 0x40000) + b"\0",
        struct.pack("!II", 8, 0x20000),
        struct.pack("!II", 17, 0x30000) + b"user\0nul\0",
        struct.pack("!II", 16, 0x30000) + b"user\0app",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0",
        b"GET ",
    ],
    ids=["http", "len-0", "len-20000", "len-7", "ff", "short-cancel", "4.0", "2.0", "trailing", "no-end", "tls", "zeros", "GET"],
)
async def test_garbage_is_closed_at_once_without_a_word(postgres_server: PostgresServer, first: bytes) -> None:
    async with serving(bare_settings(postgres_server)) as (_, port), await Peer.open(port) as peer:
        peer.say(first)
        assert await peer.rest() == b""


@pytest.mark.parametrize("first", [b"", b"G", b"\0\0\0\x08\x04", SSL])
async def test_a_probe_that_leaves_is_counted_out_at_once(postgres_server: PostgresServer, first: bytes) -> None:
    """A client that goes after fewer bytes than a packet needs keeps no place until startup_timeout."""
    settings = bare_settings(postgres_server, limits={"startup_timeout": "600s"})
    async with serving(settings) as (proxy, port):
        async with await Peer.open(port) as peer:
            peer.say(first)
            await until(lambda: listener_of(proxy).clients == 1, "the client is not counted")
        await until(lambda: listener_of(proxy).clients == 0, "the probe is still counted")


async def test_ssl_and_gss_requests_are_answered_and_the_session_goes_on_in_clear(postgres_server: PostgresServer) -> None:
    async with serving(bare_settings(postgres_server)) as (_, port), await Peer.open(port) as peer:
        peer.say(GSSENC)
        assert await peer.byte() == b"N"
        peer.say(SSL)
        assert await peer.byte() == b"N"
        peer.say(startup(postgres_server.superuser, "postgres"))
        assert (await peer.message())[0] == "R"


async def test_psql_defaults_connect(postgres_server: PostgresServer) -> None:
    """libpq's own ``prefer`` asks for what the proxy does not have, and goes on without."""
    async with (
        serving(bare_settings(postgres_server)) as (_, port),
        await connect(postgres_server, port, sslmode="prefer", gssencmode="prefer") as conn,
    ):
        assert await (await conn.execute("SELECT pg_backend_pid()")).fetchone() == (conn.info.backend_pid,)


async def test_a_startup_packet_may_come_one_byte_at_a_time(postgres_server: PostgresServer) -> None:
    async with serving(bare_settings(postgres_server)) as (_, port), await Peer.open(port) as peer:
        for n, byte in enumerate(SSL + startup(postgres_server.superuser, "postgres")):
            if n == len(SSL):
                assert await peer.byte() == b"N"
            peer.say(bytes((byte,)))
            await asyncio.sleep(0.002)
        tag, payload = await peer.message()
        assert (tag, payload[:4]) == ("R", b"\0\0\0\x0a")


async def test_startup_behind_a_refused_sslrequest_in_one_packet(postgres_server: PostgresServer) -> None:
    """Where no TLS is offered nothing can be stuffed into it: the packet behind SSLRequest is as good as one sent later."""
    async with serving(bare_settings(postgres_server)) as (_, port), await Peer.open(port) as peer:
        peer.say(SSL + startup(postgres_server.superuser, "postgres"))
        assert await peer.byte() == b"N"
        assert (await peer.message())[0] == "R"


@pytest.mark.parametrize("code", [80877103, 80877104])
async def test_requests_without_end_do_not_reach_the_server(postgres_server: PostgresServer, code: int) -> None:
    request = struct.pack("!II", 8, code)
    async with serving(bare_settings(postgres_server)) as (_, port), await Peer.open(port) as peer:
        for _ in range(3):
            peer.say(request)
            assert await peer.byte() == b"N"
        peer.say(request)
        assert await peer.rest() == b"", "the fourth was taken for a StartupMessage"


@pytest.mark.parametrize("part", [b"", b"\0", b"\0\0\0\x20\0\3\0\0", startup("nobody", "x")[:-1]])
async def test_a_startup_that_never_ends(postgres_server: PostgresServer, part: bytes) -> None:
    settings = bare_settings(postgres_server, limits={"startup_timeout": "300ms"})
    async with serving(settings) as (proxy, port), await Peer.open(port) as peer:
        peer.say(part)
        began = time.monotonic()
        assert await peer.rest() == b""
        assert time.monotonic() - began > 0.2
        await until(lambda: listener_of(proxy).clients == 0, "still counted")


async def test_what_comes_behind_the_startup_message_waits_in_the_kernel(postgres_server: PostgresServer) -> None:
    """While the server is being reached a client may send without end; the proxy must not keep all of it."""
    async with silent_server() as silent:
        address = f"127.0.0.1:{silent}"
        settings = bare_settings(postgres_server, upstream={"address": address, "tls": "require", "connect_timeout": "5s"})
        async with serving(settings) as (_, port), await Peer.open(port) as peer:
            peer.say(startup("u", "d"))
            sent = 0
            while sent < 64 << 20:
                peer.say(b"x" * 65536)
                sent += 65536
                try:
                    async with asyncio.timeout(0.3):
                        await peer.writer.drain()
                except TimeoutError:
                    break
            else:
                pytest.fail("64 MiB were taken from a client that has no session")
            assert (await peer.error())["C"] == "57P03"
