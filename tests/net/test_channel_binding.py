"""Passthrough with TLS on both legs: one certificate, or the configuration is refused, or the client in words that help."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from phiproxy.errors import ConfigError
from phiproxy.net.channel_binding import unbound
from phiproxy.policy.settings import Settings
from tests.harness.server import PostgresServer
from tests.net.certificates import Pair, Papers, tls_server
from tests.net.peer import listening
from tests.net.serving import bare_settings, connect, serving


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def secure(papers: Papers) -> Iterator[PostgresServer]:
    """A server with TLS."""
    with tls_server(papers.server) as server:
        yield server


def both_legs(server: PostgresServer, papers: Papers, pair: Pair, **changes: Any) -> Settings:
    """Return settings of passthrough with TLS on both legs."""
    upstream = {"tls": "verify-full", "ca_file": str(papers.authority.certificate), **changes.pop("upstream", {})}
    tls = {"certificate": str(pair.certificate), "private_key": str(pair.key)}
    return bare_settings(server, tls=tls, upstream=upstream, **changes)


def test_only_two_different_certificates_are_a_hindrance() -> None:
    assert unbound(b"a", b"b") is not None
    for ours, theirs in ((b"a", b"a"), (None, b"b"), (b"a", None), (None, None)):
        assert unbound(ours, theirs) is None


async def test_another_certificate_than_the_servers_is_refused_at_load(secure: PostgresServer, papers: Papers) -> None:
    with pytest.raises(ConfigError, match=r"set auth: \{mode: scram\}"):
        async with serving(both_legs(secure, papers, papers.proxy)):
            pass


async def test_the_servers_own_certificate_loads(secure: PostgresServer, papers: Papers) -> None:
    async with (
        serving(both_legs(secure, papers, papers.server)) as (_, port),
        await connect(secure, port, sslmode="require", channel_binding="require") as conn,
    ):
        await conn.execute("SELECT 1")


async def test_without_tls_on_one_leg_nothing_is_to_be_compared(secure: PostgresServer, papers: Papers) -> None:
    async with (
        serving(both_legs(secure, papers, papers.proxy, upstream={"tls": "disable"})) as (_, port),
        await connect(secure, port, sslmode="require") as conn,
    ):
        await conn.execute("SELECT 1")


async def test_a_server_that_was_down_at_load_is_compared_at_each_login(secure: PostgresServer, papers: Papers) -> None:
    """Or one that got another certificate since. Who does not bind could pass, but nobody's login depends on its driver then."""
    spare = free_port()
    settings = both_legs(secure, papers, papers.proxy, upstream={"address": [f"127.0.0.1:{spare}"], "connect_timeout": "10s"})
    async with serving(settings) as (_, port), listening(_forward(secure), spare):
        with pytest.raises(psycopg.OperationalError, match=r"different certificates.*\n?.*auth: \{mode: scram\}"):
            await connect(secure, port, sslmode="require")
        async with await connect(secure, port, sslmode="disable") as conn:
            await conn.execute("SELECT 1")


async def test_clients_that_do_not_bind_can_be_allowed(secure: PostgresServer, papers: Papers) -> None:
    settings = both_legs(secure, papers, papers.proxy, auth={"different_certificates": "allow"})
    async with serving(settings) as (_, port):
        conn = await asyncpg.connect(
            host="localhost",
            port=port,
            user=secure.superuser,
            password=secure.password,
            database="postgres",
            ssl=papers.context(),
        )
        assert await conn.fetchval("SELECT 1") == 1
        await conn.close()
        with pytest.raises(psycopg.OperationalError, match="channel binding check failed"):
            await connect(secure, port, sslmode="require")


def _forward(server: PostgresServer) -> Any:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(server.host, server.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    return forward
