"""Reaching the server: sslmode's five levels, servers that say no, servers that say nothing, and cancelling."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from phiproxy.net.cancel_requests import cancel
from phiproxy.net.tls import upstream_context
from phiproxy.net.upstream import Connector, UpstreamError
from phiproxy.policy.settings import Upstream
from tests.harness.server import PostgresServer
from tests.net.certificates import Papers, tls_server
from tests.net.peer import Handler, Peer, cancel_request, listening, silent_server, startup
from tests.net.serving import asleep, bare_settings, connect, serving


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def secure(papers: Papers) -> Iterator[PostgresServer]:
    """A server with TLS."""
    with tls_server(papers.server) as server:
        yield server


@pytest.fixture(scope="module")
def misnamed(papers: Papers) -> Iterator[PostgresServer]:
    """A server whose certificate is for another name."""
    with tls_server(papers.authority.issue("elsewhere", names=["db.example.org"])) as server:
        yield server


def connector(port: int, **changes: Any) -> Connector:
    """Make a connector to a port of this machine."""
    upstream = Upstream.model_validate({"address": f"127.0.0.1:{port}", "connect_timeout": "120s", **changes})
    return Connector(upstream, upstream_context(upstream))


async def reached(server: PostgresServer, **upstream: Any) -> bool:
    """Log in through a proxy of this section ``upstream``; returns whether the server saw TLS."""
    async with serving(bare_settings(server, upstream=upstream)) as (_, port), await connect(server, port) as conn:
        row = await (await conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).fetchone()
        assert row is not None
        return bool(row[0])


async def refused(server: PostgresServer, **upstream: Any) -> str:
    """Return what a client is told."""
    async with serving(bare_settings(server, upstream=upstream)) as (_, port), await Peer.open(port) as peer:
        peer.say(startup("u", "d"))
        error = await peer.error()
        assert (error["S"], error["C"]) == ("FATAL", "57P03")
        assert await peer.rest() == b""
        return error["M"]


@pytest.mark.parametrize(
    ("level", "seen"), [("disable", False), ("prefer", True), ("require", True), ("verify-ca", True), ("verify-full", True)]
)
async def test_levels_with_a_good_certificate(secure: PostgresServer, papers: Papers, level: str, seen: bool) -> None:
    assert await reached(secure, tls=level, ca_file=str(papers.authority.certificate)) is seen


@pytest.mark.parametrize(("level", "accepted"), [("prefer", True), ("require", True), ("verify-ca", False), ("verify-full", False)])
async def test_levels_with_an_unknown_authority(secure: PostgresServer, papers: Papers, level: str, accepted: bool) -> None:
    upstream = {"tls": level, "ca_file": str(papers.stranger.certificate)}
    if accepted:
        assert await reached(secure, **upstream)
    else:
        message = await refused(secure, **upstream)
        assert "certificate is not accepted" in message
        assert "local issuer" in message or "self-signed" in message


@pytest.mark.parametrize(("level", "accepted"), [("require", True), ("verify-ca", True), ("verify-full", False)])
async def test_levels_with_another_name(misnamed: PostgresServer, papers: Papers, level: str, accepted: bool) -> None:
    upstream = {"tls": level, "ca_file": str(papers.authority.certificate)}
    if accepted:
        assert await reached(misnamed, **upstream)
    else:
        message = await refused(misnamed, **upstream)
        assert "certificate is not accepted" in message
        assert "127.0.0.1" in message


@pytest.mark.parametrize("level", ["require", "verify-full"])
async def test_no_downgrade_when_the_server_has_no_tls(postgres_server: PostgresServer, level: str) -> None:
    assert "does not offer TLS" in await refused(postgres_server, tls=level)


async def test_prefer_goes_on_in_clear(postgres_server: PostgresServer) -> None:
    assert await reached(postgres_server, tls="prefer") is False


async def test_bytes_in_clear_behind_the_answer_are_an_attack(papers: Papers) -> None:
    """CVE-2021-23222: what a man in the middle puts behind ``S`` must not be read as what came through TLS."""
    async with silent_server(b"S" + b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I") as port:
        with pytest.raises(UpstreamError):
            await connector(port, tls="require").connect(asyncio.Protocol)


@pytest.mark.parametrize("answer", [b"E", b"x", b"\0"])
async def test_another_answer_to_sslrequest(answer: bytes) -> None:
    """An ErrorResponse before TLS is not shown (CVE-2024-10977), and nothing goes on in clear."""
    async with silent_server(answer + b"\0\0\0\x20SFATAL\0Msend your password to evil\0\0") as port:
        with pytest.raises(UpstreamError, match="did not answer SSLRequest") as caught:
            await connector(port, tls="prefer").connect(asyncio.Protocol)
        assert "evil" not in str(caught.value)


async def test_a_server_that_says_nothing() -> None:
    async with silent_server() as port:
        with pytest.raises(UpstreamError, match="no answer within 1 s"):
            await connector(port, tls="require", connect_timeout="1s").connect(asyncio.Protocol)


async def test_nobody_listens(postgres_server: PostgresServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        message = await refused(postgres_server, address=address)
    assert f"cannot be reached: {address}: Connection refused" in message


async def test_the_next_address_is_taken(postgres_server: PostgresServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        assert await reached(postgres_server, address=[dead, f"127.0.0.1:{postgres_server.port}"]) is False


async def test_a_name_that_is_none(postgres_server: PostgresServer) -> None:
    assert "no-such-host.invalid:5432: " in await refused(postgres_server, address="no-such-host.invalid:5432")


async def test_a_unix_socket_has_no_tls(postgres_server: PostgresServer) -> None:
    """As for libpq, and so for the proxy's own login: the level is about TCP."""
    with postgres_server.connect() as conn:
        row = conn.execute("SHOW unix_socket_directories").fetchone()
    assert row is not None
    path = Path(str(row[0])) / f".s.PGSQL.{postgres_server.port}"
    if not path.is_socket():
        pytest.skip("this server has no Unix socket here")
    assert await reached(postgres_server, address=f"unix:{path}", tls="verify-full") is False


