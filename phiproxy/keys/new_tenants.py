"""Root keys of tenants that appear while the proxy runs; every root key is made by the function here."""

import hmac

from phiproxy.crypto.key_derivation import KEY_LENGTH
from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.provider import KeyProvider, NewKey, Purpose
from phiproxy.keys.registry import Registry
from phiproxy.keys.tenant_keks import Kek, kek_of


async def new_root_key(provider: KeyProvider, row: RootRow, deployment: str) -> NewKey:
    """Have the provider make a root key for this row, and unwrap it again before anything depends on it.

    Raises ProviderMisconfigured when what comes back is not what was wrapped, and whatever the provider raises.
    """
    context = row.context(deployment)
    new = await provider.new_key(context)
    if len(new.secret) != KEY_LENGTH or not hmac.compare_digest(
        await provider.unwrap(new.wrapped.blob, new.wrapped.version, context), new.secret
    ):
        raise ProviderMisconfigured("the key provider does not unwrap what it wrapped")
    return new


async def ensure_root(
    registry: Registry,
    kek: Kek,
    deployment: str,
    root_scope: tuple[str, str, Purpose],
    generation: int | None,
) -> RootRow:
    """Return the root of (scope, tenant, purpose) of this generation, or the active one; make it for a new tenant.

    Without tenants the roots are made by ``keys init`` only: one that is missing then is lost, and a new one in its
    place would hide that. Raises ProviderMisconfigured in that case.
    """
    scope, tenant, purpose = root_scope
    root = await registry.root_at(scope, tenant, purpose, generation)
    if root is not None:
        return root
    if not tenant:
        text = f"the registry has no {purpose} root key of {scope}"
        raise ProviderMisconfigured(text, hint="it is lost: see docs/restore-the-registry.md")
    provider = kek_of(kek, tenant)
    # An older generation of a tenant's index root comes second to the active one; ON CONFLICT decides who is which.
    for state in ("active", "decrypt_only"):
        row = RootRow(0, scope, tenant, purpose, generation or 1, state, ())
        await registry.add_root(row, provider.uri, (await new_root_key(provider, row, deployment)).wrapped)
        root = await registry.root_at(scope, tenant, purpose, generation)
        if root is not None:
            return root
    raise ProviderMisconfigured(f"the registry has no usable {purpose} root key of {scope}")
