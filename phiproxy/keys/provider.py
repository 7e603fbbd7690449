"""What a key provider is: it wraps and unwraps root keys under a KEK it never gives away; knows no registry and no data keys.

One scheme, one file of code beside this one. Errors are those of ``phiproxy.errors``: ProviderDenied (it answered no),
ProviderUnavailable (no answer), ProviderMisconfigured (it cannot be used like this).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from phiproxy.crypto.envelope import frame
from phiproxy.crypto.key_derivation import KEY_LENGTH

Purpose = Literal["data", "index", "audit", "registry"]
AUDIT_SCOPE: Final = "a:audit"
"""The scope of the one root key of purpose audit."""

SecretReader = Callable[[str], str]
"""Resolves ``env:NAME`` or ``file:/path`` to the secret; raises ConfigError, without the secret, when it cannot."""

WRAP_LABEL = b"phi/wrap/v1"


@dataclass(frozen=True, slots=True)
class Context:
    """What a wrapped root key is bound to: it unwraps under exactly this and nothing else (spec/stored-format 3.2)."""

    deployment: str
    scope: str
    tenant: str
    purpose: Purpose
    generation: int

    def encode(self) -> bytes:
        """Return ``frame("phi/wrap/v1", deployment, scope, tenant, purpose, generation in decimal)``."""
        named = (self.deployment, self.scope, self.tenant, self.purpose, str(self.generation))
        return frame(WRAP_LABEL, *(part.encode() for part in named))


class Wrapped(NamedTuple):
    """A root key under a KEK, and the version of the KEK that it is under."""

    blob: bytes
    version: str


class NewKey(NamedTuple):
    """A new root key in clear, and wrapped."""

    secret: bytes
    wrapped: Wrapped

    def __repr__(self) -> str:
        return "<new root key>"


class KeyProvider(Protocol):
    """A KEK somewhere else."""

    @property
    def uri(self) -> str:
        """The KEK as the registry names it: the configured URI without options and secrets."""

    @property
    def authenticates(self) -> bool:
        """Whether nobody can wrap who cannot use the KEK: not so where the half that wraps is public."""

    async def version(self) -> str:
        """Return the KEK version that ``wrap`` uses now, as the provider says it this moment."""

    async def new_key(self, context: Context) -> NewKey:
        """Make a 32-byte root key, where the provider can out of its own randomness, wrapped and bound to ``context``."""

    async def wrap(self, root: bytes, context: Context) -> Wrapped:
        """Wrap a 32-byte root key under the current KEK version, bound to ``context``."""

    async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
        """Return the 32-byte root key; ProviderDenied when the blob is not of this version and context."""

    async def rewrap(self, blob: bytes, version: str, context: Context) -> Wrapped:
        """Return the same root key under the current KEK version, where the provider can without showing it to us."""

    def covers(self, kek_uri: str) -> bool:
        """Say whether a wrap that names this KEK URI may be this provider's (a key file may have moved)."""

    async def close(self) -> None:
        """Let go of keys and connections."""


class NamedProvider:
    """What providers have in common: a URI without options, authenticated wraps, and that wraps of their scheme may be theirs."""

    authenticates: bool = True

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def covers(self, kek_uri: str) -> bool:
        """Say yes to every wrap of the scheme: files move and aliases change, and the wrap's version says which key it is under."""
        return kek_uri.startswith(f"{self.uri.partition(':')[0]}:")


class WrapsHere(NamedProvider):
    """``new_key`` and ``rewrap`` for a provider that has no call of its own for them."""

    async def new_key(self: KeyProvider, context: Context) -> NewKey:
        """Return a root key of the operating system's randomness, and its wrap."""
        secret = os.urandom(KEY_LENGTH)
        return NewKey(secret, await self.wrap(secret, context))

    async def rewrap(self: KeyProvider, blob: bytes, version: str, context: Context) -> Wrapped:
        """Unwrap and wrap."""
        return await self.wrap(await self.unwrap(blob, version, context), context)


class ProviderClass(Protocol):
    """How a provider is made from its URI; what a row of ``policy.kek_schemes`` names."""

    @classmethod
    async def open(cls, uri: str, secrets: SecretReader) -> KeyProvider:
        """Make the provider; ProviderMisconfigured when the URI or what it points to is not usable."""
