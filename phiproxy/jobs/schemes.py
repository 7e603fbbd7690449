"""What other schemes have encrypted, decoded in a job's own process: no passphrase or key of theirs goes to the server.

``pgcrypto:env:PASS``, ``fernet:env:KEY``, ``aes-gcm:hexkey@env:KEY``, ``aes-cbc:…`` and ``aes-ecb:…``. The last two say of a value
only that its padding is right, so what they give must be text, and of the column's type.
"""

import base64
import binascii
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

from phiproxy.errors import ConfigError, SealError
from phiproxy.jobs.openpgp import decrypt_symmetric

Decode = Callable[[str], str]
"""A stored value, as the server prints it, to the plain value as text; SealError for one that is none of the scheme."""

_SCHEME: Final = re.compile(r"(?P<kind>pgcrypto|fernet|aes-ecb|aes-cbc|aes-gcm):(?:hexkey@)?env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_IV: Final = {"aes-cbc": 16, "aes-gcm": 12, "aes-ecb": 0}
_TAG: Final = 16
UNAUTHENTICATED: Final = ("aes-ecb", "aes-cbc")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a value are: an IV before the ciphertext or none (of zeros), the tag behind or before; its spelling."""

    iv: bool = True
    tag_first: bool = False
    spelling: str = "base64"

    @classmethod
    def read(cls, text: str) -> "Layout":
        """Read ``iv,tag-last,base64``, in any order; ConfigError for another word."""
        layout: dict[str, object] = {}
        words: Mapping[str, tuple[str, object]] = {
            "iv": ("iv", True), "none": ("iv", False), "tag-last": ("tag_first", False), "tag-first": ("tag_first", True),
            "base64": ("spelling", "base64"), "hex": ("spelling", "hex"), "raw": ("spelling", "raw"),
        }  # fmt: skip
        for word in filter(None, text.split(",")):
            if word.strip() not in words:
                raise ConfigError(f"--layout {word}: it is made of iv or none, tag-last or tag-first, and base64, hex or raw")
            name, value = words[word.strip()]
            layout[name] = value
        return cls(**layout)  # type: ignore[arg-type]


def decoder(scheme: str, layout: str = "", pattern: str = "") -> Decode:
    """Return what decodes the values of a scheme; ConfigError for one that is none, or whose secret is not in the environment."""
    match = _SCHEME.fullmatch(scheme)
    if match is None:
        raise ConfigError("--from is pgcrypto:env:NAME, fernet:env:NAME, or aes-ecb, aes-cbc or aes-gcm:hexkey@env:NAME")
    secret = os.environ.get(match["name"])
    if not secret:
        raise ConfigError(f"--from {match['kind']}: the environment variable {match['name']} is not set")
    try:
        expression = re.compile(pattern) if pattern else None
    except re.error:
        raise ConfigError("--pattern is no regular expression") from None
    parts = Layout.read(layout)
    opens = _opener(match["kind"], secret, parts)

    def decode(stored: str) -> str:
        try:
            text = opens(_bytes(stored, parts.spelling)).decode("utf-8")
        except (ValueError, InvalidTag, InvalidToken, binascii.Error):
            raise SealError(f"it is no value of {match['kind']} under this key") from None
        if expression is not None and expression.fullmatch(text) is None:
            raise SealError("it does not match --pattern")
        return text

    return decode


def _bytes(stored: str, spelling: str) -> bytes:
    """Return the bytes of a value: of bytea, which is printed in hex, or of a text that spells them."""
    if stored.startswith("\\x"):
        data = bytes.fromhex(stored[2:])
        if spelling == "raw" or not _is_spelled(data):
            return data
        stored = data.decode("ascii")
    if spelling == "hex":
        return bytes.fromhex(stored)
    if spelling == "raw":
        return stored.encode("latin-1")
    return base64.b64decode(stored.replace("-", "+").replace("_", "/"), validate=True)


def _is_spelled(data: bytes) -> bool:
    return re.fullmatch(rb"[A-Za-z0-9+/_=-]+", data) is not None


def _opener(kind: str, secret: str, layout: Layout) -> Callable[[bytes], bytes]:
    if kind == "pgcrypto":
        return lambda data: _pgcrypto(data, secret)
    if kind == "fernet":
        try:
            fernet = Fernet(secret)
        except ValueError:
            raise ConfigError("--from fernet: the key is not one of Fernet's") from None
        return lambda data: fernet.decrypt(base64.urlsafe_b64encode(data))
    try:
        key = bytes.fromhex(secret)
        algorithms.AES(key)
    except ValueError:
        raise ConfigError(f"--from {kind}: the key is not one of AES in hex") from None
    return lambda data: _aes(kind, key, data, layout)


def _pgcrypto(data: bytes, secret: str) -> bytes:
    plain = decrypt_symmetric(data, secret.encode())
    try:
        decrypt_symmetric(data, secrets.token_bytes(16))
    except ValueError:
        return plain
    raise SealError("it opens under any passphrase: pgcrypto had not encrypted it (CVE-2026-14663)")


def _aes(kind: str, key: bytes, data: bytes, layout: Layout) -> bytes:
    size = _IV[kind] if layout.iv else 0
    iv, data = data[:size] or bytes(_IV[kind]), data[size:]
    if kind == "aes-gcm":
        if layout.tag_first:
            data = data[_TAG:] + data[:_TAG]
        return AESGCM(key).decrypt(iv, data, None)
    if not data:
        raise ValueError("no block")
    mode = modes.CBC(iv) if kind == "aes-cbc" else modes.ECB()  # noqa: S305 - it is what is to be replaced
    cipher = Cipher(algorithms.AES(key), mode).decryptor()
    unpadder = PKCS7(128).unpadder()
    return unpadder.update(cipher.update(data) + cipher.finalize()) + unpadder.finalize()
