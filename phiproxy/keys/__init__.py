"""Floor 6: the key registry and the key providers; may await, never imports net.

``policy.kek_schemes`` says which provider is a KEK URI's; its module, and with it any SDK, is imported when its scheme is used.

The registry in the database, and what authenticates it:
    registry, registry_locks, registry_schema, key_rows, layout_rows, authenticated_tables, manifest, anchoring,
    registry_checked_on_read, open_registry, counter_file, accept_rollback, registry_import, inventory, events, registered_collation

Making keys, and a key's life:
    lifecycle, identities, slots, slot_activation, rotation, rewrap, key_state_changes, compromise_retire, new_tenants,
    tenant_keks
When a key is due for rotation is seen in ``key_service``, not in ``rotation``, which carries it out.

Keys while the proxy runs:
    key_service, root_cache, resolve_data_key, unwrap_check, unwrap_outcomes, serving_proxies

What else proxies tell each other there:
    holds, clear_columns, job_counts, observations
What no count sees:
    older_transactions

Key providers:
    provider, parsed_kek_uri, remote, fips, local, kek_file, awskms, vault, vault_login, pkcs11, rsa
"""

from importlib import import_module

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.provider import KeyProvider, ProviderClass, SecretReader
from phiproxy.policy.kek_schemes import KEK_SCHEMES


async def open_provider(uri: str, secrets: SecretReader) -> KeyProvider:
    """Return the provider of a KEK URI (spec/configuration 2).

    Raises ProviderMisconfigured when the scheme is unknown, its SDK is not installed, or the provider refuses the URI. The text
    never repeats the URI's options, where a PIN may stand.
    """
    scheme, colon, _ = uri.partition(":")
    kind = KEK_SCHEMES.get(scheme) if colon else None
    if kind is None:
        raise ProviderMisconfigured(f"keys.kek names no known key provider scheme (known: {', '.join(sorted(KEK_SCHEMES))})")
    module_name, _, class_name = kind.provider.partition(":")
    try:
        provider: type[ProviderClass] = getattr(import_module(module_name), class_name)
    except ModuleNotFoundError as missing:
        if kind.extra is None or (missing.name or "").startswith("phiproxy"):
            raise
        raise ProviderMisconfigured(
            f"{scheme}: needs {missing.name}, which is not installed", hint=f"pip install 'phiproxy[{kind.extra}]'"
        ) from None
    return await provider.open(uri, secrets)
