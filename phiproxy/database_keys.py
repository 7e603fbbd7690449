"""The keys of one database: their provider and limits by the configuration, and whether its KEKs open its root keys."""

from collections.abc import Iterable

import structlog

from phiproxy.keys import open_provider
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.key_service import KeyLimits
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.root_cache import CacheLimits
from phiproxy.keys.tenant_keks import Kek, TenantKeks
from phiproxy.keys.unwrap_check import as_error, decisive, first, unopened
from phiproxy.policy.kek_uris import absolute
from phiproxy.policy.model import Policy
from phiproxy.policy.setting_values import read_secret
from phiproxy.policy.settings import Settings

log = structlog.get_logger("phiproxy.database")


async def provider_of(settings: Settings) -> KeyProvider:
    """Open the key provider of a configuration; ProviderMisconfigured when it cannot be used."""
    return await open_provider(settings.kek_uri, read_secret)


def key_limits(settings: Settings) -> KeyLimits:
    """Return the limits of ``keys.cache`` and ``keys.rotation``."""
    cache, rotation = settings.keys.cache, settings.keys.rotation
    return KeyLimits(
        cache=CacheLimits(cache.ttl, cache.max_stale, cache.max_root_keys),
        max_age=rotation.data_key.max_age,
        root_max_age=rotation.root_key.max_age,
        max_uses=rotation.data_key.max_uses,
    )


async def keks_of(settings: Settings, policy: Policy, shared: KeyProvider) -> Kek:
    """Open the KEKs of tenants that have their own."""
    own = policy.tenant.keks if policy.tenant is not None else {}
    if not own:
        return shared
    opened = {name: await open_provider(absolute(uri, settings.directory), read_secret) for name, uri in own.items()}
    return TenantKeks(shared, opened)


async def see_that_it_opens(policy: Policy, kek: Kek, roots: Iterable[RootRow]) -> None:
    """Unwrap root keys through the KEK; ProviderError when one fails that the database needs to be served. Others are logged."""
    failed = await unopened(kek, policy.deployment, first(roots))
    if worst := decisive(failed, kek):
        raise as_error(worst, kek.uri)
    for each in failed:
        log.error("a root key does not open", database=policy.database, root=each.root.id, why=each.error.message)
