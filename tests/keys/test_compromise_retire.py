"""Compromised and retired keys: what still opens, what takes over, and that nothing in use is retired."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from phiproxy.crypto.seal import ColumnSpec, draw_record, make_sealer
from phiproxy.errors import ConfigError, DataKeyWant, SealError, WriteKeyWant
from phiproxy.keys import compromise_retire
from phiproxy.keys.compromise_retire import Usage, compromise, retire, scope_of
from phiproxy.keys.key_service import KeyLimits
from tests.keys.fakes import DEPLOYMENT, Clock, Site

SPEC = ColumnSpec(DEPLOYMENT, "", "d:mrn", 1)
COLUMNS = [("public", "patients", "mrn"), ("public", "visits", "mrn")]


async def sealed(site: Site, clock: Clock) -> tuple[int, bytes]:
    async with site.service(clock, KeyLimits()) as (service, ring):
        await service.fetch(frozenset({WriteKeyWant("d:mrn", 1)}))
        key = ring.reserve("d:mrn", 1)
        return key.id, make_sealer(SPEC)(b"M-1", draw_record(key), b"")


async def test_a_compromised_key_opens_is_known_and_writes_no_more(site: Site, clock: Clock) -> None:
    await site.init()
    key_id, _ = await sealed(site, clock)
    async with site.registry() as registry:
        await compromise(registry, site.provider, DEPLOYMENT, key_id, "laptop stolen", 1000)
        with pytest.raises(ConfigError, match="is compromised already"):
            await compromise(registry, site.provider, DEPLOYMENT, key_id, "again", 1000)
        with pytest.raises(ConfigError, match="knows no data key"):
            await compromise(registry, site.provider, DEPLOYMENT, key_id ^ 1, "x", 1000)
    async with site.service(clock) as (service, ring):
        await service.fetch(frozenset({DataKeyWant(key_id), WriteKeyWant("d:mrn", 1)}))
        assert ring.data_key_until(key_id)[0].state == "compromised"
        assert ring.reserve("d:mrn", 1).id != key_id
    assert site.run(
        'SELECT subject LIKE %s, "from", "to" FROM phiproxy.event WHERE what = %s', ("%laptop stolen", "data key compromised")
    ) == [(True, "active", "compromised")]


async def test_a_key_is_retired_only_when_nothing_is_under_it(site: Site, clock: Clock) -> None:
    await site.init()
    key_id, value = await sealed(site, clock)
    site.run("INSERT INTO visits (id, mrn) VALUES (1, %s), (2, NULL)", (value,))
    async with site.registry() as registry:
        assert await scope_of(registry, key_id) == "d:mrn"
        with pytest.raises(ConfigError, match="is active"):
            await retire(registry, site.provider, DEPLOYMENT, key_id, COLUMNS)
        await compromise(registry, site.provider, DEPLOYMENT, key_id, "x", 1000)
        assert await retire(registry, site.provider, DEPLOYMENT, key_id, COLUMNS) == [Usage(COLUMNS[1], key_id, 1)]
        site.run("ALTER TABLE visits ADD COLUMN phi_new_mrn bytea; UPDATE visits SET phi_new_mrn = mrn, mrn = NULL")
        hidden = ("public", "visits", "phi_new_mrn")
        assert await retire(registry, site.provider, DEPLOYMENT, key_id, COLUMNS) == [Usage(hidden, key_id, 1)]
        site.run("UPDATE visits SET mrn = phi_new_mrn; ALTER TABLE visits DROP COLUMN phi_new_mrn")
        constant = f"'\\x{value.hex()}'::bytea"
        site.run(
            f"ALTER TABLE patients ALTER mrn SET DEFAULT {constant}; ALTER TABLE visits"
            f" ADD CONSTRAINT c CHECK (position(substring({constant}, 13, 16) IN substring(mrn, 13, 4080)) = 0) NOT VALID"
        )
        kept = [Usage(COLUMNS[0], key_id, 1), Usage(COLUMNS[1], key_id, 2)]
        assert await retire(registry, site.provider, DEPLOYMENT, key_id, COLUMNS) == kept
        site.run("ALTER TABLE patients ALTER mrn DROP DEFAULT; ALTER TABLE visits DROP CONSTRAINT c; DELETE FROM visits")
        assert await retire(registry, site.provider, DEPLOYMENT, key_id, COLUMNS) == []
        with pytest.raises(ConfigError, match="is retired"):
            await retire(registry, site.provider, DEPLOYMENT, key_id, COLUMNS)
    async with site.service(clock) as (service, ring):
        await service.fetch(frozenset({DataKeyWant(key_id)}))
        with pytest.raises(SealError, match="is retired"):
            ring.data_key_until(key_id)


async def test_the_columns_of_a_table_are_looked_through_whatever_they_are_called(site: Site, clock: Clock) -> None:
    await site.init()
    key_id, value = await sealed(site, clock)
    columns = [("public", "visits", "mrn"), ("public", "visits", '100 %s "quoted"')]
    site.run('ALTER TABLE visits ADD COLUMN "100 %%s ""quoted""" bytea', ())
    async with site.registry() as registry:
        await compromise(registry, site.provider, DEPLOYMENT, key_id, "x", 1000)
        site.run('INSERT INTO visits (id, mrn, "100 %%s ""quoted""") VALUES (1, %s, %s), (2, %s, NULL)', (value, value, value))
        usages = [Usage(columns[0], key_id, 2), Usage(columns[1], key_id, 1)]
        assert await retire(registry, site.provider, DEPLOYMENT, key_id, columns) == usages
        site.run("UPDATE visits SET mrn = NULL WHERE id = 1")
        site.run("DELETE FROM visits WHERE id = 2")
        assert await retire(registry, site.provider, DEPLOYMENT, key_id, columns) == usages[1:] == [Usage(columns[1], key_id, 1)]


