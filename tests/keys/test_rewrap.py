"""Rewrap: by version, verified before anything goes, two wraps at once, broken off and taken up, and nothing to do done twice."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import sql

from phiproxy.errors import ConfigError, NotAuthentic, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys import rewrap as module
from phiproxy.keys.provider import Context, Wrapped
from phiproxy.keys.registry import select_roots
from phiproxy.keys.rewrap import below, rewrap
from phiproxy.keys.root_cache import unwrap_root
from tests.keys.fakes import DEPLOYMENT, FakeProvider, Site


def wraps(site: Site) -> list[tuple[object, ...]]:
    return site.run("SELECT kek_uri, kek_version, count(*) FROM phiproxy.root_wrap GROUP BY 1, 2 ORDER BY 1, 2")


async def secrets(site: Site, provider: FakeProvider) -> list[bytes]:
    async with await site.connect() as conn:
        roots = await select_roots(conn, "phiproxy", sql.SQL("true"), ())
        return [await unwrap_root(provider, DEPLOYMENT, root) for root in roots]


async def test_a_kek_turned_over_in_place_is_seen_by_its_version(site: Site) -> None:
    await site.init()
    before = await secrets(site, site.provider)
    site.provider.turn_over()
    async with site.registry() as registry:
        done = await rewrap(registry, site.provider, DEPLOYMENT)
        assert (done.version, len(done.added), len(done.dropped), done.kept) == ("2", 5, 5, [])
        assert wraps(site) == [("fake:kek", "2", 5)]
        assert await secrets(site, site.provider) == before
        (epoch,) = site.run("SELECT epoch FROM phiproxy.meta")
        again = await rewrap(registry, site.provider, DEPLOYMENT)
        assert (again.added, again.dropped, again.kept) == ([], [], [])
        assert site.run("SELECT epoch FROM phiproxy.meta") == [epoch]
    assert site.run("SELECT count(*) FROM phiproxy.event WHERE what = 'root key wrapped'") == [(5,)]


async def test_another_kek_stands_beside_the_old_until_that_is_dropped(site: Site) -> None:
    await site.init()
    before, new = await secrets(site, site.provider), FakeProvider("fake:new")
    async with site.registry() as registry:
        with pytest.raises(ConfigError, match="is wrapped under fake:kek") as caught:
            await rewrap(registry, new, DEPLOYMENT)
        assert caught.value.hint is not None
        assert "--from" in caught.value.hint
        done = await rewrap(registry, new, DEPLOYMENT, older=site.provider)
        assert (len(done.added), done.dropped, len(done.kept)) == (5, [], 5)
        assert wraps(site) == [("fake:kek", "1", 5), ("fake:new", "1", 5)]
        assert await secrets(site, site.provider) == before == await secrets(site, new)
        done = await rewrap(registry, new, DEPLOYMENT, drop_old=True)
        assert (done.added, len(done.dropped)) == ([], 5)
    assert wraps(site) == [("fake:new", "1", 5)]
    assert await secrets(site, new) == before


async def test_a_run_that_breaks_off_is_taken_up(site: Site) -> None:
    await site.init()
    before = await secrets(site, site.provider)
    site.provider.turn_over()
    calls, real = [0], site.provider.rewrap

    async def sometimes(blob: bytes, version: str, context: Context) -> Wrapped:
        calls[0] += 1
        if calls[0] == 3:
            raise ProviderUnavailable("gone for a moment")
        return await real(blob, version, context)

    site.provider.rewrap = sometimes  # type: ignore[method-assign]
    async with site.registry() as registry:
        with pytest.raises(ProviderUnavailable):
            await rewrap(registry, site.provider, DEPLOYMENT)
        assert wraps(site) == [("fake:kek", "1", 3), ("fake:kek", "2", 2)]
        assert await secrets(site, site.provider) == before
        done = await rewrap(registry, site.provider, DEPLOYMENT)
    assert len(done.added) == 3
    assert wraps(site) == [("fake:kek", "2", 5)]


async def test_nothing_goes_before_the_new_wrap_was_seen_to_open(site: Site) -> None:
    await site.init()
    site.provider.turn_over()

    async def of_another(_blob: bytes, _version: str, context: Context) -> Wrapped:
        return await site.provider.wrap(b"?" * 32, context)

    site.provider.rewrap = of_another  # type: ignore[method-assign, assignment]
    async with site.registry() as registry:
        with pytest.raises(ProviderMisconfigured, match="nothing was dropped"):
            await rewrap(registry, site.provider, DEPLOYMENT)
        assert wraps(site) == [("fake:kek", "1", 5)]
        del site.provider.rewrap
        await rewrap(registry, site.provider, DEPLOYMENT)
        # One that was verified once, and was tampered with since, keeps the old one standing.
        new = FakeProvider("fake:new")
        await rewrap(registry, new, DEPLOYMENT, older=site.provider)
        site.run("UPDATE phiproxy.root_wrap SET blob = substring(blob, 1, 59) || '\\x00' WHERE kek_uri = 'fake:new'")
        with pytest.raises(NotAuthentic):
            await rewrap(registry, new, DEPLOYMENT, drop_old=True)
    assert wraps(site) == [("fake:kek", "2", 5), ("fake:new", "1", 5)]


async def test_two_who_rewrap_at_once_leave_one_wrap_each(site: Site) -> None:
    await site.init()
    before = await secrets(site, site.provider)
    site.provider.turn_over()
    async with site.registry() as registry:
        await asyncio.gather(*(rewrap(registry, site.provider, DEPLOYMENT) for _ in range(4)))
    assert wraps(site) == [("fake:kek", "2", 5)]
    assert await secrets(site, site.provider) == before


async def test_what_is_below_a_version_is_in_use(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        assert len(await below(registry, "fake:kek", 2)) == 5
        assert await below(registry, "fake:kek", 1) == []
        site.provider.turn_over()
        await rewrap(registry, site.provider, DEPLOYMENT)
        assert await below(registry, "fake:kek", 2) == []


async def test_ended_roots_are_left_alone(site: Site) -> None:
    await site.init()
    await site.rewrite("UPDATE phiproxy.root_key SET state = 'destroyed' WHERE purpose = 'index'")
    site.provider.turn_over()
    async with site.registry() as registry:
        done = await rewrap(registry, site.provider, DEPLOYMENT)
    assert len(done.added) == 3
    assert module.Rewrapped("2").added == []
