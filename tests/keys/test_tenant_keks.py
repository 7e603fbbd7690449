"""A tenant's own KEK: its root keys are under it and no other, and everybody else's are not."""

from __future__ import annotations

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import IndexKeyWant, ProviderDenied, WriteKeyWant
from phiproxy.keys.key_service import KeyService
from phiproxy.keys.rewrap import rewrap
from phiproxy.keys.tenant_keks import TenantKeks, kek_of
from tests.keys.fakes import DEPLOYMENT, Clock, FakeProvider, Site


def test_each_tenant_has_its_own_or_the_one_of_all() -> None:
    shared, own = FakeProvider(), FakeProvider("fake:acme")
    keks = TenantKeks(shared, {"acme": own})
    assert kek_of(keks, "acme") is own
    assert kek_of(keks, "") is kek_of(keks, "other") is shared
    assert kek_of(own, "other") is own


async def test_root_keys_of_a_tenant_are_under_its_kek(site: Site, clock: Clock) -> None:
    await site.init()
    own = FakeProvider("fake:acme")
    keks = TenantKeks(site.provider, {"acme": own})
    async with site.registry() as registry:
        layout = await registry.layout()
        for tenant in ("acme", "other"):
            service = KeyService(registry, keks, Keyring(clock), layout, deployment=DEPLOYMENT, clock=clock, tenant=tenant)
            await service.fetch(frozenset({WriteKeyWant("d:mrn", 1), IndexKeyWant(1, 0)}))
        wraps = site.run(
            "SELECT DISTINCT r.tenant, w.kek_uri FROM phiproxy.root_key r JOIN phiproxy.root_wrap w ON w.root_id = r.id ORDER BY 1"
        )
        assert wraps == [("", "fake:kek"), ("acme", "fake:acme"), ("other", "fake:kek")]
        own.turn_over()
        done = await rewrap(registry, keks, DEPLOYMENT)
        assert len(done.added) == 2
        own.fails = ProviderDenied
        service = KeyService(registry, keks, Keyring(clock), layout, deployment=DEPLOYMENT, clock=clock, tenant="acme")
        with pytest.raises(ProviderDenied):
            await service.fetch(frozenset({WriteKeyWant("d:mrn", 1)}))
