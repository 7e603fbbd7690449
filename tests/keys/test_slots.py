"""The next slot of an index: building, under an index root of its own, filled by writers and used by nobody yet."""

from __future__ import annotations

import asyncio

import pytest

from phiproxy.errors import ConfigError, IndexKeyWant
from phiproxy.keys.slots import next_slot
from phiproxy.policy.protection import Slot
from tests.keys.fakes import DEPLOYMENT, Clock, Site


async def test_the_next_generation_stands_beside_the_active_one(site: Site, clock: Clock) -> None:
    await site.init()
    (before,) = site.run("SELECT epoch FROM phiproxy.meta")
    async with site.registry() as registry:
        made = await asyncio.gather(*(next_slot(registry, site.provider, DEPLOYMENT, "d:mrn", "@") for _ in range(3)))
        assert set(made) == {Slot(1, "@", 2, "building", 1)}
        assert await next_slot(registry, site.provider, DEPLOYMENT, "d:mrn", "@") == made[0]
    assert site.run("SELECT epoch FROM phiproxy.meta") > [before]
    assert site.run("SELECT generation, state FROM phiproxy.root_key WHERE scope = 'd:mrn' AND purpose = 'index' ORDER BY 1") == [
        (1, "active"),
        (2, "pending"),
    ]
    async with site.service(clock) as (service, ring):
        await service.fetch(frozenset({IndexKeyWant(1, 0), IndexKeyWant(1, 1)}))
        assert len({ring.index_mac(1, slot).copy().finalize() for slot in (0, 1)}) == 2


async def test_what_is_not_there_is_not_rotated(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        with pytest.raises(ConfigError, match="no active index"):
            await next_slot(registry, site.provider, DEPLOYMENT, "d:mrn", "lower(@)")
        with pytest.raises(ConfigError, match="no identity"):
            await next_slot(registry, site.provider, DEPLOYMENT, "d:other", "@")
        await site.rewrite("UPDATE phiproxy.slot SET generation = 255")
        with pytest.raises(ConfigError, match="no generation or slot left"):
            await next_slot(registry, site.provider, DEPLOYMENT, "d:mrn", "@")
