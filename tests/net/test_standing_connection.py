"""A service connection that is kept: what it asks is answered soon or not at all."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from typing import Any

import psycopg
import pytest

from phiproxy.errors import ConfigError
from phiproxy.net.service_login import connect_catalogue
from phiproxy.net.standing_connection import StandingConnection
from tests.harness.server import PostgresServer
from tests.net.serving import bare_settings

SO_ATTACH_FILTER = 26
# A program of one instruction: take no byte of any packet. The kernel reads it from where the pointer leads.
_TAKE_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
DROP_ALL = struct.pack("HP", 1, ctypes.addressof(_TAKE_NOTHING))


@pytest.fixture
def settings(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings whose service login is the superuser's."""
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", postgres_server.password)
    return bare_settings(postgres_server, service={"user": postgres_server.superuser, "password": "env:PHIPROXY_SERVICE_PASSWORD"})


async def pid(conn: psycopg.AsyncConnection[Any]) -> int:
    row = await (await conn.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


async def test_the_connection_is_opened_again_when_it_was_lost(settings: Any, postgres_server: PostgresServer) -> None:
    server = StandingConnection(settings, "postgres")
    first = await server.ask(pid, 60)
    assert await server.ask(pid, 60) == first
    with postgres_server.connect() as conn:
        conn.execute("SELECT pg_terminate_backend(%s)", (first,))
    assert await server.ask(pid, 60) != first
    await server.close()


async def test_a_server_that_says_nothing_is_not_waited_for(settings: Any) -> None:
    server = StandingConnection(settings, "postgres")
    await server.ask(pid, 60)
    with pytest.raises(TimeoutError):
        await server.ask(lambda conn: conn.execute("SELECT pg_sleep(600)"), 0.3)
    assert await server.ask(pid, 60) > 0, "the next question has another connection"
    await server.close()


async def test_a_peer_that_is_gone_without_a_word_is_given_up(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two questions its host dies: nobody acknowledges what is sent, and nobody says that the connection is no more."""
    monkeypatch.setattr("phiproxy.net.service_login.UNTAKEN", 0.5)
    ways: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
    server_address = settings.upstream.address[0]

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_server = await asyncio.open_connection(server_address.host, server_address.port)
        ways.append((writer, to_server))
        await asyncio.gather(_copied(reader, to_server), _copied(there, writer))

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as between:
        address = type(server_address)("127.0.0.1", between.sockets[0].getsockname()[1])
        upstream = settings.upstream.model_copy(update={"address": (address,)})
        server = StandingConnection(settings.model_copy(update={"upstream": upstream}), "postgres", connect_catalogue)
        first = await server.ask(pid)
        deaf = ways[0][0].get_extra_info("socket")
        deaf.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, DROP_ALL)
        assert await asyncio.wait_for(server.ask(pid), 120) != first
        assert len(ways) == 2
        await server.close()
        for way in ways:
            for writer in way:
                writer.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def test_who_asks_no_more_leaves_no_connection_open(settings: Any) -> None:
    server = StandingConnection(settings, "postgres")
    asked: asyncio.Future[psycopg.AsyncConnection[Any]] = asyncio.get_running_loop().create_future()

    async def question(conn: psycopg.AsyncConnection[Any]) -> None:
        asked.set_result(conn)
        await asyncio.Event().wait()  # between two queries nothing tells that the connection is lost

    asking = asyncio.create_task(server.ask(question))
    conn = await asked
    asking.cancel()
    await asyncio.wait([asking])
    await server.close()
    await asyncio.sleep(0)  # what is done at the end of its task
    assert conn.closed


async def test_a_server_that_does_not_even_take_the_login(settings: Any) -> None:
    """It accepts the connection, as a stopped server's kernel does, and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = type(settings.upstream.address[0])("127.0.0.1", silent.getsockname()[1])
        upstream = settings.upstream.model_copy(update={"address": (address,)})
        server = StandingConnection(settings.model_copy(update={"upstream": upstream}), "postgres")
        with pytest.raises(TimeoutError):
            await server.ask(pid, 0.3)


async def test_what_cannot_be_connected_to_is_a_clear_line(settings: Any) -> None:
    with pytest.raises(ConfigError, match=r"cannot connect as service\.user"):
        await StandingConnection(settings, "no_such_database").ask(pid, 5)
