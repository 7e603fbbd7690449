"""Which KEK a root key is under: the deployment's, or its tenant's own."""

from __future__ import annotations

from collections.abc import Mapping

from phiproxy.keys.provider import KeyProvider


class TenantKeks:
    """The KEKs of tenants that have their own, and the one of all others. Takes the place of a provider; see ``kek_of``."""

    def __init__(self, shared: KeyProvider, own: Mapping[str, KeyProvider]) -> None:
        self._shared = shared
        self._own = dict(own)

    def __repr__(self) -> str:
        return f"<TenantKeks: {len(self._own)} besides {self._shared!r}>"

    @property
    def uri(self) -> str:
        """The deployment's KEK as the registry names it."""
        return self._shared.uri

    @property
    def own(self) -> frozenset[str]:
        """The tenants that have one of their own."""
        return frozenset(self._own)

    def of(self, tenant: str) -> KeyProvider:
        """Return the KEK that a tenant's root keys are under."""
        return self._own.get(tenant, self._shared)

    async def close(self) -> None:
        """Close them all."""
        for provider in (self._shared, *self._own.values()):
            await provider.close()


Kek = KeyProvider | TenantKeks
"""The KEK of a deployment: one, or one for each tenant that has its own."""


def kek_of(kek: Kek, tenant: str) -> KeyProvider:
    """Return the KEK of one tenant's root keys."""
    return kek.of(tenant) if isinstance(kek, TenantKeks) else kek
