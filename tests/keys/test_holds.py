"""A hold: confirmed by every live proxy, over when it was taken away, too old, or its session is gone."""

from __future__ import annotations

import asyncio

import pytest

from phiproxy.keys.holds import (
    confirm_hold,
    current_hold,
    end_hold,
    no_hold,
    outlast_hold,
    place_hold,
    unconfirmed,
    withdraw_hold,
)
from phiproxy.keys.registry import Connection
from tests.keys.fakes import Site


async def connected(site: Site) -> Connection:
    conn = await site.connect()
    await conn.set_autocommit(True)
    return conn


@pytest.fixture
async def prepared(site: Site) -> Site:
    await site.init()
    site.run("INSERT INTO phiproxy.proxy (id, epoch, heard) VALUES (1, 1, 0), (2, 1, 0)")
    site.run("INSERT INTO phiproxy.proxy (id, seen_at, epoch, heard) VALUES (3, now() - interval '1 minute', 1, 0)")
    return site


async def test_every_live_proxy_confirms(prepared: Site) -> None:
    async with await connected(prepared) as conn:
        number = await place_hold(conn, "phiproxy", ["t", "a"], 600)
        assert await unconfirmed(conn, "phiproxy", number, 30) == 2, "the third has ended"
        for _ in range(2):
            await confirm_hold(conn, "phiproxy", number, 1)
        assert await unconfirmed(conn, "phiproxy", number, 30) == 1
        await confirm_hold(conn, "phiproxy", number, 2)
        assert await unconfirmed(conn, "phiproxy", number, 30) == 0
        hold = await current_hold(conn, "phiproxy")
        assert hold is not None
        assert (hold.id, hold.is_alive, hold.names) == (number, True, ("a", "t"))
        assert hold.seconds == pytest.approx(600, abs=120)
        async with conn.transaction():
            assert await end_hold(conn, "phiproxy", number)
        assert await current_hold(conn, "phiproxy") is None


async def test_two_jobs_hold_statements_over_different_tables(prepared: Site) -> None:
    async with await connected(prepared) as conn, await connected(prepared) as other:
        first, second = await place_hold(conn, "phiproxy", ["t"], 600), await place_hold(other, "phiproxy", ["a"], 600)
        for number, wanted in ((first, first), (second, second), (None, second)):
            hold = await current_hold(conn, "phiproxy", number)
            assert (hold and hold.id) == wanted
        await withdraw_hold(conn, "phiproxy", first)
        assert await current_hold(conn, "phiproxy", first) is None


async def test_one_that_is_nearly_over_is_not_relied_on(prepared: Site) -> None:
    async with await connected(prepared) as conn:
        number = await place_hold(conn, "phiproxy", ["t"], 0.5)
        assert not await end_hold(conn, "phiproxy", number)
        await withdraw_hold(conn, "phiproxy", number)
        assert not await end_hold(conn, "phiproxy", number)


async def test_the_session_that_has_placed_it_is_gone(prepared: Site) -> None:
    async with await connected(prepared) as conn:
        await place_hold(conn, "phiproxy", ["t"], 600)
    async with await connected(prepared) as other:
        for _ in range(2000):
            hold = await current_hold(other, "phiproxy")
            if hold is not None and not hold.is_alive:
                break
            await asyncio.sleep(0.05)
        assert hold is not None
        assert not hold.is_alive
        await asyncio.wait_for(no_hold(other, "phiproxy"), 120)


async def test_who_outlasts_it_waits_for_the_switch(prepared: Site) -> None:
    """Its transaction may commit at any moment: only when it has ended it is known what the tables are."""
    async with await connected(prepared) as conn, await connected(prepared) as other:
        number = await place_hold(conn, "phiproxy", ["t", "a"], 600)
        async with conn.transaction():
            assert await end_hold(conn, "phiproxy", number)
            waiting = asyncio.ensure_future(outlast_hold(other, "phiproxy", number))
            await asyncio.sleep(0.3)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 120)


async def test_an_older_registry_has_none(prepared: Site) -> None:
    prepared.run("DROP TABLE phiproxy.hold")
    async with await connected(prepared) as conn:
        assert await current_hold(conn, "phiproxy") is None
