"""Which KEK a root key is under: the deployment's, or its tenant's own."""

from collections.abc import Mapping

from phiproxy.keys.provider import KeyProvider


class TenantKeks:
    """The KEKs of tenants that have their own, and the one of all others, in place of a provider (``kek_of``).

    ``uri`` is the deployment's KEK as the registry names it, ``own`` are the tenants that have one of their own.
    """

    def __init__(self, shared: KeyProvider, own: Mapping[str, KeyProvider]) -> None:
        self._shared = shared
        self._by_tenant = dict(own)
        self.uri = shared.uri
        self.own = frozenset(own)

    def of(self, tenant: str) -> KeyProvider:
        """Return the KEK that a tenant's root keys are under."""
        return self._by_tenant.get(tenant, self._shared)

    async def close(self) -> None:
        """Close them all."""
        for provider in (self._shared, *self._by_tenant.values()):
            await provider.close()


Kek = KeyProvider | TenantKeks
"""The KEK of a deployment: one, or one for each tenant that has its own."""


def kek_of(kek: Kek, tenant: str) -> KeyProvider:
    """Return the KEK of one tenant's root keys."""
    return kek.of(tenant) if isinstance(kek, TenantKeks) else kek
