"""The first bytes of a connection, the StartupMessage, and who is let in: raw sockets against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import pq

from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.peer import SSL, Peer, cancel_request, startup
from tests.net.serving import asleep, bare_settings, connect, listener_of, serving, site_settings, until, wire_site


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("wire")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


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
    limits = {"idle_timeout": "3s"}
    settings = site_settings(site, limits=limits) if protected else bare_settings(postgres_server, limits=limits)
    where = site if protected else postgres_server
    async with serving(settings) as (proxy, port), await connect(where, port) as conn:
        for _ in range(8):
            await asyncio.sleep(0.4)
            await conn.execute("SELECT 1")
        await conn.execute("SELECT pg_sleep(3.5)")  # the server is at work: that is not idle
        await until(lambda: not listener_of(proxy).relays, "it is not ended")
        with pytest.raises(psycopg.errors.IdleSessionTimeout, match="idle timeout"):
            await conn.execute("SELECT 1")


async def test_a_storm_of_connections(postgres_server: PostgresServer) -> None:
    """A thousand at once that say nothing, half a packet, or HTTP; then a real client, and nothing is left."""
    settings = bare_settings(postgres_server, limits={"startup_timeout": "1s"})
    async with serving(settings) as (proxy, port):

        async def one(number: int) -> None:
            async with await Peer.open(port) as peer:
                peer.say((b"", b"\0\0\0\x08", b"GET / HTTP/1.0\r\n\r\n")[number % 3])
                await peer.rest(within=60)

        await asyncio.gather(*(one(n) for n in range(1000)))
        async with await connect(postgres_server, port) as conn:
            await conn.execute("SELECT 1")
        await until(lambda: listener_of(proxy).clients == 0, "some are still counted")


@pytest.mark.parametrize("protected", [True, False])
async def test_a_session_can_be_cancelled_while_the_proxy_drains(
    postgres_server: PostgresServer, site: Site, protected: bool
) -> None:
    """New sessions are told 57P03, as a server that shuts down tells them; a CancelRequest still finds its way."""
    async with serving(site_settings(site)) as (proxy, port):
        conn = await connect(site if protected else postgres_server, port)
        running = asyncio.ensure_future(conn.execute("SELECT pg_sleep(600)"))
        await asleep(postgres_server, conn)
        draining = asyncio.ensure_future(proxy.drain(600))
        await asyncio.sleep(0.1)
        async with await Peer.open(port) as late:
            late.say(startup(site.role, site.sealed))
            error = await late.error()
            assert (error["S"], error["C"]) == ("FATAL", "57P03")
            assert await late.rest() == b""
        await conn.cancel_safe(timeout=240)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
        await asyncio.wait_for(draining, 60)
        await conn.close()


async def test_a_client_that_is_not_let_in_takes_no_slot(postgres_server: PostgresServer) -> None:
    """Half-open connections and cancel requests are no clients: they keep nobody out."""
    settings = bare_settings(postgres_server, limits={"max_clients": 1})
    async with serving(settings) as (_, port), await Peer.open(port) as idle, await Peer.open(port) as another:
        idle.say(b"\0\0\0")
        another.say(SSL)
        assert await another.byte() == b"N"
        async with await connect(postgres_server, port) as conn:
            with pytest.raises(psycopg.OperationalError, match="too many clients"):
                await connect(postgres_server, port)
            await conn.cancel_safe(timeout=240)