async def test_a_column_that_cannot_be_looked_through_keeps_the_key(site: Site, clock: Clock) -> None:
    await site.init()
    key_id, _ = await sealed(site, clock)
    async with site.registry() as registry:
        await compromise(registry, site.provider, DEPLOYMENT, key_id, "x", 1000)
        with pytest.raises(ConfigError, match="may still be in use"):
            await retire(registry, site.provider, DEPLOYMENT, key_id, [("public", "nowhere", "mrn")])
    assert site.run("SELECT state FROM phiproxy.data_key WHERE id = %s", (key_id,)) == [("compromised",)]


async def test_who_writes_to_two_tables_is_not_ended_for_a_key_that_is_retired(
    site: Site, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has written to one, and waits for the other: the key's retirement lets go of that, and goes on behind it."""
    monkeypatch.setattr(compromise_retire, "SHORT", "SET LOCAL lock_timeout TO '200ms'")
    await site.init()
    key_id, _ = await sealed(site, clock)
    async with site.registry() as registry:
        await compromise(registry, site.provider, DEPLOYMENT, key_id, "x", 1000)
        with psycopg.connect(site.dsn) as other, site.server.connect(other.info.dbname) as looks:
            other.execute("INSERT INTO visits (id, mrn) VALUES (1, NULL)")
            retiring = asyncio.create_task(retire(registry, site.provider, DEPLOYMENT, key_id, COLUMNS))
            for _ in range(3000):
                if looks.execute("SELECT FROM pg_locks WHERE relation = 'visits'::regclass AND NOT granted").fetchall():
                    break
                await asyncio.sleep(0.1)
            await asyncio.to_thread(other.execute, "INSERT INTO patients (id) VALUES (77)")
            other.commit()
        assert await retiring == []
    assert site.run("SELECT count(*) FROM patients WHERE id = 77") == [(1,)]


async def test_a_forged_row_is_not_given_another_state(site: Site, clock: Clock) -> None:
    await site.init()
    key_id, _ = await sealed(site, clock)
    site.run("UPDATE phiproxy.data_key SET max_uses = max_uses + 1 WHERE id = %s", (key_id,))
    async with site.registry() as registry:
        with pytest.raises(ConfigError, match="not authentic"):
            await compromise(registry, site.provider, DEPLOYMENT, key_id, "x", 1000)
