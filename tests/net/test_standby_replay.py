"""Standbys that have not replayed what the registry says are named."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from phiproxy.net.standby_replay import StandbyBehind, Standbys, epoch_of
from phiproxy.policy.setting_values import Address
from tests.harness.server import PostgresServer
from tests.net.serving import bare_settings


@pytest.fixture
def settings(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings whose service login is the superuser's; the server has a registry of epoch 5."""
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", postgres_server.password)
    postgres_server.create_database("behind")
    with postgres_server.connect("behind") as conn:
        conn.execute("CREATE SCHEMA phiproxy; CREATE TABLE phiproxy.meta (epoch bigint); INSERT INTO phiproxy.meta VALUES (5)")
    yield bare_settings(postgres_server, service={"user": postgres_server.superuser, "password": "env:PHIPROXY_SERVICE_PASSWORD"})
    with postgres_server.connect() as conn:
        conn.execute("DROP DATABASE behind WITH (FORCE)")


async def test_which_are_behind(settings: Any, postgres_server: PostgresServer) -> None:
    here, away = settings.upstream.address[0], Address("127.0.0.1", free_port())
    roles = Mock(roles={here: "standby", away: "standby"})
    standbys = Standbys(settings, "behind", roles)
    assert await standbys.behind([here], 5) == frozenset()
    assert await standbys.behind([here, away], 5) == {away}, "who does not say what it has is behind"
    assert await standbys.behind([here, away], 6) == {here, away}
    with postgres_server.connect("behind") as conn:
        conn.execute("UPDATE phiproxy.meta SET epoch = 6")
    assert await standbys.behind([here], 6) == frozenset()
    await standbys.close()


async def test_a_session_begins_when_its_standby_has_what_the_primary_has(
    settings: Any, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = settings.upstream.address[0]
    standbys = Standbys(settings, "behind", Mock(roles={here: "standby"}))
    await standbys.arrive(here, lambda: 5)
    arriving = asyncio.ensure_future(standbys.arrive(here, lambda: 6))
    assert await asyncio.wait([arriving], timeout=0.3) == (set(), {arriving})
    with postgres_server.connect("behind") as conn:
        conn.execute("UPDATE phiproxy.meta SET epoch = 6")
    await asyncio.wait_for(arriving, timeout=240)
    monkeypatch.setattr("phiproxy.net.standby_replay.LONGEST_ARRIVAL", 0.0)
    with pytest.raises(StandbyBehind, match="is behind what was last changed") as told:
        await standbys.arrive(here, lambda: 7)
    assert told.value.sqlstate == "57P03"
    await standbys.close()


async def test_a_primary_is_never_behind(settings: Any) -> None:
    here = settings.upstream.address[0]
    standbys = Standbys(settings, "behind", Mock(roles={here: "primary"}))
    assert await standbys.behind([here, Address("127.0.0.1", free_port())], 6) == frozenset()


async def test_the_epoch_is_the_registrys(settings: Any, postgres_server: PostgresServer) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn("behind")) as conn:
        assert await epoch_of(conn, "phiproxy") == 5
