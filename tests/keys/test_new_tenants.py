"""Roots made while the proxy runs: one winner, no silent replacement."""

from __future__ import annotations

import asyncio

import pytest

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.new_tenants import ensure_root, new_root_key
from phiproxy.keys.provider import Context
from tests.keys.fakes import DEPLOYMENT, FakeProvider, Site


async def test_of_many_proxies_one_makes_the_root(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        made = await asyncio.gather(
            *(ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "data"), None) for _ in range(6))
        )
    assert len({r.id for r in made}) == 1
    assert len(made[0].wraps) == 1
    assert site.run("SELECT count(*) FROM phiproxy.root_key WHERE tenant = 'acme'") == [(1,)]


async def test_older_index_generations_are_made_beside_the_active_one(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        for generation in (2, 1, 2):
            row = await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "index"), generation)
            assert row.generation == generation
    assert site.run("SELECT generation, state FROM phiproxy.root_key WHERE tenant = 'acme' ORDER BY 1") == [
        (1, "decrypt_only"),
        (2, "active"),
    ]


async def test_a_lost_root_is_not_replaced(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        for place, generation in ((("d:nobody", "", "data"), None), (("d:mrn", "", "index"), 7)):
            with pytest.raises(ProviderMisconfigured, match="root key"):
                await ensure_root(registry, site.provider, DEPLOYMENT, place, generation)  # type: ignore[arg-type]
        await site.rewrite(
            "INSERT INTO phiproxy.root_key (scope, tenant, purpose, generation, state, format)"
            " VALUES ('d:mrn', 'z', 'data', 1, 'retired', 2)"
        )
        with pytest.raises(ProviderMisconfigured, match="no usable"):
            await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "z", "data"), None)


async def test_a_provider_that_returns_another_key_is_found() -> None:
    class Wrong(FakeProvider):
        async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
            return b"w" * 32

    with pytest.raises(ProviderMisconfigured, match="does not unwrap"):
        await new_root_key(Wrong(), RootRow(0, "d:mrn", "", "data", 1, "active", ()), DEPLOYMENT)
