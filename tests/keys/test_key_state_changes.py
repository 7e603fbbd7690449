"""Changes are compare-and-set: what is not as it was read stays as it is, and each change leaves its event."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import psycopg

from phiproxy.keys.key_rows import RootRow, WrapRow, in_state
from phiproxy.keys.key_state_changes import CHANNEL, announce, drop_wrap, set_data_key_state, set_root_state
from phiproxy.keys.provider import Context
from tests.keys.fakes import DEPLOYMENT, Site


async def test_a_row_that_somebody_changed_is_left(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        (root,) = await registry.roots_of("d:mrn", "", "data")
        (key,) = await registry.keys_of(root.id)
        ended = in_state(b"r" * 32, key, "decrypt_only")
        async with registry.changing() as change:
            assert not await set_data_key_state(change, replace(key, mac=b"x" * 32), ended)
            assert not await set_data_key_state(change, replace(key, state="pending"), ended)
            assert await set_data_key_state(change, key, ended, why="a test")
            assert not await set_root_state(change, replace(root, state="pending"), "active")
            assert await set_root_state(change, root, "decrypt_only")
    assert site.run("SELECT subject LIKE '%%: a test' FROM phiproxy.event WHERE what = 'data key decrypt_only'") == [(True,)]


async def test_a_second_root_does_not_become_active(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        new = await site.provider.new_key(Context(DEPLOYMENT, "d:mrn", "", "data", 2))
        assert await registry.add_root(RootRow(0, "d:mrn", "", "data", 2, "pending", ()), "fake:kek", new.wrapped)
        *_, pending = await registry.roots_of("d:mrn", "", "data")
        async with registry.changing() as change:
            assert not await set_root_state(change, pending, "active")


async def test_the_last_wrap_does_not_go(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = (await registry.all_roots())[0]
        (wrap,) = root.wraps
        async with registry.changing() as change:
            assert not await drop_wrap(change, root, wrap, (wrap.kek_uri, wrap.kek_version))
            assert not await drop_wrap(change, root, wrap, ("fake:other", "1"))
            assert not await drop_wrap(change, root, WrapRow("fake:other", "1", b""), (wrap.kek_uri, wrap.kek_version))


async def test_who_listens_hears_of_it_when_it_is_committed(site: Site) -> None:
    await site.init()
    async with await psycopg.AsyncConnection.connect(site.dsn, autocommit=True) as listener, site.registry() as registry:
        await listener.execute(f"LISTEN {CHANNEL}")
        async with registry.transaction() as conn:
            await announce(conn, "phiproxy")
            assert [n async for n in listener.notifies(timeout=0.1)] == []
        async with asyncio.timeout(240):
            heard = [n async for n in listener.notifies(stop_after=1)]
    assert [n.payload for n in heard] == ["phiproxy"]
