"""Floor 6: the key registry and the key providers; may await, never imports net.

``policy.kek_schemes`` says which provider is a KEK URI's; its module, and with it any SDK, is imported when its scheme is used.
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
