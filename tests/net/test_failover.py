"""Where sessions go when servers change their roles."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from phiproxy.net.failover import NoLongerPrimary, UpstreamRoles, WrongServer
from phiproxy.net.service_login import service_conninfo
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings, Upstream
from tests.harness.replicas import Replicas, replicas
from tests.net.serving import serving, until

A, B, C = (Address("127.0.0.1", port) for port in (1, 2, 3))


def roles(target: str, *known: str | None) -> UpstreamRoles:
    addresses = [str(address) for address in (A, B, C)]
    settings = Settings.model_validate(
        {"upstream": {"address": addresses, "target": target, "tls": "disable"}, "service": {"password": None}}
    )
    made = UpstreamRoles(settings, "postgres")
    made.roles.update(zip((A, B, C), known, strict=True))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize(
    ("target", "known", "candidates"),
    [
        ("any", (None, "standby", "primary"), [A, B, C]),
        ("primary", (None, "standby", "primary"), [C, A]),
        ("primary", ("standby", "standby", "standby"), []),
        ("standby", (None, "standby", "primary"), [B, A]),
        ("standby", ("primary", "primary", "primary"), []),
        ("prefer-standby", (None, "standby", "primary"), [B, A, C]),
        ("prefer-standby", (None, None, "primary"), [A, B, C]),
    ],
)
def test_where_a_session_may_go(target: str, known: tuple[str | None, ...], candidates: list[Address]) -> None:
    assert list(roles(target, *known).candidates()) == candidates


def test_standbys_take_turns() -> None:
    made = roles("standby", "standby", "standby", "primary")
    assert [made.candidates()[0] for _ in range(4)] == [A, B, A, B]


@pytest.mark.parametrize(
    ("target", "standby", "refused"),
    [
        ("any", True, False),
        ("primary", True, True),
        ("primary", False, False),
        ("standby", True, False),
        ("standby", False, True),
        ("prefer-standby", False, False),
    ],
)
def test_a_login_shows_its_servers_role(target: str, standby: bool, refused: bool) -> None:
    made = roles(target, None, None, None)
    error = made.login_at(B, standby=standby)
    assert isinstance(error, WrongServer) == refused
    assert made.roles == {A: None, B: "standby" if standby else "primary", C: None}
    if error is not None:
        assert error.sqlstate == "57P03"
        assert "127.0.0.1:2" in error.message


def test_sessions_leave_a_server_that_is_no_longer_primary() -> None:
    made, left = roles("primary", "primary", "standby", None), list[Address]()
    made.demoted = left.append
    made.failed(B)
    made.login_at(A, standby=True)
    assert left == [A]
    assert NoLongerPrimary("x").sqlstate == "57P01"


async def test_a_change_is_waited_for() -> None:
    made = roles("primary", "standby", None, None)
    waiting = asyncio.ensure_future(made.changed(5))
    await asyncio.sleep(0)
    made.login_at(A, standby=False)
    await asyncio.wait_for(waiting, 120)
    await made.changed(0.01)  # nothing changes: it is not waited for longer


def test_the_service_login_goes_to_whoever_can_write() -> None:
    def attributes(**upstream: object) -> str:
        settings = Settings(upstream=Upstream.model_validate({"tls": "disable", **upstream}))
        service = settings.service.model_copy(update={"password": None})
        return service_conninfo(settings.model_copy(update={"service": service}), "x")

    assert "target_session_attrs" not in attributes()
    for target in ("primary", "standby", "prefer-standby"):
        assert "target_session_attrs=read-write" in attributes(target=target)


@pytest.fixture(scope="module")
def pair() -> Iterator[Replicas]:
    with replicas(synchronous=False) as pair:
        yield pair


@pytest.fixture(autouse=True)
def _password(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pair" in request.fixturenames:
        monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", request.getfixturevalue("pair").own.password)


def settings(pair: Replicas, target: str) -> Settings:
    upstream = {"address": [f"127.0.0.1:{pair.standby.port}", f"127.0.0.1:{pair.primary.port}"], "target": target, "tls": "disable"}
    plain: dict[str, object] = {"listen": "127.0.0.1:0", "policies": [], "metrics": None, "upstream": upstream}
    plain["service"] = {"user": "postgres"}
    return Settings.model_validate(plain)


async def reached(pair: Replicas, port: int) -> int:
    conninfo = f"host=127.0.0.1 port={port} user=postgres password={pair.own.password} dbname=postgres sslmode=disable"
    async with await psycopg.AsyncConnection.connect(conninfo) as conn:
        row = await (await conn.execute("SELECT inet_server_port()")).fetchone()
    assert row is not None
    return int(row[0])


async def reached_at_last(pair: Replicas, port: int) -> int:
    """Connect until a session begins: what a login has shown is forgotten where the look of each second shows nothing."""
    for _ in range(5):
        with suppress(psycopg.OperationalError):
            return await reached(pair, port)
    return await reached(pair, port)


@pytest.mark.parametrize("target", ["any", "primary", "standby", "prefer-standby"])
async def test_sessions_go_where_they_are_to(pair: Replicas, target: str) -> None:
    wanted = pair.primary.port if target == "primary" else pair.standby.port
    async with serving(settings(pair, target)) as (_, port):
        assert {await reached(pair, port) for _ in range(3)} == {wanted}


async def test_a_session_on_the_wrong_server_does_not_begin(pair: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is known of the servers: the service login does not get in."""
    monkeypatch.setenv("PHIPROXY_SERVICE_PASSWORD", "wrong")
    async with serving(settings(pair, "primary")) as (_, port):
        with pytest.raises(psycopg.OperationalError, match=r"is a standby, and upstream\.target is primary"):
            await reached(pair, port)
        assert await reached_at_last(pair, port) == pair.primary.port


async def used_on(conn: psycopg.AsyncConnection[Any]) -> None:
    """Use a session until the proxy, which looks every second, ends it."""
    while True:
        await conn.execute("SELECT 1")
        await asyncio.sleep(0.2)


def closed_to_writers(pair: Replicas) -> bool:
    with pair.primary.connect() as own:
        return own.execute("SHOW default_transaction_read_only").fetchone() == ("on",)


async def test_a_primary_that_is_closed_to_writers_is_left(pair: Replicas, tmp_path: Path) -> None:
    async with serving(settings(pair, "primary")) as (_, port):
        conninfo = f"host=127.0.0.1 port={port} user=postgres password={pair.own.password} dbname=postgres sslmode=disable"
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as conn:
            with pair.primary.connect() as own:
                own.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                own.execute("SELECT pg_reload_conf()")
            try:
                with pytest.raises(psycopg.errors.AdminShutdown, match="no longer the primary"):
                    await used_on(conn)
            finally:
                with pair.primary.connect() as own:
                    own.execute("SET default_transaction_read_only = off")
                    own.execute("ALTER SYSTEM RESET default_transaction_read_only")
                    own.execute("SELECT pg_reload_conf()")
                await until(lambda: not closed_to_writers(pair), "it stays closed to writers")
