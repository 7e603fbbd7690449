"""The service against a real registry: what the ring gets, how often the KEK is asked, when keys roll, what is refused."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from pathlib import Path

import pytest

from phiproxy.crypto.blind_tags import derive_index_key
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, draw_record, make_opener, make_sealer
from phiproxy.errors import (
    DataKeyWant,
    IndexKeyWant,
    KeyNeeded,
    KeyWant,
    NotAuthentic,
    ProviderDenied,
    ProviderMisconfigured,
    ProviderUnavailable,
    SealError,
    WriteKeyWant,
)
from phiproxy.keys import open_provider
from phiproxy.keys.anchoring import unlock
from phiproxy.keys.key_service import KeyLimits, KeyService
from phiproxy.keys.lifecycle import init
from phiproxy.keys.local import create_kek_file
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.keys.resolve_data_key import open_value
from phiproxy.keys.root_cache import CacheLimits
from phiproxy.policy.registry_layout import Layout
from tests.keys.fakes import DEPLOYMENT, MRN, Clock, Site

SCOPE = "d:mrn"
SPEC = ColumnSpec(DEPLOYMENT, "", "d:mrn", 1)
SMALL = KeyLimits(CacheLimits(300, 900), max_uses=100, block=10)


def one(*wants: KeyWant) -> frozenset[KeyWant]:
    return frozenset(wants)


async def reserve(service: KeyService, ring: Keyring, uses: int, scope: str = SCOPE) -> DataKey:
    try:
        return ring.reserve(scope, uses)
    except KeyNeeded as needed:
        await service.fetch(needed.wants)
        return ring.reserve(scope, uses)


async def opened(service: KeyService, call: Callable[[], bytes]) -> bytes:
    try:
        return call()
    except KeyNeeded as needed:
        await service.fetch(needed.wants)
        return call()


def generations(site: Site, scope: str = SCOPE) -> list[tuple[object, ...]]:
    return site.run(
        "SELECT d.generation, d.state, d.used FROM phiproxy.data_key d JOIN phiproxy.root_key r ON r.id = d.root_id"
        " WHERE r.scope = %s ORDER BY 1",
        (scope,),
    )


async def test_written_here_opens_there(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (writer, ring):
        value = make_sealer(SPEC)(b"MRN-1", draw_record(await reserve(writer, ring, 1)), b"")
    async with site.service(clock) as (reader, other):
        opener = make_opener(SPEC, other, OpenMemo())
        assert await opened(reader, lambda: opener(value)) == b"MRN-1"
        assert sum(reader.watch.unwraps.values()) == 1


async def test_one_unwrap_per_root_whatever_is_wanted_at_once(site: Site, clock: Clock) -> None:
    await site.init()
    ids = [int(str(i)) for (i,) in site.run("SELECT id FROM phiproxy.data_key")]
    wants = one(
        *map(DataKeyWant, ids),
        WriteKeyWant("d:mrn", 1),
        WriteKeyWant("t:public.patients", 1),
        IndexKeyWant(1, 0),
        IndexKeyWant(2, 0),
        IndexKeyWant(2, 1),
    )
    async with site.service(clock) as (service, ring):
        site.provider.unwraps.clear()
        await asyncio.gather(*(service.fetch(wants) for _ in range(20)))
        assert all(ring.has(w) for w in wants)
        assert sum(service.watch.unwraps.values()) == 4
        assert len({(c.scope, c.purpose) for c in site.provider.unwraps}) == 4
        clock.now += 300
        assert not any(ring.has(w) for w in wants)
        await asyncio.gather(*(service.fetch(wants) for _ in range(20)))
        assert sum(service.watch.unwraps.values()) == 8


async def test_index_keys_come_from_the_registered_expression(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        await service.fetch(one(IndexKeyWant(2, 1)))
        row = await service._registry.root_at("t:public.patients", "", "index")
        assert row is not None
        root = await service._roots.get(row, stale_ok=False)
        expected = derive_index_key(root.secret, "c:public.patients.ssn", "right(@,4)", 1)
        assert ring.index_mac(2, 1).copy().finalize() == hmac.digest(expected, b"", "sha256")
        for want in (IndexKeyWant(2, 7), IndexKeyWant(9, 0)):
            with pytest.raises(ProviderMisconfigured, match="not in the key registry"):
                await service.fetch(one(want))


async def test_an_unknown_key_is_looked_for_once(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        await service.fetch(one(DataKeyWant(12345)))
        with pytest.raises(SealError, match="data key 12345 is not known"):
            ring.data_key_until(12345)
        clock.now += 6
        with pytest.raises(KeyNeeded):
            ring.data_key_until(12345)


@pytest.mark.parametrize(
    ("column", "value"), [("max_uses", "999"), ("state", "'compromised'"), ("generation", "9"), ("mac", "'\\x" + "00" * 32 + "'")]
)
async def test_a_row_that_was_tampered_with_is_refused(site: Site, clock: Clock, column: str, value: str) -> None:
    await site.init()
    key_id = int(str(site.run("SELECT d.id FROM phiproxy.data_key d ORDER BY id LIMIT 1")[0][0]))
    site.run(f"UPDATE phiproxy.data_key SET {column} = {value} WHERE id = {key_id}")
    async with site.service(clock) as (service, ring):
        await service.fetch(one(DataKeyWant(key_id)))
        with pytest.raises(NotAuthentic, match="not authentic in the registry"):
            ring.data_key_until(key_id)


async def test_a_tampered_active_row_stops_writing(site: Site, clock: Clock) -> None:
    await site.init()
    site.run("UPDATE phiproxy.data_key SET max_uses = 4000000000")
    async with site.service(clock) as (service, ring):
        with pytest.raises(ProviderMisconfigured, match="not authentic"):
            await service.fetch(one(WriteKeyWant(SCOPE, 1)))
        assert not ring.has(WriteKeyWant(SCOPE, 1))


async def test_a_retired_key_cannot_be_revived_by_its_state_alone(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock, SMALL) as (service, ring):
        first = await reserve(service, ring, 100)
        await reserve(service, ring, 1)
        ring.clear()
        site.run("UPDATE phiproxy.data_key SET state = 'pending' WHERE id = %s", (first.id,))
        await service.fetch(one(DataKeyWant(first.id)))
        with pytest.raises(NotAuthentic, match="not authentic"):
            ring.data_key_until(first.id)


async def test_retired_roots_open_nothing(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        key = await reserve(service, ring, 1)
        ring.clear()
        await site.rewrite("UPDATE phiproxy.root_key SET state = 'retired'")
        await service.fetch(one(DataKeyWant(key.id)))
        with pytest.raises(SealError, match=f"data key {key.id} is retired"):
            ring.data_key_until(key.id)
        with pytest.raises(ProviderMisconfigured, match="no data root key"):
            await service.fetch(one(WriteKeyWant(SCOPE, 1)))


async def test_one_proxy_makes_exactly_three_generations_of_three_times_the_limit(site: Site, clock: Clock) -> None:
    await site.init(max_uses=100)
    used: dict[int, int] = {}
    async with site.service(clock, SMALL) as (service, ring):
        for n in range(300):
            key = await reserve(service, ring, 1)
            used[key.id] = used.get(key.id, 0) + 1
            if n % 20 == 7:
                clock.now += 300  # an expired lease is renewed, not thrown away
    assert sorted(used.values()) == [100, 100, 100]
    assert [g[:2] for g in generations(site)] == [(1, "decrypt_only"), (2, "decrypt_only"), (3, "active")]


async def test_many_proxies_never_exceed_the_limit(site: Site, clock: Clock) -> None:
    await site.init(max_uses=100)
    used: dict[int, int] = {}

    async def proxy(statements: int) -> None:
        async with site.service(clock, SMALL) as (service, ring):
            for n in range(statements):
                uses = n % 7 + 1
                key = await reserve(service, ring, uses)
                used[key.id] = used.get(key.id, 0) + uses

    await asyncio.gather(*(proxy(60) for _ in range(5)))
    assert max(used.values()) <= 100
    assert sum(used.values()) == 5 * sum(n % 7 + 1 for n in range(60))
    states = [g[1] for g in generations(site)]
    assert states.count("active") == 1
    assert states[-1] == "active"


async def test_a_statement_that_wants_more_than_remains_gets_a_whole_new_key(site: Site, clock: Clock) -> None:
    await site.init(max_uses=100)
    async with site.service(clock, SMALL) as (service, ring):
        first = await reserve(service, ring, 60)
        second = await reserve(service, ring, 60)
        assert second.id != first.id
        third = await reserve(service, ring, 100)
        assert third.id not in {first.id, second.id}
        with pytest.raises(ProviderMisconfigured, match="max_uses"):
            await service.fetch(one(WriteKeyWant(SCOPE, 101)))
    assert all(int(str(used)) <= 100 for _, _, used in generations(site))


async def test_wants_of_one_scope_are_added(site: Site, clock: Clock) -> None:
    await site.init(max_uses=100)
    async with site.service(clock, SMALL) as (service, ring):
        await service.fetch(one(WriteKeyWant(SCOPE, 30), WriteKeyWant(SCOPE, 40)))
        assert ring.balance(SCOPE)[1] == 70


async def test_a_lower_limit_today_holds_for_yesterdays_key(site: Site, clock: Clock) -> None:
    await site.init(max_uses=1000)
    async with site.service(clock, SMALL) as (service, ring):
        keys = [(await reserve(service, ring, 1)).id for _ in range(150)]
    assert [keys.count(k) for k in dict.fromkeys(keys)] == [100, 50]


async def test_a_key_rolls_with_age(site: Site, clock: Clock) -> None:
    await site.init()
    await site.rewrite("UPDATE phiproxy.data_key SET created_at = created_at - interval '90 days'")
    async with site.service(clock) as (service, ring):
        await reserve(service, ring, 1)
    assert [g[:2] for g in generations(site)] == [(1, "decrypt_only"), (2, "active")]
    async with site.service(clock) as (service, ring):
        await reserve(service, ring, 1)
    assert len(generations(site)) == 2


async def test_rolled_keys_still_open(site: Site, clock: Clock) -> None:
    await site.init(max_uses=100)
    seal = make_sealer(SPEC)
    async with site.service(clock, SMALL) as (service, ring):
        values = [seal(b"%d" % n, draw_record(await reserve(service, ring, 100)), b"") for n in range(3)]
    async with site.service(clock, SMALL) as (service, ring):
        opener = make_opener(SPEC, ring, OpenMemo())
        assert [await opened(service, lambda v=v: opener(v)) for v in values] == [b"0", b"1", b"2"]  # type: ignore[misc]
        assert sum(service.watch.unwraps.values()) == 1


async def test_outage_reads_go_on_writes_stop_then_all_stops(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        noticed: list[DataKey] = []
        value = make_sealer(SPEC)(b"x", draw_record(await reserve(service, ring, 1)), b"")
        opener = make_opener(SPEC, ring, OpenMemo(), noticed.append)
        await service.fetch(one(IndexKeyWant(1, 0)))
        site.provider.fails = ProviderUnavailable
        clock.now += 299
        assert opener(value) == b"x"
        assert not any(k.stale for k in noticed)
        clock.now += 1
        assert await opened(service, lambda: opener(value)) == b"x"
        assert noticed[-1].stale
        await service.fetch(one(IndexKeyWant(1, 0)))
        assert ring.index_mac(1, 0)
        with pytest.raises(ProviderUnavailable):
            await reserve(service, ring, 1)
        clock.now += 600
        with pytest.raises(ProviderUnavailable):
            await opened(service, lambda: opener(value))
        site.provider.fails = None
        clock.now += 2
        assert await opened(service, lambda: opener(value)) == b"x"
        await reserve(service, ring, 1)


async def test_after_denied_nothing_is_served(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        key = await reserve(service, ring, 1)
        await service.fetch(one(IndexKeyWant(1, 0)))
        site.provider.fails = ProviderDenied
        clock.now += 300
        for want in (DataKeyWant(key.id), WriteKeyWant(SCOPE, 1), IndexKeyWant(1, 0)):
            with pytest.raises(ProviderDenied):
                await service.fetch(one(want))
            assert not ring.has(want)


async def test_the_registry_gone_is_unavailable(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        await reserve(service, ring, 1)
        site.run("ALTER SCHEMA phiproxy RENAME TO gone")
        ring.clear()
        with pytest.raises(ProviderMisconfigured, match="cannot be used"):
            await service.fetch(one(WriteKeyWant(SCOPE, 1)))


async def test_one_want_that_fails_does_not_take_the_others(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        with pytest.raises(ProviderMisconfigured):
            await service.fetch(one(IndexKeyWant(9, 9), WriteKeyWant(SCOPE, 1)))
        assert ring.has(WriteKeyWant(SCOPE, 1))


async def test_a_tenant_gets_its_own_keys_and_sees_no_others(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock, tenant="acme") as (acme, ring), site.service(clock, tenant="beta") as (beta, other):
        key = await reserve(acme, ring, 1)
        assert key.tenant == "acme"
        await asyncio.gather(*(s.fetch(one(IndexKeyWant(1, 0))) for s in (acme, beta)))
        assert len({r.index_mac(1, 0).copy().finalize() for r in (ring, other)}) == 2
        await beta.fetch(one(DataKeyWant(key.id)))
        with pytest.raises(SealError, match="of another tenant"):
            other.data_key_until(key.id)


async def test_adopt_forget_and_repr(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        await reserve(service, ring, 1)
        service.forget()
        assert not ring.has(WriteKeyWant(SCOPE, 1))
        await reserve(service, ring, 1)
        assert sum(service.watch.unwraps.values()) == 2
        service.adopt(Layout(DEPLOYMENT, 9, {}, {}))
        with pytest.raises(ProviderMisconfigured, match="deployment"):
            service.adopt(Layout("other", 9, {}, {}))
        with pytest.raises(ProviderMisconfigured, match="belongs to deployment"):
            KeyService(service._registry, site.provider, ring, Layout("other", 1, {}, {}), deployment="x", clock=clock)


async def test_an_expired_lease_is_renewed_without_taking_more(site: Site, clock: Clock) -> None:
    await site.init(max_uses=100)
    async with site.service(clock, SMALL) as (service, ring):
        key = await reserve(service, ring, 1)
        for _ in range(5):
            clock.now += 300
            assert (await reserve(service, ring, 1)).id == key.id
    assert generations(site) == [(1, "active", 10)]


async def test_with_a_real_key_file_that_moves(site: Site, clock: Clock, tmp_path: Path) -> None:
    def no_secrets(_reference: str) -> str:
        raise AssertionError("no secret is needed")

    uri = f"local:{tmp_path}/here/kek.json"
    assert await create_kek_file(uri, no_secrets)
    provider = await open_provider(uri, no_secrets)
    async with await site.connect() as conn:
        await init(conn, [MRN], DEPLOYMENT, provider)
        assert (await init(conn, [MRN], DEPLOYMENT, provider)).done == []
    assert site.run("SELECT DISTINCT kek_uri, kek_version FROM phiproxy.root_wrap") == [(uri, "1")]
    (tmp_path / "here").rename(tmp_path / "there")
    moved = await open_provider(f"local:{tmp_path}/there/kek.json", no_secrets)
    async with await site.connect() as conn:
        trust = Trust("phiproxy", await unlock(conn, "phiproxy", DEPLOYMENT, moved, None))
    async with site.registry(trust) as registry:
        ring, layout = Keyring(clock), await registry.layout()
        service = KeyService(registry, moved, ring, layout, deployment=DEPLOYMENT, clock=clock)
        value = make_sealer(SPEC)(b"MRN-1", draw_record(await reserve(service, ring, 1)), b"")
        assert make_opener(SPEC, ring, OpenMemo())(value) == b"MRN-1"
        assert await open_value(value, layout, registry, moved) == b"MRN-1"


async def test_what_expired_leaves_at_the_next_fetch_asked_for_or_not(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock) as (service, ring):
        await reserve(service, ring, 1)
        await service.fetch(one(IndexKeyWant(1, 0)))
        clock.now += 900
        await service.fetch(one(DataKeyWant(12345)))
        assert not ring._data
        assert not ring._index
        assert "secret" not in repr(ring._leases)
        assert ring._leases[SCOPE].key is None
        assert not service._roots.held()


async def test_a_root_in_use_is_renewed_before_its_time_and_nobody_waits(site: Site, clock: Clock) -> None:
    await site.init()
    limits = KeyLimits(CacheLimits(100, 200))
    async with site.service(clock, limits) as (service, ring):
        key = await reserve(service, ring, 5)
        await service.fetch(one(IndexKeyWant(1, 0), DataKeyWant(key.id)))
        ring.index_mac(1, 0)
        unwraps = sum(service.watch.unwraps.values())
        await service.refresh_ahead()
        assert sum(service.watch.unwraps.values()) == unwraps
        clock.now += 95
        site.provider.gate.clear()
        renewing = asyncio.ensure_future(service.refresh_ahead())
        await asyncio.sleep(0.05)
        assert ring.reserve(SCOPE, 1).id == key.id
        site.provider.gate.set()
        await renewing
        assert sum(service.watch.unwraps.values()) == unwraps + 2
        clock.now += 50
        assert ring.reserve(SCOPE, 1).id == key.id
        assert ring.data_key_until(key.id)[0].id == key.id
        ring.index_mac(1, 0)


async def test_a_root_that_nobody_uses_is_let_go(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock, KeyLimits(CacheLimits(100, 200))) as (service, ring):
        await service.fetch(one(IndexKeyWant(1, 0)))
        unwraps = sum(service.watch.unwraps.values())
        clock.now += 95
        await service.refresh_ahead()
        assert sum(service.watch.unwraps.values()) == unwraps
        clock.now += 10
        with pytest.raises(KeyNeeded):
            ring.index_mac(1, 0)


async def test_renewing_in_an_outage_changes_nothing_and_a_denial_ends_it(site: Site, clock: Clock) -> None:
    await site.init()
    async with site.service(clock, KeyLimits(CacheLimits(100, 200))) as (service, ring):
        key = await reserve(service, ring, 5)
        clock.now += 95
        site.provider.fails = ProviderUnavailable
        await service.refresh_ahead()
        assert ring.reserve(SCOPE, 1).id == key.id
        clock.now += 2
        site.provider.fails = ProviderDenied
        await service.refresh_ahead()
        with pytest.raises(KeyNeeded):
            ring.reserve(SCOPE, 1)


async def test_three_million_uses_make_three_generations(site: Site, clock: Clock) -> None:
    """One proxy, no crash, the real limit (spec/stored-format 3.3)."""
    await site.init()
    async with site.service(clock) as (service, ring):
        for _ in range(3_000_000 // 5000):
            await reserve(service, ring, 5000)
    assert generations(site) == [(1, "decrypt_only", 1_000_000), (2, "decrypt_only", 1_000_000), (3, "active", 1_000_000)]


async def test_the_kek_is_asked_once_for_each_root_that_a_million_values_touch(site: Site, clock: Clock) -> None:
    """Data and index root of one scope: two calls, counted at the provider, however many values and data keys there are."""
    await site.init()
    asked = len(site.provider.unwraps)
    async with site.service(clock) as (service, ring):
        for _ in range(1_000_000 // 5000):
            await reserve(service, ring, 5000)
            try:
                ring.index_mac(1, 0)
            except KeyNeeded as needed:
                await service.fetch(needed.wants)
    assert len(site.provider.unwraps) - asked == 2
