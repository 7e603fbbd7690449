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
    "rsa": "phiproxy.keys.rsa:RsaProvider",
    "awskms": "phiproxy.keys.awskms:AwsKmsProvider",
    "vault": "phiproxy.keys.vault:VaultProvider",
    "pkcs11": "phiproxy.keys.pkcs11:Pkcs11Provider",
}

# The extra of pyproject.toml that brings a scheme's SDK.
EXTRA_FOR_SCHEME = {"awskms": "aws", "vault": "vault", "pkcs11": "hsm"}


async def open_provider(uri: str, secrets: SecretReader) -> KeyProvider:
    """Return the provider of a KEK URI (config.md section 1).

    Raises ProviderMisconfigured when the scheme is unknown, its SDK is not installed, or the provider refuses the URI. The text
    never repeats the URI's options, where a PIN may stand.
    """
    scheme, colon, _ = uri.partition(":")
    place = PROVIDER_FOR_SCHEME.get(scheme) if colon else None
    if place is None:
        known = ", ".join(sorted(PROVIDER_FOR_SCHEME))
        raise ProviderMisconfigured(f"keys.kek names no known key provider scheme (known: {known})")
    module_name, _, class_name = place.partition(":")
    try:
        provider: type[ProviderClass] = getattr(import_module(module_name), class_name)
    except ModuleNotFoundError as missing:
        if scheme not in EXTRA_FOR_SCHEME or (missing.name or "").startswith("phiproxy"):
            raise
        extra = EXTRA_FOR_SCHEME[scheme]
        raise ProviderMisconfigured(
            f"{scheme}: needs {missing.name}, which is not installed", hint=f"pip install 'phiproxy[{extra}]'"
        ) from None
    return await provider.open(uri, secrets)
