"""A service connection that is kept: what it asks is answered soon or not at all."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import psycopg
import pytest

from phiproxy.errors import ConfigError
from phiproxy.net.standing_connection import StandingConnection
from tests.harness.server import PostgresServer
from tests.net.serving import bare_settings


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
