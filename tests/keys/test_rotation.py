"""Rotation: two phases, one winner, and a crash between the phases is taken up by whoever comes next."""

from __future__ import annotations

import asyncio

import pytest

from phiproxy.errors import KeyNeeded, ProviderDenied, ProviderError, ProviderMisconfigured, WriteKeyWant
from phiproxy.keys import rotation
from phiproxy.keys.key_rows import RootRow, new_data_key
from phiproxy.keys.key_service import KeyLimits
from phiproxy.keys.new_tenants import new_root_key
from phiproxy.keys.provider import Context, NewKey, Purpose
from phiproxy.keys.registry import Registry, insert_data_key, insert_root
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.rotation import roll_data_key, rotate_root
from tests.keys.fakes import DEPLOYMENT, Clock, Site

PLACE: tuple[str, str, Purpose] = ("d:mrn", "", "data")


async def root_of(registry: Registry) -> RootRow:
    found = await registry.root_at("d:mrn", "", "data")
    assert found is not None
    return found


def keys(site: Site) -> list[tuple[object, ...]]:
    return site.run(
        "SELECT r.generation, r.state, d.generation, d.state FROM phiproxy.root_key r JOIN phiproxy.data_key d ON d.root_id = r.id"
        " WHERE r.scope = 'd:mrn' ORDER BY r.generation, d.generation"
    )


def events(site: Site, what: str) -> list[tuple[object, ...]]:
    return site.run('SELECT "from", "to" FROM phiproxy.event WHERE what = %s ORDER BY id', (what,))


async def test_a_data_key_is_pending_before_it_writes(site: Site) -> None:
    await site.init()
    (before,) = site.run("SELECT epoch FROM phiproxy.meta")
    async with site.registry() as registry:
        root = await root_of(registry)
        secret = await unwrap_root(site.provider, DEPLOYMENT, root)
        await roll_data_key(registry, root, secret, 10, await registry.active_key(root.id))
    assert keys(site) == [(1, "active", 1, "decrypt_only"), (1, "active", 2, "active")]
    assert events(site, "data key active") == [("pending", "active")]
    assert events(site, "data key decrypt_only") == [("active", "decrypt_only")]
    assert site.run("SELECT epoch FROM phiproxy.meta") > [before]


