"""The first bytes of a connection, the StartupMessage, and who is let in: raw sockets against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import pq

from phiproxy.demo.postgres import free_port
from phiproxy.errors import ConfigError
from phiproxy.net import tasks
from phiproxy.policy.values import Address
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.peer import GSSENC, SSL, Peer, cancel_request, silent_server, startup
from tests.net.serving import bare_settings, connect, dsn, listener_of, serving, site_settings, until, wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("wire")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


# -- the first bytes -----------------------------------------------------------------------------------------------------------


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
        assert await peer.rest(within=5) == b""


@pytest.mark.parametrize("first", [b"", b"G", b"\0\0\0\x08\x04", SSL])
async def test_a_probe_that_leaves_is_counted_out_at_once(postgres_server: PostgresServer, first: bytes) -> None:
    """A client that goes after fewer bytes than a packet needs keeps no place until startup_timeout."""
    async with serving(bare_settings(postgres_server)) as (proxy, port):
        async with await Peer.open(port) as peer:
            peer.say(first)
            await until(lambda: listener_of(proxy).clients == 1, "the client is not counted")
        await until(lambda: listener_of(proxy).clients == 0, "the probe is still counted", within=3)


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


async def test_one_byte_at_a_time(postgres_server: PostgresServer) -> None:
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
        assert await peer.rest(within=5) == b"", "the fourth was taken for a StartupMessage"


@pytest.mark.parametrize("part", [b"", b"\0", b"\0\0\0\x20\0\3\0\0", startup("nobody", "x")[:-1]])
async def test_a_startup_that_never_ends(postgres_server: PostgresServer, part: bytes) -> None:
    settings = bare_settings(postgres_server, limits={"startup_timeout": "300ms"})
    async with serving(settings) as (proxy, port), await Peer.open(port) as peer:
        peer.say(part)
        began = time.monotonic()
        assert await peer.rest(within=5) == b""
        assert time.monotonic() - began > 0.2
        await until(lambda: listener_of(proxy).clients == 0, "still counted")


async def test_what_comes_behind_the_startup_message_waits_in_the_kernel(postgres_server: PostgresServer) -> None:
    """While the server is being reached a client may send without end; the proxy must not keep all of it."""
    async with silent_server() as silent:
        address = f"127.0.0.1:{silent}"
        settings = bare_settings(postgres_server, upstream={"address": address, "tls": "require", "connect_timeout": "2s"})
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
            assert (await peer.error())["C"] == "08006"


# -- protocol versions ---------------------------------------------------------------------------------------------------------


async def negotiated(port: int, packet: bytes) -> list[tuple[str, bytes]]:
    """Return what comes before, and including, the first authentication request."""
    async with await Peer.open(port) as peer:
        peer.say(packet)
        found = [await peer.message()]
        while found[-1][0] == "v":
            found.append(await peer.message())
        return found


async def test_newer_protocols_are_negotiated_in_exactly_one_message(postgres_server: PostgresServer) -> None:
    user = postgres_server.superuser
    newest = 0x30002 if server_version(postgres_server) >= 18 else 0x30000
    asked = startup(user, "postgres", {"_pq_.test_protocol_negotiation": "", "_pq_.other": "x"}, version=0x3270F)
    async with serving(bare_settings(postgres_server)) as (_, port):
        for packet, expected in (
            (startup(user, "postgres"), []),
            (startup(user, "postgres", version=0x30002), [] if newest == 0x30002 else [struct.pack("!II", newest, 0)]),
            (asked, [struct.pack("!II", newest, 2) + b"_pq_.test_protocol_negotiation\0_pq_.other\0"]),
            (startup(user, "postgres", {"_pq_.x": "1"}), [struct.pack("!II", 0x30000, 1) + b"_pq_.x\0"]),
        ):
            found = await negotiated(port, packet)
            assert [payload for tag, payload in found if tag == "v"] == expected
            assert found[-1][0] == "R"


async def test_libpq_can_ask_for_the_newest(postgres_server: PostgresServer) -> None:
    if pq.version() < 180000:
        pytest.skip("this libpq cannot ask for a protocol version")
    async with (
        serving(bare_settings(postgres_server)) as (_, port),
        await connect(postgres_server, port, max_protocol_version="latest") as conn,
    ):
        assert await (await conn.execute("SELECT 1")).fetchone() == (1,)


def server_version(server: PostgresServer) -> int:
    """Return the server's major version."""
    with server.connect() as conn:
        return conn.info.server_version // 10000


# -- who is let in -------------------------------------------------------------------------------------------------------------


async def test_a_missing_database_is_the_user(postgres_server: PostgresServer) -> None:
    """Said by the server, so it was asked for; and with a policy for a database of the user's name that policy is found."""
    async with serving(bare_settings(postgres_server, unlisted_databases="refuse")) as (_, port):
        for packet in (startup("somebody"), startup("somebody", "")):
            async with await Peer.open(port) as peer:
                peer.say(packet)
                error = await peer.error()
                assert (error["S"], error["C"]) == ("FATAL", "3D000")
                assert '"somebody"' in error["M"]


async def test_unlisted_databases(postgres_server: PostgresServer, site: Site) -> None:
    async with serving(site_settings(site, unlisted_databases="refuse")) as (_, port):
        with pytest.raises(psycopg.OperationalError, match="has no policy, and unlisted databases are refused"):
            await connect(postgres_server, port)
        async with await connect(site, port) as conn:
            await conn.execute("SELECT 1")
    async with serving(site_settings(site)) as (_, port), await connect(postgres_server, port) as conn:
        row = await (await conn.execute("SELECT current_database()")).fetchone()
        assert row == ("postgres",)


