"""The embedded provider: KEKs in a file, each in clear or sealed by a passphrase (spec/stored-format 3.2 and 3.4).

The version is part of what a sealed key is bound to, so that it cannot stand under another version's number.
"""

import asyncio
import os
from pathlib import Path
from typing import Final, Self

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.crypto.envelope import GCM_TAG_LENGTH, NONCE_LENGTH, frame
from phiproxy.crypto.key_derivation import KEY_LENGTH
from phiproxy.errors import ProviderDenied, ProviderMisconfigured
from phiproxy.keys.kek_file import Argon2Cost, KekFile, SealedKek, add, create, read
from phiproxy.keys.parsed_kek_uri import parse_kek_uri
from phiproxy.keys.provider import Context, SecretReader, Wrapped, WrapsHere

KEK_LABEL: Final = b"phi/kek/v1"
WRAPPED_LENGTH: Final = NONCE_LENGTH + KEY_LENGTH + GCM_TAG_LENGTH


class LocalProvider(WrapsHere):
    """``local:PATH[?passphrase=env:NAME]``. Reads the file again when a version is asked for that it did not have."""

    def __init__(self, path: Path, content: KekFile, passphrase: bytes | None) -> None:
        super().__init__(f"local:{path}")
        self._path = path
        self._content = content
        self._passphrase = passphrase
        self._opened: dict[int, AESGCM] = {}
        self._opening = asyncio.Lock()

    @classmethod
    async def open(cls, uri: str, secrets: SecretReader) -> Self:
        """Read the KEK file and open its current key.

        Raises ProviderMisconfigured, naming the file, when the URI, the file, its owner or mode, or the passphrase is
        not right; ConfigError from ``secrets`` when the passphrase cannot be read.
        """
        path, passphrase = _parse(uri, secrets)
        content = await asyncio.to_thread(read, path)
        provider = cls(path, content, passphrase)
        await provider._kek(content.current)
        return provider

    async def version(self) -> str:
        """Return the number of the file's current key, in decimal; the file is read again for it."""
        await self._read_again()
        return str(self._content.current)

    async def wrap(self, root: bytes, context: Context) -> Wrapped:
        """Wrap a 32-byte root key: 60 bytes. ValueError for another length."""
        if len(root) != KEY_LENGTH:
            raise ValueError("a root key is not 32 bytes")
        kek = await self._kek(self._content.current)
        nonce = os.urandom(NONCE_LENGTH)
        return Wrapped(nonce + kek.encrypt(nonce, root, context.encode()), str(self._content.current))

    async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
        """Return the 32-byte root key; ProviderDenied for another KEK, version or context, or a changed blob."""
        number = int(version) if version.isascii() and version.isdigit() else 0
        if number not in self._content.keys and number:
            await self._read_again()
        if number not in self._content.keys:
            raise ProviderDenied(f"{self._path} holds no key of the version that a root key is wrapped under")
        if len(blob) != WRAPPED_LENGTH:
            raise ProviderDenied("a wrapped root key in the registry does not have the length of a local wrap")
        kek = await self._kek(number)
        try:
            return kek.decrypt(blob[:NONCE_LENGTH], blob[NONCE_LENGTH:], context.encode())
        except InvalidTag:
            raise ProviderDenied(f"key {number} of {self._path} does not open a root key of {context.scope}") from None

    async def _read_again(self) -> None:
        """Take what was added to the file. A version that is known stays as it is: a file put in its place is another KEK."""
        content = await asyncio.to_thread(read, self._path)
        if all(content.keys.get(n, entry) == entry for n, entry in self._content.keys.items()):
            self._content = content

    async def close(self) -> None:
        """Forget the keys."""
        self._opened.clear()
        self._passphrase = None

    async def _kek(self, number: int) -> AESGCM:
        """Return the cipher of one KEK; Argon2id runs once per key and on a thread."""
        async with self._opening:
            if number not in self._opened:
                entry = self._content.keys[number]
                if isinstance(entry, SealedKek):
                    if self._passphrase is None:
                        raise ProviderMisconfigured(f"{self._path} is sealed, and keys.kek names no passphrase")
                    key = await asyncio.to_thread(_unseal, self._path, number, entry, self._passphrase)
                elif self._passphrase is not None:
                    # Whoever can put a file of their own there must not get by without the passphrase.
                    raise ProviderMisconfigured(f"{self._path} is not sealed, but keys.kek names a passphrase")
                else:
                    key = entry.key
                self._opened[number] = AESGCM(key)
            return self._opened[number]


async def create_kek_file(uri: str, secrets: SecretReader) -> bool:
    """Make the KEK file of a ``local:`` URI with one new key, sealed when the URI names a passphrase.

    Returns False, and changes nothing, when there is a file already. Raises ProviderMisconfigured when it cannot be
    written, ConfigError from ``secrets``.
    """
    path, passphrase = _parse(uri, secrets)
    if passphrase is None:
        return await asyncio.to_thread(create, path, os.urandom(KEY_LENGTH))
    if await asyncio.to_thread(path.exists):
        return False
    sealed = await asyncio.to_thread(_seal, 1, os.urandom(KEY_LENGTH), passphrase)
    return await asyncio.to_thread(create, path, sealed)


async def add_kek(uri: str, secrets: SecretReader) -> int:
    """Add a new key to the KEK file of a ``local:`` URI, and return its version: new wraps are under it from now on.

    Raises ProviderMisconfigured when the file cannot be used or changed, ConfigError from ``secrets``.
    """
    path, passphrase = _parse(uri, secrets)
    await LocalProvider.open(uri, secrets)  # a passphrase that does not open the current key must not seal the next
    while True:
        seen = await asyncio.to_thread(read, path)
        key: bytes | SealedKek = os.urandom(KEY_LENGTH)
        if passphrase is not None:
            assert isinstance(key, bytes)
            key = await asyncio.to_thread(_seal, max(seen.keys) + 1, key, passphrase)
        version = await asyncio.to_thread(add, path, seen, key)
        if version is not None:
            return version


def _parse(uri: str, secrets: SecretReader) -> tuple[Path, bytes | None]:
    """Split ``local:PATH[?passphrase=REF]`` and read the passphrase."""
    parsed = parse_kek_uri(uri, secrets)
    passphrase = parsed.secret("passphrase")
    if passphrase == "":
        raise ProviderMisconfigured(f"the passphrase of {parsed.rest} is empty")
    return Path(parsed.rest), None if passphrase is None else passphrase.encode()


def _sealing_key(passphrase: bytes, cost: Argon2Cost) -> bytes:
    """Argon2id (RFC 9106), 32 bytes."""
    return hash_secret_raw(passphrase, cost.salt, cost.t, cost.m, cost.p, KEY_LENGTH, Type.ID)


def _seal(number: int, kek: bytes, passphrase: bytes) -> SealedKek:
    cost = Argon2Cost(os.urandom(16))
    nonce = os.urandom(NONCE_LENGTH)
    sealed = AESGCM(_sealing_key(passphrase, cost)).encrypt(nonce, kek, frame(KEK_LABEL, b"%d" % number))
    return SealedKek(nonce + sealed, cost)


def _unseal(path: Path, number: int, entry: SealedKek, passphrase: bytes) -> bytes:
    cipher = AESGCM(_sealing_key(passphrase, entry.cost))
    sealed = entry.sealed
    try:
        return cipher.decrypt(sealed[:NONCE_LENGTH], sealed[NONCE_LENGTH:], frame(KEK_LABEL, b"%d" % number))
    except InvalidTag:
        raise ProviderMisconfigured(f"{path}: the passphrase does not open key {number}") from None
