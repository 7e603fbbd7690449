"""Who serves a database, and what all of them have heard."""

from __future__ import annotations

import asyncio

from phiproxy.keys.serving_proxies import Members
from tests.keys.fakes import Site
from tests.net.serving import until


async def test_names_are_heard_once_by_everybody(site: Site) -> None:
    await site.init()
    one, two = Members("phiproxy", lease=60), Members("phiproxy", lease=60)
    async with await site.connect() as conn:
        await conn.set_autocommit(True)
        heard: list[str] = []
        await one.beat(conn, 1, heard.extend)
        assert await one.behind(conn, await one.announce(conn, {"alone"})) == 0
        await two.beat(conn, 2, heard.extend)
        assert heard == ["alone"]
        number = await one.announce(conn, {"b", "a"})
        assert await one.behind(conn, number) == 1
        await two.beat(conn, 2, heard.extend)
        assert heard == ["alone", "a", "b"]
        assert await one.behind(conn, number) == 0
        await two.beat(conn, 2, heard.extend)
        assert heard == ["alone", "a", "b"]


async def test_who_was_not_there_hears_what_is_announced_while_he_comes(site: Site) -> None:
    """Nobody has waited for him: names that are announced in the very moment are heard when the beat is over."""
    await site.init()
    one, two = Members("phiproxy", lease=60), Members("phiproxy", lease=60)
    async with await site.connect() as conn, await site.connect() as other, await site.connect() as locking:
        for each in (conn, other):
            await each.set_autocommit(True)
        heard: list[str] = []
        # The insert has its snapshot, and waits for this before it commits.
        await locking.execute("INSERT INTO phiproxy.proxy (id, epoch, heard) VALUES (%s, 1, 0)", (two.id,))
        beat = asyncio.create_task(two.beat(conn, 1, heard.extend))
        await until(lambda: site.server.waits_for_lock(conn.info.backend_pid), "it does not wait")
        await one.announce(other, {"meanwhile"})
        await locking.rollback()
        await beat
        assert heard == ["meanwhile"]


async def test_an_older_registry_gets_the_tables(site: Site) -> None:
    await site.init()
    site.run("DROP TABLE phiproxy.proxy, phiproxy.announcement")
    await site.init()
    assert site.run("SELECT count(*) FROM phiproxy.proxy") == [(0,)]


async def test_who_is_gone_or_silent_is_not_waited_for(site: Site) -> None:
    await site.init()
    one, two, three = (Members("phiproxy", lease=60) for _ in range(3))
    async with await site.connect() as conn:
        await conn.set_autocommit(True)
        for member in (one, two, three):
            await member.beat(conn, 1, print)
        number = await one.announce(conn, {"a"})
        assert await one.behind(conn, number) == 2
        await two.leave(conn)
        assert await one.behind(conn, number) == 1
        await conn.execute("UPDATE phiproxy.proxy SET seen_at = seen_at - interval '61 seconds' WHERE heard = 0")
        assert await one.behind(conn, number) == 0
        await conn.execute("UPDATE phiproxy.announcement SET at = at - interval '61 minutes'")
        await one.announce(conn, {"b"})
        names = [names for (names,) in site.run("SELECT names FROM phiproxy.announcement")]
        assert names == [["b"]]


async def test_one_worker_of_a_proxy_leads(site: Site) -> None:
    """The first that was there just now; workers of other proxies, and proxies without workers, lead for themselves."""
    await site.init()
    workers = [Members("phiproxy", 600, (5, index), patience=200) for index in range(3)]
    others = [Members("phiproxy", 600, (4, 0)), Members("phiproxy", 600, (6, 0)), Members("phiproxy", 600)]

    async def leading(members: list[Members]) -> list[bool]:
        for member in members:
            await member.beat(conn, 1, print)
        return [member.leads for member in members]

    async with await site.connect() as conn:
        await conn.set_autocommit(True)
        assert await leading([*workers, *others]) == [True, False, False, True, True, True]
        await conn.execute("UPDATE phiproxy.proxy SET seen_at = seen_at - interval '300 seconds' WHERE id & 65535 = 0")
        assert await leading(workers[1:]) == [True, False]
        assert await leading(workers) == [True, False, False]
        await workers[0].leave(conn)
        assert await leading(workers[1:]) == [True, False]
        await conn.execute("LISTEN phiproxy_epoch")
        await others[2].tell(conn)
        await workers[1].tell(conn)
        told = [notify.payload async for notify in conn.notifies(timeout=0.5)]
        assert told == ["phiproxy"]