async def test_a_database_name_is_cut_off_as_the_server_cuts_it_off(postgres_server: PostgresServer, site: Site) -> None:
    """A server below 17 takes the first 63 bytes: the same must happen here, or a long name walks around the policy."""
    name = (site.sealed + "_" * 63)[:63]
    with postgres_server.connect() as conn:
        conn.execute(f"ALTER DATABASE {site.sealed} RENAME TO {name}")
    policy = site.directory / "policy.yaml"
    original = policy.read_text()
    policy.write_text(original.replace(site.sealed, name))
    try:
        async with serving(site_settings(site, unlisted_databases="refuse")) as (_, port), await Peer.open(port) as peer:
            peer.say(startup(site.role, name + "tail"))
            tag, payload = await peer.message()
            assert tag == "R", payload
    finally:
        policy.write_text(original)
        with postgres_server.connect() as conn:
            conn.execute(f"ALTER DATABASE {name} RENAME TO {site.sealed}")


@pytest.mark.parametrize("value", ["true", "database", "1", "on", "f"])
async def test_replication_is_refused_with_a_policy(site: Site, value: str) -> None:
    async with serving(site_settings(site)) as (_, port), await Peer.open(port) as peer:
        peer.say(startup(site.role, site.sealed, {"replication": value}))
        error = await peer.error()
        assert (error["S"], error["C"]) == ("FATAL", "0A000")
        assert "ciphertext" in error["M"]
        assert await peer.rest() == b""


async def test_replication_passes_without_a_policy(postgres_server: PostgresServer) -> None:
    async with serving(bare_settings(postgres_server)) as (_, port), await Peer.open(port) as peer:
        peer.say(startup(postgres_server.superuser, others={"replication": "true"}))
        assert (await peer.message())[0] == "R"


async def test_max_clients(postgres_server: PostgresServer) -> None:
    async with serving(bare_settings(postgres_server, limits={"max_clients": 2})) as (proxy, port):
        first, second = await connect(postgres_server, port), await connect(postgres_server, port)
        async with await Peer.open(port) as peer:
            peer.say(startup(postgres_server.superuser, "postgres"))
            error = await peer.error()
            assert (error["S"], error["C"]) == ("FATAL", "53300")
            assert "too many clients" in error["M"]
            assert await peer.rest() == b""
        pid = first.info.backend_pid
        async with await Peer.open(port) as peer:  # a cancel needs no place
            peer.say(cancel_request(pid, struct.pack("!I", 0)))
            assert await peer.rest() == b""
        await second.close()
        await until(lambda: listener_of(proxy).clients == 1, "the client that left is still counted")
        async with await connect(postgres_server, port) as third:
            await third.execute("SELECT 1")
        await first.close()


@pytest.mark.parametrize("protected", [True, False])
async def test_idle_timeout(postgres_server: PostgresServer, site: Site, protected: bool) -> None:
    limits = {"idle_timeout": "400ms"}
    settings = site_settings(site, limits=limits) if protected else bare_settings(postgres_server, limits=limits)
    where = site if protected else postgres_server
    async with serving(settings) as (_, port), await connect(where, port) as conn:
        for _ in range(4):
            await asyncio.sleep(0.2)
            await conn.execute("SELECT 1")
        await conn.execute("SELECT pg_sleep(1)")  # the server is at work: that is not idle
        await asyncio.sleep(0.9)
        with pytest.raises(psycopg.errors.IdleSessionTimeout, match="idle timeout"):
            await conn.execute("SELECT 1")


async def test_a_storm_of_connections(postgres_server: PostgresServer) -> None:
    """A thousand at once that say nothing, half a packet, or HTTP; then a real client, and nothing is left."""
    settings = bare_settings(postgres_server, limits={"startup_timeout": "1s"})
    async with serving(settings) as (proxy, port):

        async def one(number: int) -> None:
            async with await Peer.open(port) as peer:
                peer.say((b"", b"\0\0\0\x08", b"GET / HTTP/1.0\r\n\r\n")[number % 3])
                await peer.rest(within=20)

        await asyncio.gather(*(one(n) for n in range(1000)))
        async with await connect(postgres_server, port) as conn:
            await conn.execute("SELECT 1")
        await until(lambda: listener_of(proxy).clients == 0, "some are still counted")


# -- sockets -------------------------------------------------------------------------------------------------------------------


async def test_a_port_in_use(postgres_server: PostgresServer) -> None:
    before = tasks.running()
    async with serving(bare_settings(postgres_server)) as (_, port):
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            async with serving(bare_settings(postgres_server, listen=[f"127.0.0.1:{free_port()}", f"127.0.0.1:{port}"])):
                pass
    await until(lambda: tasks.running() <= before, "the first of two sockets was left open")


async def test_a_unix_socket(postgres_server: PostgresServer, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/.s.PGSQL.6432"
    if len(address) > 100:
        pytest.skip("this directory's name is too long for a socket")
    settings = bare_settings(postgres_server, listen=[address])
    for _ in range(2):  # the second finds the file of the first
        async with serving(settings) as (proxy, _):
            assert proxy.addresses == [Address(path=f"{tmp_path}/.s.PGSQL.6432")]
            conninfo = dsn(postgres_server, 6432).replace("host=127.0.0.1", f"host={tmp_path}")
            async with await psycopg.AsyncConnection.connect(conninfo) as conn:
                await conn.execute("SELECT 1")
            with pytest.raises(ConfigError, match="cannot listen"):
                async with serving(settings):
                    pass
