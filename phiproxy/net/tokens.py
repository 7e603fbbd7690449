"""Signed tokens of end users (RFC 7519): who one is of, and in which roles, where its signature is by a key of the policy's JWKS.

Only signatures by a private key count: whoever could verify a symmetric one could make it. No text of a token is in an error.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.policy.access_model import Tokens

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
MAX_TOKEN: Final = 16 * 1024


class TokenRefused(PhiproxyError, sqlstate="28000", anchor="err-masked"):
    """What is said to be the end user's token is none that can be believed (28000)."""


class Verified(NamedTuple):
    """Whom a token is of, the names of the roles in it, and for how many seconds it is valid."""

    name: str
    roles: tuple[str, ...]
    seconds: float


class TokenVerifier:
    """Verifies tokens by the public keys of one file, as they were when it was read."""

    def __init__(self, tokens: Tokens, keys: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._keys = dict(keys)

    @classmethod
    def read(cls, tokens: Tokens, at: str) -> TokenVerifier:
        """Read the JWKS; ConfigError, which begins with ``at``, where it cannot be read, or PyJWT is not installed."""
        try:
            import jwt  # noqa: PLC0415 - only of the extra
        except ModuleNotFoundError:
            raise ConfigError(f"{at}: tokens need PyJWT", hint="pip install 'phiproxy[jwt]'") from None
        try:
            text = tokens.jwks.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{at}: {tokens.jwks}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
        try:
            keys = jwt.PyJWKSet.from_json(text).keys
        except (jwt.PyJWTError, ValueError, AttributeError, TypeError):
            raise ConfigError(f"{at}: {tokens.jwks} is no JWKS (RFC 7517) with keys that are known") from None
        usable = [key for key in keys if key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig")]
        if len(usable) != len(keys):
            raise ConfigError(f"{at}: {tokens.jwks} has keys that verify no {', '.join(ALGORITHMS)}")
        names = [key.key_id or "" for key in usable]
        if len(set(names)) != len(names):
            raise ConfigError(f"{at}: {tokens.jwks} has two keys of one kid")
        return cls(tokens, dict(zip(names, usable, strict=True)))

    def verify(self, text: str) -> Verified:
        """Return whom a token is of; TokenRefused."""
        import jwt  # noqa: PLC0415 - as above

        wanted = self._tokens
        if len(text) > MAX_TOKEN:
            raise _refused("it is too long")
        try:
            key = self._key(jwt.get_unverified_header(text).get("kid"))
            options: Any = {"require": ["exp", "aud"], "strict_aud": False}
            claims = jwt.decode(
                text, key, algorithms=[key.algorithm_name], audience=wanted.audience, issuer=wanted.issuer, options=options
            )
        except jwt.ExpiredSignatureError:
            raise _refused("it has expired") from None
        except jwt.PyJWTError as error:
            raise _refused(_WHY.get(type(error).__name__, "it does not verify")) from None
        name, roles = _claim(claims, wanted.claim), _claim(claims, wanted.roles) if wanted.roles is not None else ()
        if not isinstance(name, str) or not name:
            raise _refused(f"its claim {wanted.claim} is no name")
        roles = [roles] if isinstance(roles, str) else roles
        if not isinstance(roles, list | tuple) or not all(isinstance(role, str) for role in roles):
            raise _refused(f"its claim {wanted.roles} is no list of roles")
        return Verified(name, tuple(roles), claims["exp"] - time.time())

    def _key(self, name: object) -> Any:
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        key = self._keys.get(name) if isinstance(name, str) else None
        if key is None:
            raise _refused("the policy has no key of its kid")
        return key


_WHY: Final = {
    "ImmatureSignatureError": "it is not valid yet",
    "InvalidAudienceError": "it is for another audience",
    "InvalidIssuerError": "it is by another issuer",
    "MissingRequiredClaimError": "it lacks exp or aud",
    "InvalidAlgorithmError": "it is signed by another algorithm than its key is for",
}


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, or by a path of names with dots: ``realm_access.roles``; an absent one is an empty list."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return () if value is None else value


def _refused(why: str) -> TokenRefused:
    hint = "SET phiproxy.end_user to a token of now, as access.tokens of the policy says."
    return TokenRefused(f"the end user's token is refused: {why}", hint=hint)
