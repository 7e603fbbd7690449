"""A registry whose owner has changed what its tables are: conditions hold of other rows, columns have other types, triggers write.

Whatever the server answers, only the rows that were asked for are used, only what phiproxy has written enters the manifests, and
what cannot be read is an error that says so.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import pytest

from phiproxy.errors import IndexKeyWant, NotAuthentic, PhiproxyError, WriteKeyWant
from phiproxy.keys.anchoring import verify
from phiproxy.keys.compromise_retire import compromise
from phiproxy.keys.new_tenants import ensure_root
from phiproxy.keys.provider import Purpose
from phiproxy.keys.registry import Registry
from phiproxy.keys.slots import next_slot
from tests.keys.fakes import DEPLOYMENT, Clock, Site

PURPOSES: tuple[Purpose, ...] = ("data", "index")
LOOSE = "CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"


def unfasten(site: Site, *tables: str) -> None:
    """Drop what the owner of tables can drop: constraints and unique indexes."""
    for table in tables:
        for (name,) in site.run(
            "SELECT quote_ident(conname) FROM pg_constraint WHERE conrelid = %s::regclass AND contype <> 'n' ORDER BY contype",
            (f"phiproxy.{table}",),
        ):
            site.run(f"ALTER TABLE phiproxy.{table} DROP CONSTRAINT IF EXISTS {name} CASCADE")
        for (name,) in site.run(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND indpred IS NOT NULL",
            (f"phiproxy.{table}",),
        ):
            site.run(f"DROP INDEX {name}")
        for (name,) in site.run(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnotnull AND attnum > 0 AND attidentity = ''",
            (f"phiproxy.{table}",),
        ):
            site.run(f'ALTER TABLE phiproxy.{table} ALTER "{name}" DROP NOT NULL')


def without_regard_to_case(site: Site) -> None:
    unfasten(site, "root_key")
    site.run(LOOSE)
    site.run("ALTER TABLE phiproxy.root_key ALTER tenant TYPE text COLLATE public.loose")


async def test_a_collation_under_which_tenants_are_equal_gives_none_anothers_keys(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.registry() as registry:
        for tenant in ("ACME", "acme"):
            for purpose in PURPOSES:
                await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", tenant, purpose), None)
    without_regard_to_case(site)
    async with site.registry() as registry, site.service(clock, tenant="acme") as (service, ring):
        for purpose in PURPOSES:
            root = await registry.root_at("d:mrn", "acme", purpose)
            assert root is not None
            assert root.tenant == "acme"
        await service.fetch(frozenset({WriteKeyWant("d:mrn", 1), IndexKeyWant(1, 0)}))
        assert ring.reserve("d:mrn", 1).tenant == "acme"


async def test_a_collation_under_which_a_tenant_is_there_already_shares_no_keys(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        await ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "ACME", "index"), None)
    without_regard_to_case(site)
    async with site.registry() as registry:
        assert await registry.root_at("d:mrn", "acme", "index") is None


def trigger(site: Site, table: str, event: str, body: str) -> None:
    site.run(f"CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} RETURN NEW; END$$")
    site.run(f"CREATE TRIGGER meddle BEFORE {event} ON phiproxy.{table} FOR EACH ROW EXECUTE FUNCTION public.meddle()")


async def _nothing_changed(site: Site, registry: Registry, change: Awaitable[Any]) -> None:
    with pytest.raises(NotAuthentic, match="nothing was changed"):
        await change
    async with await site.connect() as conn:
        assert await verify(registry.trust, conn) == []


async def test_a_wrap_that_a_trigger_puts_in_the_place_of_a_new_ones_is_not_believed(site: Site) -> None:
    """Under an RSA KEK whose public half he has, the next tenant's root would be the attacker's own."""
    await site.init()
    trigger(site, "root_wrap", "INSERT", "NEW.blob := decode('00', 'hex');")
    async with site.registry() as registry:
        root = ensure_root(registry, site.provider, DEPLOYMENT, ("d:mrn", "acme", "data"), None)
        await _nothing_changed(site, registry, root)


async def test_a_trigger_that_keeps_a_key_as_it_was_is_no_compromise(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        root = await registry.root_at("d:mrn", "", "data")
        assert root is not None
        key = await registry.active_key(root.id)
        assert key is not None
        trigger(site, "data_key", "UPDATE", "NEW.state := OLD.state; NEW.mac := OLD.mac;")
        await _nothing_changed(site, registry, compromise(registry, site.provider, DEPLOYMENT, key.id, "a test", 1000))


async def test_a_slot_of_another_expression_than_was_rotated_is_not_made(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        await next_slot(registry, site.provider, DEPLOYMENT, "d:mrn", "@")  # with its root
    async with site.registry() as registry:
        trigger(site, "slot", "INSERT", "NEW.expression := 'substring(@,1,1)';")
        await _nothing_changed(site, registry, next_slot(registry, site.provider, DEPLOYMENT, "c:public.patients.ssn", "@"))


CHANGES = [
    ("root_key", "ALTER TABLE phiproxy.root_key ALTER generation TYPE text USING 'x'"),
    ("root_key", "UPDATE phiproxy.root_key SET generation = NULL"),
    (
        "root_key",
        "ALTER TABLE phiproxy.root_key ALTER id DROP IDENTITY; ALTER TABLE phiproxy.root_key ALTER id TYPE text USING 'x'",
    ),
    ("root_key", "UPDATE phiproxy.root_key SET scope = NULL"),
    ("root_wrap", "UPDATE phiproxy.root_wrap SET verified_at = 'infinity'"),
    ("root_wrap", "ALTER TABLE phiproxy.root_wrap ALTER blob TYPE text USING 'x'"),
    ("root_wrap", "ALTER TABLE phiproxy.root_wrap ALTER root_id TYPE text USING 'x'"),
    ("data_key", "ALTER TABLE phiproxy.data_key ALTER id TYPE text USING 'x'"),
    ("data_key", "ALTER TABLE phiproxy.data_key ALTER max_uses TYPE text USING 'x'"),
    ("data_key", "ALTER TABLE phiproxy.data_key ALTER used DROP DEFAULT, ALTER used TYPE text USING 'x'"),
    ("data_key", "UPDATE phiproxy.data_key SET created_at = NULL"),
    ("identity", "ALTER TABLE phiproxy.identity ALTER number TYPE text USING 'x'"),
    ("meta", "ALTER TABLE phiproxy.meta ALTER epoch DROP DEFAULT, ALTER epoch TYPE text USING 'x', ALTER format TYPE text"),
    ("counter", "ALTER TABLE phiproxy.counter ALTER value TYPE text"),
    ("counter", "UPDATE phiproxy.counter SET groups = NULL"),
    ("counter", "INSERT INTO phiproxy.counter SELECT NULL, value, groups, mac FROM phiproxy.counter"),
    ("manifest", "ALTER TABLE phiproxy.manifest ALTER counter TYPE text"),
    ("manifest", "UPDATE phiproxy.manifest SET mac = NULL"),
    ("manifest", "INSERT INTO phiproxy.manifest VALUES (NULL, 1, '', '')"),
    ("slot", "DROP TABLE phiproxy.slot"),
    ("manifest", "DROP TABLE phiproxy.manifest"),
]


@pytest.mark.parametrize(("table", "change"), CHANGES)
async def test_columns_of_other_types_are_errors_that_say_so(site: Site, clock: Clock, table: str, change: str) -> None:
    await site.init()
    async with site.registry() as registry, site.service(clock) as (service, _):
        unfasten(site, table)
        site.run(change)
        uses = (
            registry.layout(),
            service.reconcile(),
            service.fetch(frozenset({WriteKeyWant("d:mrn", 1)})),
            service.fetch(frozenset({IndexKeyWant(1, 0)})),
            registry.all_roots(),
        )
        for use in uses:
            with suppress(PhiproxyError):  # and nothing else
                await use
        async with await site.connect() as conn:
            faults = await verify(registry.trust, conn)
        # Of uses, the epoch and what has no name nothing is believed.
        assert faults or any(column in change for column in ("used", "epoch", "VALUES (NULL"))


async def test_a_key_is_as_old_as_its_row_says(site: Site) -> None:
    """And not as a function says that a trigger has put into the way of the session: it would never be rotated."""
    await site.init()
    site.run("CREATE SCHEMA evil")
    site.run("CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT '2001-01-01'::timestamptz$$")
    site.run(f'ALTER DATABASE "{site.name}" SET search_path TO evil, pg_catalog')
    async with site.registry() as registry:
        root = await registry.root_at("d:mrn", "", "data")
        assert root is not None
        key = await registry.active_key(root.id)
        assert key is not None
        assert all(-60 < each.age < 600 for each in (root, key))
