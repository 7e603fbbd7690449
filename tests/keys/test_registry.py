"""The registry under concurrency: leases never exceed a limit, rollers leave one active key, readers see one epoch."""

from __future__ import annotations

import asyncio

import pytest
from psycopg_pool import AsyncConnectionPool

from phiproxy.errors import ConfigError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.key_rows import DataKeyRow
from phiproxy.keys.registry import Connection, Registry, os_user
from tests.keys.fakes import Site

DEAD = "host=127.0.0.1 port=1 dbname=x connect_timeout=1"


async def active(registry: Registry) -> DataKeyRow:
    root = await registry.root_at("d:mrn", "", "data")
    assert root is not None
    row = await registry.active_key(root.id)
    assert row is not None
    return row


async def test_no_registry_is_said(site: Site) -> None:
    with pytest.raises(ConfigError, match="no key registry") as caught:
        await site.trust()
    assert (caught.value.hint or "").startswith("run: phiproxy keys init (where tables hold encrypted values already")
    await site.init()
    async with site.registry() as registry:
        site.run("DROP SCHEMA phiproxy CASCADE")
        with pytest.raises(ProviderMisconfigured, match="counter is missing"):
            await registry.data_keys(frozenset({1}))


async def test_a_database_that_is_gone_is_unavailable(site: Site) -> None:
    await site.init()
    async with AsyncConnectionPool(DEAD, connection_class=Connection, min_size=0, max_size=1, open=False, timeout=0.2) as pool:
        with pytest.raises(ProviderUnavailable) as caught:
            await Registry(pool, await site.trust()).data_keys(frozenset({1}))
    assert caught.value.sqlstate == "57P03"


async def test_leases_add_up_to_the_limit_and_no_further(site: Site) -> None:
    await site.init(max_uses=1000)
    async with site.registry() as registry:
        key = await active(registry)
        granted = await asyncio.gather(*(registry.lease(key.id, 70) for _ in range(20)))
        assert sum(granted) == 1000
        assert sorted(set(granted)) == [0, 20, 70]
        assert (await active(registry)).used == 1000
        assert await registry.lease(key.id, 1) == 0
        assert await registry.lease(key.id + 1, 1) == 0


async def test_leases_hold_under_a_serializable_default(site: Site) -> None:
    await site.init(max_uses=1000)
    site.run(f"ALTER DATABASE {site.name} SET default_transaction_isolation TO serializable")
    async with site.registry() as registry:
        key = await active(registry)
        assert sum(await asyncio.gather(*(registry.lease(key.id, 30) for _ in range(10)))) == 300


async def test_events_say_who(site: Site) -> None:
    await site.init()
    rows = site.run("SELECT database_user, os_user, at IS NOT NULL FROM phiproxy.event")
    assert set(rows) == {(site.server.superuser, os_user(), True)}


async def test_commits_wait_for_the_disk(site: Site) -> None:
    await site.init()
    async with site.registry() as registry, registry.transaction() as conn:
        row = await (await conn.execute("SHOW synchronous_commit")).fetchone()
    assert row == ("on",)