async def test_of_many_rollers_one_wins(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = await root_of(registry)
        secret = await unwrap_root(site.provider, DEPLOYMENT, root)
        old = await registry.active_key(root.id)
        await asyncio.gather(*(roll_data_key(registry, root, secret, 10, old) for _ in range(8)))
        assert old is not None
        assert await registry.lease(old.id, 1) == 0
    assert [k[3] for k in keys(site)].count("active") == 1
    assert events(site, "data key active") == [("pending", "active")]


async def test_a_pending_key_that_a_crash_left_is_promoted(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = await root_of(registry)
        secret = await unwrap_root(site.provider, DEPLOYMENT, root)
        left = new_data_key(secret, root.id, 2, 10, "pending")
        async with registry.changing() as change:
            assert await insert_data_key(change, left)
        await roll_data_key(registry, root, secret, 10, await registry.active_key(root.id))
        active = await registry.active_key(root.id)
    assert active is not None
    assert active.id == left.id
    assert len(keys(site)) == 2


async def test_a_pending_key_that_somebody_forged_is_not(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = await root_of(registry)
        secret = await unwrap_root(site.provider, DEPLOYMENT, root)
        async with registry.changing() as change:
            await insert_data_key(change, new_data_key(b"x" * 32, root.id, 2, 10, "pending"))
        with pytest.raises(ProviderMisconfigured, match="not authentic"):
            await roll_data_key(registry, root, secret, 10, await registry.active_key(root.id))
    assert keys(site) == [(1, "active", 1, "active"), (1, "active", 2, "pending")]


async def test_a_root_is_followed_by_the_next_with_a_data_key_of_its_own(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        now = await rotate_root(registry, site.provider, DEPLOYMENT, PLACE, await root_of(registry), 10)
    assert now is not None
    assert now.generation == 2
    assert keys(site) == [(1, "decrypt_only", 1, "decrypt_only"), (2, "active", 1, "active")]
    assert site.run("SELECT count(*) FROM phiproxy.root_key WHERE purpose = 'index' AND generation > 1") == [(0,)]


async def test_of_many_who_rotate_a_root_one_wins(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = await root_of(registry)
        now = await asyncio.gather(*(rotate_root(registry, site.provider, DEPLOYMENT, PLACE, root, 10) for _ in range(6)))
        assert {r.generation for r in now if r is not None} == {2}
        late = await rotate_root(registry, site.provider, DEPLOYMENT, PLACE, root, 10)
    assert late is not None
    assert late.generation == 2
    active = site.run("SELECT count(*) FROM phiproxy.root_key WHERE scope = 'd:mrn' AND purpose = 'data' AND state = 'active'")
    assert active == [(1,)]


async def test_a_pending_root_is_promoted_only_if_it_opens(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = await root_of(registry)
        row = RootRow(0, "d:mrn", "", "data", 2, "pending", ())
        new = await new_root_key(site.provider, row, DEPLOYMENT)
        async with registry.changing() as change:
            await insert_root(change, row, site.provider.uri, new.wrapped._replace(blob=b"?" * 60))
        with pytest.raises(ProviderDenied):
            await rotate_root(registry, site.provider, DEPLOYMENT, PLACE, root, 10)
        assert keys(site) == [(1, "active", 1, "active")]
        await site.rewrite(
            "UPDATE phiproxy.root_wrap SET blob = %s WHERE root_id = (SELECT max(id) FROM phiproxy.root_key)", (new.wrapped.blob,)
        )
        now = await rotate_root(registry, site.provider, DEPLOYMENT, PLACE, root, 10)
    assert now is not None
    assert now.generation == 2


async def test_a_provider_that_fails_leaves_everything_as_it_was(site: Site) -> None:
    await site.init()
    site.provider.fails = ProviderDenied
    async with site.registry() as registry:
        with pytest.raises(ProviderDenied):
            await rotate_root(registry, site.provider, DEPLOYMENT, PLACE, await root_of(registry), 10)
    assert keys(site) == [(1, "active", 1, "active")]


async def test_a_failure_in_the_promotion_is_a_failure_of_all_of_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.init()

    async def not_inserted(*_values: object) -> bool:
        return False

    async with site.registry() as registry:
        monkeypatch.setattr(rotation, "insert_data_key", not_inserted)
        await rotate_root(registry, site.provider, DEPLOYMENT, PLACE, await root_of(registry), 10)
    assert keys(site) == [(1, "active", 1, "active")]
    assert site.run("SELECT state FROM phiproxy.root_key WHERE generation = 2") == [("pending",)]


async def test_a_running_proxy_rotates_a_root_whose_year_is_over(site: Site, clock: Clock) -> None:
    await site.init()
    await site.rewrite("UPDATE phiproxy.root_key SET created_at = created_at - interval '366 days' WHERE purpose = 'data'")
    async with site.service(clock, KeyLimits()) as (service, ring):
        await service.fetch(frozenset({WriteKeyWant("d:mrn", 5)}))
        key = ring.reserve("d:mrn", 5)
    assert keys(site) == [(1, "decrypt_only", 1, "decrypt_only"), (2, "active", 1, "active")]
    assert site.run("SELECT id FROM phiproxy.data_key WHERE state = 'active' AND used > 0") == [(key.id,)]
    assert site.run("SELECT count(*) FROM phiproxy.root_key WHERE purpose = 'index'") == [(2,)]


async def test_a_root_that_cannot_be_rotated_goes_on_and_is_told(site: Site, clock: Clock) -> None:
    await site.init()
    await site.rewrite("UPDATE phiproxy.root_key SET created_at = created_at - interval '366 days'")
    told: list[str] = []

    async def denied(_context: Context) -> NewKey:
        raise ProviderDenied("no GenerateDataKey for you")

    def warn(root: RootRow, error: ProviderError) -> None:
        told.append(f"{root.scope}: {error.message}")

    site.provider.new_key = denied  # type: ignore[method-assign, assignment]
    async with site.service(clock, KeyLimits()) as (service, ring):
        service.warn = warn
        for _ in range(2):
            await service.fetch(frozenset({WriteKeyWant("d:mrn", 10_001)}))
            ring.reserve("d:mrn", 10_001)
    assert told == ["d:mrn: no GenerateDataKey for you"]
    assert keys(site) == [(1, "active", 1, "active")]


async def test_what_changed_in_the_registry_is_seen_without_asking_the_kek(site: Site, clock: Clock) -> None:
    """A lease of a key that another proxy rolled is given up; a compromised key is known as one; a retired one opens nothing."""
    await site.init()
    async with site.registry() as registry, site.service(clock, KeyLimits()) as (service, ring):
        await service.fetch(frozenset({WriteKeyWant("d:mrn", 5)}))
        key = ring.reserve("d:mrn", 1)
        unwraps = sum(service.watch.unwraps.values())
        root = await root_of(registry)
        secret = await unwrap_root(site.provider, DEPLOYMENT, root)
        await service.reconcile()
        ring.reserve("d:mrn", 1)
        await roll_data_key(registry, root, secret, 1000, await registry.active_key(root.id))
        await service.reconcile()
        with pytest.raises(KeyNeeded):
            ring.reserve("d:mrn", 1)
        assert key.id not in ring.held()
        await site.rewrite("UPDATE phiproxy.root_key SET state = 'retired' WHERE id = %s", (root.id,))
        await service.reconcile()
        assert ring.held() == {}
        assert sum(service.watch.unwraps.values()) == unwraps
