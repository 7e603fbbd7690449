"""A statement that takes the proxy long: the others go on, and its own session may cancel it or go away. By the order of events."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from phiproxy.plan.named_statements import View
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_plan import ScriptPlan
from tests.harness.server import PostgresServer
from tests.harness.site import Site
from tests.net.serving import Connection, connect, listener_of, serving, site_settings, until, wire_site

LONG = "INSERT INTO notes (id, body) VALUES " + ", ".join(f"({n}, 'note {n}')" for n in range(1_000))


@pytest.fixture(scope="module")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for this file."""
    with wire_site(postgres_server, tmp_path_factory.mktemp("working")) as site, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHIPROXY_SERVICE_PASSWORD", site.env["PHIPROXY_SERVICE_PASSWORD"])
        yield site


class Held:
    """Planning of LONG that begins, and goes on when it is allowed to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.allowed, self.over = threading.Event(), threading.Event(), threading.Event()
        plan = Planner.script

        def script(planner: Planner, text: bytes, view: View) -> ScriptPlan:
            if text.startswith(LONG[:60].encode()):
                self.begun.set()
                assert self.allowed.wait(120)
                self.over.set()
            return plan(planner, text, view)

        patch.setattr(Planner, "script", script)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.allowed.set()


async def test_a_neighbour_is_answered_while_a_long_statement_is_planned(site: Site, held: Held) -> None:
    async with (
        serving(site_settings(site)) as (_, port),
        await connect(site, port) as heavy,
        await connect(site, port) as neighbour,
    ):
        running = asyncio.create_task(heavy.execute(LONG.encode()))
        assert await asyncio.to_thread(held.begun.wait, 60)
        for n in range(20):
            assert await (await neighbour.execute("SELECT %s", (n,))).fetchone() == (n,)
            assert (await (await neighbour.execute("SELECT body FROM notes WHERE body = 'none'")).fetchall()) == []
        assert not held.over.is_set()
        assert not running.done()
        held.allowed.set()
        await running
        assert await (await heavy.execute("SELECT count(*)::int FROM notes")).fetchone() == (1_000,)
        assert await (await heavy.execute("SELECT id FROM notes WHERE body = 'note 7'")).fetchone() == (7,)
        await heavy.execute("DELETE FROM notes")


async def test_work_can_be_cancelled_before_its_message_is_sent_and_the_session_goes_on(site: Site, held: Held) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as heavy:
        running = asyncio.create_task(heavy.execute(LONG.encode()))
        assert await asyncio.to_thread(held.begun.wait, 60)
        await heavy.cancel_safe(timeout=240)
        with pytest.raises(psycopg.errors.QueryCanceled, match="canceling statement due to user request"):
            await running
        assert not held.over.is_set()
        assert await (await heavy.execute("SELECT count(*)::int FROM notes")).fetchone() == (0,)
        held.allowed.set()
        await heavy.execute(LONG.encode())  # the same once more is not what was given up
        await heavy.execute("DELETE FROM notes")


async def test_cancelled_in_a_transaction_it_fails_that(site: Site, held: Held) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as heavy:
        await heavy.execute("BEGIN")
        running = asyncio.create_task(heavy.execute(LONG.encode()))
        assert await asyncio.to_thread(held.begun.wait, 60)
        await heavy.cancel_safe(timeout=240)
        with pytest.raises(psycopg.errors.QueryCanceled):
            await running
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            await heavy.execute("SELECT 1")
        await heavy.execute("ROLLBACK")
        assert not held.over.is_set()
        held.allowed.set()


async def test_a_client_that_goes_away_during_work_leaves_nothing_behind(site: Site, held: Held) -> None:
    """The sockets of a client that was reset are gone, those to the server too, before the planning is over."""
    async with serving(site_settings(site)) as (proxy, port):
        heavy = await connect(site, port)
        running = asyncio.create_task(heavy.execute(LONG.encode()))
        assert await asyncio.to_thread(held.begun.wait, 60)
        _reset(heavy)
        await until(lambda: not listener_of(proxy).relays, "the relay of a client that is gone is left")
        assert not held.over.is_set()
        running.cancel()
        with suppress(asyncio.CancelledError, psycopg.Error):
            await running
        async with await connect(site, port) as other:
            assert await (await other.execute("SELECT count(*)::int FROM notes")).fetchone() == (0,)
        held.allowed.set()


async def test_what_comes_behind_it_waits_for_it(site: Site, held: Held) -> None:
    async with serving(site_settings(site)) as (_, port), await connect(site, port) as heavy:
        order: list[str] = []

        async def both() -> None:
            async with heavy.pipeline():
                await heavy.execute("SELECT 'before'")
                await heavy.execute(LONG.encode())
                after = await heavy.execute("SELECT count(*)::int FROM notes")
                assert await after.fetchone() == (1_000,)
                order.append("after")

        held.allowed.set()
        await both()
        assert order == ["after"]
        await heavy.execute("DELETE FROM notes")


def _reset(conn: Connection) -> None:
    """Let the system reset a connection, as it does for a process that dies with something unread: no Terminate."""
    with socket.socket(fileno=os.dup(conn.fileno())) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), conn.fileno())  # the last descriptor of the socket goes
