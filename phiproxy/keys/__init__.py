"""Floor 6: where keys come from; may await, never meets net.

One table maps a KEK URI's scheme to its provider; a provider's module, and with it any SDK, is imported when its
scheme is used.
"""

from __future__ import annotations

from importlib import import_module

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys.provider import KeyProvider, ProviderClass, SecretReader

PROVIDER_FOR_SCHEME = {
    "local": "phiproxy.keys.local:LocalProvider",
}

PLANNED_SCHEMES = frozenset({"awskms", "vault", "pkcs11", "rsa"})


async def open_provider(uri: str, secrets: SecretReader) -> KeyProvider:
    """Return the provider of a KEK URI (config.md section 1).

    Raises ProviderMisconfigured when the scheme is unknown or not in this version, or the provider refuses the URI. The
    text never repeats the URI's options, where a PIN may stand.
    """
    scheme, colon, _ = uri.partition(":")
    place = PROVIDER_FOR_SCHEME.get(scheme) if colon else None
    if place is None:
        if colon and scheme in PLANNED_SCHEMES:
            raise ProviderMisconfigured(f"key provider scheme {scheme} is not in this version")
        known = ", ".join(sorted(PROVIDER_FOR_SCHEME))
        raise ProviderMisconfigured(f"keys.kek names no known key provider scheme (known: {known})")
    module_name, _, class_name = place.partition(":")
    provider: type[ProviderClass] = getattr(import_module(module_name), class_name)
    return await provider.open(uri, secrets)
