"""RSA: ``rsa:public.pem[?private=PATH&passphrase=env:NAME&oaep=sha256]``; without ``private`` it wraps only (docs/keys/rsa.md).

The hash of the context, which is wrapped with the root key, is compared after unwrapping: so a wrap is bound to its context though
OAEP (RFC 8017 section 7.1) has no associated data (spec/stored-format 3.2). ``oaep=sha1`` is for tokens that know no other. A new
key pair in the same files is a new KEK version.
"""

import asyncio
import hmac
import stat
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from phiproxy.crypto.key_derivation import KEY_LENGTH
from phiproxy.errors import ProviderDenied, ProviderMisconfigured
from phiproxy.keys.parsed_kek_uri import KekUri, parse_kek_uri
from phiproxy.keys.provider import Context, SecretReader, Wrapped, WrapsHere

MIN_BITS: Final = 2048
_CONTEXT_LENGTH: Final = 32


def bound(root: bytes, context: Context) -> bytes:
    """Return what OAEP encrypts: the root key and the hash of its context."""
    return root + sha256(context.encode()).digest()


def unbound(plain: bytes, context: Context) -> bytes:
    """Return the root key; ProviderDenied when it was bound to another context."""
    root, digest = plain[:KEY_LENGTH], plain[KEY_LENGTH:]
    if len(plain) != KEY_LENGTH + _CONTEXT_LENGTH or not hmac.compare_digest(digest, sha256(context.encode()).digest()):
        raise ProviderDenied(f"a wrapped root key is not bound to {context.scope}")
    return root


def fingerprint(public: RSAPublicKey) -> str:
    """Return SHA-256 of the SubjectPublicKeyInfo, in hexadecimal."""
    return sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class RsaProvider(WrapsHere):
    """A key pair in files; without the private half it wraps and unwraps nothing.

    Read again when a version is asked for that it lacks; a pair that was read once goes on opening what is wrapped under it.
    """

    authenticates = False

    def __init__(self, uri: KekUri, public: RSAPublicKey, private: RSAPrivateKey | None, oaep: padding.OAEP) -> None:
        super().__init__(uri.name)
        self._parsed = uri
        self._public = public
        self._private = {} if private is None else {fingerprint(public): private}
        self._oaep = oaep

    @classmethod
    async def open(cls, uri: str, secrets: SecretReader) -> Self:
        """Read the keys; ProviderMisconfigured, naming the file, when one is not usable or they are not a pair."""
        parsed = parse_kek_uri(uri, secrets)
        oaep = padding_of(parsed.options.get("oaep", "sha256"))
        public, private = await asyncio.to_thread(_read_pair, parsed)
        return cls(parsed, public, private, oaep)

    async def version(self) -> str:
        """Return the fingerprint of the public key."""
        return fingerprint(self._public)

    async def wrap(self, root: bytes, context: Context) -> Wrapped:
        """Encrypt under the public key."""
        if len(root) != KEY_LENGTH:
            raise ValueError("a root key is not 32 bytes")
        return Wrapped(self._public.encrypt(bound(root, context), self._oaep), await self.version())

    async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
        """Decrypt with the private key; ProviderDenied for another key, padding or context, ProviderMisconfigured without it."""
        if not self._private:
            raise ProviderMisconfigured("keys.kek names no private key, so nothing can be unwrapped here")
        if version not in self._private:
            self._public, private = await asyncio.to_thread(_read_pair, self._parsed)
            if private is not None:
                self._private[fingerprint(self._public)] = private
        if version not in self._private:
            raise ProviderDenied("a root key is wrapped under another RSA key than the configured one")
        try:
            plain = await asyncio.to_thread(self._private[version].decrypt, blob, self._oaep)
        except ValueError:
            raise ProviderDenied(f"the RSA key does not open a root key of {context.scope}") from None
        return unbound(plain, context)

    async def close(self) -> None:
        """Forget the private keys."""
        self._private = {}


def padding_of(name: str) -> padding.OAEP:
    """Return OAEP with this hash for both uses; ProviderMisconfigured for another name."""
    if name not in ("sha256", "sha1"):
        raise ProviderMisconfigured("keys.kek: oaep is sha256 or sha1")
    algorithm = SHA256() if name == "sha256" else SHA1()  # noqa: S303 - OAEP does not rest on collision resistance
    return padding.OAEP(mgf=padding.MGF1(algorithm), algorithm=algorithm, label=None)


def _read_pair(uri: KekUri) -> tuple[RSAPublicKey, RSAPrivateKey | None]:
    public = _read_public(Path(uri.rest))
    if "private" not in uri.options:
        if "passphrase" in uri.options:
            raise uri.misused()
        return public, None
    private = _read_private(Path(uri.options["private"]), uri.secret("passphrase"))
    if private.public_key() != public:
        raise ProviderMisconfigured(f"{uri.rest}: the private key is not that of this public key")
    return public, private


def _read_public(path: Path) -> RSAPublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise ProviderMisconfigured(f"{path}: {error.strerror}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ProviderMisconfigured(f"{path} is not a PEM public key") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_BITS:
        raise ProviderMisconfigured(f"{path} is not an RSA key of at least {MIN_BITS} bits")
    return key


def _read_private(path: Path, passphrase: str | None) -> RSAPrivateKey:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ProviderMisconfigured(f"{path} may be read by others: chmod 600 it")
        key = load_pem_private_key(path.read_bytes(), None if passphrase is None else passphrase.encode())
    except OSError as error:
        raise ProviderMisconfigured(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ProviderMisconfigured(f"{path} is not a PEM private key, or not of this passphrase") from None
    if not isinstance(key, RSAPrivateKey):
        raise ProviderMisconfigured(f"{path} is not an RSA key")
    return key