async def test_upstream_comes_back(postgres_server: PostgresServer) -> None:
    """A server that was down when one client came is asked again for the next."""
    port_number = free_port()
    settings = bare_settings(postgres_server, upstream={"address": f"127.0.0.1:{port_number}"})
    async with serving(settings) as (_, port):
        with pytest.raises(psycopg.OperationalError, match="cannot be reached"):
            await connect(postgres_server, port)
        async with listening(_forwarder(postgres_server), port_number), await connect(postgres_server, port) as conn:
            await conn.execute("SELECT 1")
            await conn.close()


def _forwarder(server: PostgresServer) -> Handler:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    return forward


# -- cancelling ----------------------------------------------------------------------------------------------------------------


async def test_cancel_returns_only_when_the_server_has_closed() -> None:
    """Otherwise the client's next query could be the one that is hit (manual 55.2.8)."""
    got = asyncio.Event()
    close = asyncio.Event()

    async def postmaster(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(16)
        got.set()
        await close.wait()

    async with listening(postmaster) as port:
        task = asyncio.ensure_future(cancel(connector(port, tls="disable"), cancel_request(7, b"\0\0\0\1")))
        await got.wait()
        await asyncio.sleep(0.1)
        assert not task.done()
        close.set()
        await asyncio.wait_for(task, 60)


async def test_cancel_of_a_server_that_never_closes() -> None:
    async with silent_server() as port:
        with pytest.raises(TimeoutError):
            await cancel(connector(port, tls="disable"), cancel_request(7, b"\0\0\0\1"), timeout=0.2)


@pytest.mark.parametrize("tls", ["disable", "require"])
async def test_cancel_really_cancels(secure: PostgresServer, tls: str) -> None:
    async with serving(bare_settings(secure, upstream={"tls": tls})) as (_, port), await connect(secure, port) as conn:
        task = asyncio.ensure_future(conn.execute("SELECT pg_sleep(600)"))
        await asleep(secure, conn)
        await conn.cancel_safe(timeout=240)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await task
        for _ in range(20):
            await conn.execute("SELECT 1")


async def test_a_client_with_several_hosts_goes_on_to_the_next(postgres_server: PostgresServer) -> None:
    """As it does where nobody listens: a proxy whose server is down must not be worse than a server that is down."""
    down = {"address": f"127.0.0.1:{free_port()}"}
    async with (
        serving(bare_settings(postgres_server, upstream=down)) as (_, first),
        serving(bare_settings(postgres_server)) as (_, second),
    ):
        login = {"user": postgres_server.superuser, "password": postgres_server.password, "database": "postgres"}
        conn = await asyncpg.connect(host=["127.0.0.1"] * 2, port=[first, second], ssl=False, **login)
        assert await conn.fetchval("SELECT 1") == 1
        await conn.close()
        with pytest.raises(asyncpg.CannotConnectNowError, match=r"cannot be reached: .*refused"):
            await asyncpg.connect(host="127.0.0.1", port=first, ssl=False, **login)
