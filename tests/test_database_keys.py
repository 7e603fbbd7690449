"""The KEKs of a database: a tenant's own where it has one, else the shared one; limits as the configuration says."""

from __future__ import annotations

from pathlib import Path

import pytest

from phiproxy.database_keys import keks_of, key_limits, provider_of
from phiproxy.errors import ProviderError
from phiproxy.keys.tenant_keks import TenantKeks
from phiproxy.policy.model import TenantSource
from phiproxy.sql.policy_files import load_policies
from tests.harness.server import PostgresServer
from tests.net.serving import site_settings
from tests.served import changeable_site


async def test_a_tenant_has_the_kek_that_the_policy_names_and_all_others_the_shared_one(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with changeable_site(postgres_server, tmp_path) as site:
        settings = site_settings(site)
        (policy,) = load_policies(settings)
        shared = await provider_of(settings)
        assert await keks_of(settings, policy, shared) is shared
        tenant = TenantSource.model_validate({"from": "role", "keks": {"clinic": settings.kek_uri}})
        keks = await keks_of(settings, policy.model_copy(update={"tenant": tenant}), shared)
        assert isinstance(keks, TenantKeks)
        assert keks.own == {"clinic"}
        assert keks.of("elsewhere") is shared
        assert keks.of("clinic") is not shared
        await keks.close()
        missing = TenantSource.model_validate({"from": "role", "keks": {"clinic": "local:nowhere/kek"}})
        with pytest.raises(ProviderError):
            await keks_of(settings, policy.model_copy(update={"tenant": missing}), shared)


def test_limits_are_those_of_the_configuration(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with changeable_site(postgres_server, tmp_path) as site:
        settings = site_settings(site)
    limits = key_limits(settings)
    assert (limits.cache.ttl, limits.cache.max_stale) == (settings.keys.cache.ttl, settings.keys.cache.max_stale)
    assert (limits.max_uses, limits.max_age) == (settings.keys.rotation.data_key.max_uses, settings.keys.rotation.data_key.max_age)
