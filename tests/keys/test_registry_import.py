"""What ``keys export`` wrote comes back whole, into nothing or an older state of itself, and never over anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from phiproxy.errors import ConfigError, NotAuthentic, ProviderDenied, WriteKeyWant
from phiproxy.keys.anchoring import verify
from phiproxy.keys.inventory import export
from phiproxy.keys.lifecycle import Done
from phiproxy.keys.new_tenants import ensure_root
from phiproxy.keys.registry_import import import_registry
from phiproxy.keys.rotation import rotate_root
from tests.keys.fakes import DEPLOYMENT, SSN, Clock, FakeProvider, Site
from tests.keys.test_registry_checked_on_read import EVERYTHING

ROWS = "SELECT " + ", ".join(
    f"(SELECT jsonb_agg(to_jsonb(x) - 'used' - 'epoch' ORDER BY x::text) FROM phiproxy.{name} x)" for name in EVERYTHING
)


async def exported(site: Site) -> dict[str, Any]:
    async with await site.connect() as conn:
        dump: dict[str, Any] = json.loads(json.dumps(await export(conn)))
    return dump


async def imported(site: Site, dump: object, **options: Any) -> list[Done]:
    async with await site.connect() as conn:
        return (await import_registry(conn, dump, DEPLOYMENT, options.pop("provider", site.provider), **options)).done


async def grown(site: Site) -> None:
    """A tenant, and a root that was rotated."""
    async with site.registry() as registry:
        root = await registry.root_at("d:mrn", "", "data")
        assert root is not None
        await rotate_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "", "data"), root, 1000)
        await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "index"), 1)


async def test_into_a_database_without_a_registry(site: Site, clock: Clock) -> None:
    await site.init()
    await grown(site)
    dump, before = await exported(site), site.run(ROWS)
    anchor = (await site.trust()).key.anchor
    site.run("DROP SCHEMA phiproxy CASCADE")
    async with await site.connect() as conn:
        made = await import_registry(conn, dump, DEPLOYMENT, site.provider, anchor=anchor)
    assert [d.what for d in made.done] == ["registry imported"]
    assert made.anchor == anchor
    assert site.run(ROWS) == before
    assert await imported(site, dump) == []
    async with await site.connect() as conn:
        assert await verify(await site.trust(), conn) == []
    # Uses since the export are not known: the next value is under a key that nobody has used. And ids go on.
    ids = {int(str(i)) for (i,) in site.run("SELECT id FROM phiproxy.data_key")}
    async with site.service(clock) as (service, ring):
        await service.fetch(frozenset({WriteKeyWant("d:mrn", 1)}))
        assert ring.reserve("d:mrn", 1).id not in ids
    async with site.registry() as registry:
        roots = {root.id for root in await registry.all_roots()}
        new = await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "beta", "data"), None)
    assert new.id > max(roots)


async def test_over_an_older_state_of_the_same(site: Site) -> None:
    await site.init()
    older = await exported(site)
    await grown(site)
    newer, rows = await exported(site), site.run(ROWS)
    site.run("DROP SCHEMA phiproxy CASCADE")
    await imported(site, older)
    assert [d.what for d in await imported(site, newer)] == ["registry imported"]
    assert site.run(ROWS) == rows


async def test_what_would_be_lost_is_kept(site: Site) -> None:
    await site.init()
    dump = await exported(site)
    await grown(site)
    rows = site.run(ROWS)
    with pytest.raises(ConfigError, match="has what the export does not have"):
        await imported(site, dump)
    assert site.run(ROWS) == rows


async def test_another_registry_is_not_overwritten(site: Site) -> None:
    await site.init()
    dump = await exported(site)
    site.run("DROP SCHEMA phiproxy CASCADE")
    await site.init(SSN)
    with pytest.raises(NotAuthentic, match="another one"):
        await imported(site, dump)
    with pytest.raises(NotAuthentic, match="another one"):
        await imported(site, dump, anchor=(await site.trust()).key.anchor)


async def test_a_registry_that_was_tampered_with_is_looked_at_first(site: Site) -> None:
    await site.init()
    dump = await exported(site)
    site.run("UPDATE phiproxy.slot SET state = 'dropped'")
    with pytest.raises(NotAuthentic, match="slot"):
        await imported(site, dump)


async def test_an_export_that_was_changed_is_named(site: Site) -> None:
    await site.init()
    dump = await exported(site)
    site.run("DROP SCHEMA phiproxy CASCADE")
    part = dump["authenticated"]
    for table, change in (("slot", ("active", "dropped")), ("data_key", ("active", "compromised")), ("identity", ("text", "date"))):
        rows = [[change[1] if value == change[0] else value for value in row] for row in part["rows"][table]]
        assert rows != part["rows"][table]
        with pytest.raises(NotAuthentic, match=table):
            await imported(site, {**dump, "authenticated": {**part, "rows": {**part["rows"], table: rows}}})
    with pytest.raises(NotAuthentic, match="rows are missing"):
        await imported(site, {**dump, "authenticated": {**part, "rows": {**part["rows"], "slot": []}}})
    with pytest.raises(NotAuthentic, match="counter"):
        await imported(site, {**dump, "authenticated": {**part, "counter": [99, *part["counter"][1:]]}})
    assert site.run("SELECT count(*) FROM pg_namespace WHERE nspname = 'phiproxy'") == [(0,)]


async def test_what_is_no_export_of_this_deployment(site: Site) -> None:
    await site.init()
    dump = await exported(site)
    for other in (None, {}, {**dump, "authenticated": None}):
        with pytest.raises(ConfigError, match="not an export of an authenticated registry"):
            await imported(site, other)
    with pytest.raises(ConfigError, match="damaged"):
        await imported(site, {**dump, "authenticated": {"rows": {"slot": [[1]]}}})
    with pytest.raises(ProviderDenied):
        await imported(site, dump, provider=FakeProvider())
    async with await site.connect() as conn:
        with pytest.raises(ConfigError, match="not of deployment other"):
            await import_registry(conn, dump, "other", site.provider)
