"""Vault's transit engine: real AES-256-GCM, key versions, derivation, min_decryption_version; answers as the recorded one."""

from __future__ import annotations

import binascii
import hmac
import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

CREATED = 1795529979
_CIPHERTEXT = re.compile(r"vault:v(\d+):(.*)")


class Refused(Exception):
    """A 4xx answer."""

    def __init__(self, text: str | None, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
        self.errors = None if text is None else [text]


@dataclass
class Key:
    """One named key: its versions from 1."""

    name: str
    derived: bool = False
    exportable: bool = False
    versions: dict[int, bytes] = field(default_factory=lambda: {1: os.urandom(32)})
    min_decryption: int = 1
    hmac_keys: dict[int, bytes] = field(default_factory=dict)

    @property
    def latest(self) -> int:
        return max(self.versions)

    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "allow_plaintext_backup": False,
            "auto_rotate_period": 0,
            "deletion_allowed": False,
            "derived": self.derived,
            "exportable": self.exportable,
            "imported_key": False,
            "keys": {str(v): CREATED for v in self.versions if v >= self.min_decryption},
            "latest_version": self.latest,
            "min_available_version": 0,
            "min_decryption_version": self.min_decryption,
            "min_encryption_version": 0,
            "name": self.name,
            "soft_deleted": False,
            "supports_decryption": True,
            "supports_derivation": True,
            "supports_encryption": True,
            "supports_signing": False,
            "type": "aes256-gcm96",
        }
        return {**found, "convergent_encryption": False, "kdf": "hkdf_sha256"} if self.derived else found

    def cipher(self, version: int, request: dict[str, Any]) -> AESGCM:
        secret = self.versions[version]
        if not self.derived:
            return AESGCM(secret)
        context = _decoded(request.get("context", ""))
        if not context:
            raise Refused("missing 'context' for key derivation; the key was created using a derived key, which means additional, "
                          "per-request information must be included in order to perform operations with the key")  # fmt: skip
        return AESGCM(HKDF(SHA256(), 32, None, context).derive(secret))


class Transit:
    """The engine: ``handle(method, path below the mount, request)`` returns the answer's ``data``, or None for 204."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}

    def handle(self, method: str, path: str, request: dict[str, Any]) -> dict[str, Any] | None:
        what, *names = path.split("/")
        if what == "keys":
            return self._keys(method, names, request)
        if what == "export":
            return self._export(names)
        handler = getattr(self, f"_{what}", None)
        if handler is None or method != "POST":
            raise Refused("unsupported path", 404)
        result: dict[str, Any] = handler(names, request)
        return result

    def _keys(self, method: str, names: list[str], request: dict[str, Any]) -> dict[str, Any] | None:
        if method == "LIST":
            return {"keys": sorted(self.keys)}
        name = names[0]
        if method == "POST" and len(names) == 1:
            key = self.keys.setdefault(name, Key(name, request.get("derived", False), request.get("exportable", False)))
            return key.described()
        if name not in self.keys:
            raise Refused(None, 404)
        key = self.keys[name]
        if method == "DELETE":
            raise Refused(f"error deleting policy {name}: deletion is not allowed for this key")
        if names[1:] == ["rotate"]:
            key.versions[key.latest + 1] = os.urandom(32)
        if names[1:] == ["config"]:
            key.min_decryption = int(request.get("min_decryption_version", key.min_decryption))
        return key.described()

    def _export(self, names: list[str]) -> dict[str, Any]:
        _, name, version = names
        key = self.keys[name]
        return {"keys": {version: _encoded(key.versions[int(version)])}, "name": name, "type": "aes256-gcm96"}

    def _encrypt(self, names: list[str], request: dict[str, Any]) -> dict[str, Any]:
        key = self.keys.setdefault(names[0], Key(names[0]))
        return self._sealed(key, _decoded(request.get("plaintext", "")), request, int(request.get("key_version", 0)) or key.latest)

    def _sealed(self, key: Key, plain: bytes, request: dict[str, Any], version: int) -> dict[str, Any]:
        nonce = os.urandom(12)
        sealed = key.cipher(version, request).encrypt(nonce, plain, _decoded(request.get("associated_data", "")))
        return {"ciphertext": f"vault:v{version}:{_encoded(nonce + sealed)}", "key_version": version}

    def _known(self, name: str) -> Key:
        if name not in self.keys:
            raise Refused("encryption key not found")
        return self.keys[name]

    def _decrypt(self, names: list[str], request: dict[str, Any]) -> dict[str, Any]:
        return {"plaintext": _encoded(self._opened(self._known(names[0]), request))}

    def _opened(self, key: Key, request: dict[str, Any]) -> bytes:
        ciphertext = request.get("ciphertext", "")
        if not ciphertext:
            raise Refused("missing ciphertext to decrypt")
        if not ciphertext.startswith("vault:v"):
            raise Refused("invalid ciphertext: no prefix")
        found = _CIPHERTEXT.fullmatch(ciphertext)
        if found is None:
            raise Refused("invalid ciphertext: wrong number of fields")
        version, blob = int(found[1]), _decoded(found[2])
        if version > key.latest:
            raise Refused("invalid ciphertext: version is too new")
        if version < key.min_decryption:
            raise Refused("ciphertext or signature version is disallowed by policy (too old)")
        try:
            return key.cipher(version, request).decrypt(blob[:12], blob[12:], _decoded(request.get("associated_data", "")))
        except (InvalidTag, ValueError):
            raise Refused("cipher: message authentication failed") from None

    def _rewrap(self, names: list[str], request: dict[str, Any]) -> dict[str, Any]:
        key = self._known(names[0])
        without = {k: v for k, v in request.items() if k != "associated_data"}  # the engine ignores it here
        return self._sealed(key, self._opened(key, without), without, key.latest)

    def _datakey(self, names: list[str], request: dict[str, Any]) -> dict[str, Any]:
        shown, name = names
        bits = request.get("bits", 256)
        if bits not in (128, 256, 512):
            raise Refused("invalid bit length")
        plain = os.urandom(bits // 8)
        without = {k: v for k, v in request.items() if k != "associated_data"}
        key = self._known(name)
        found = self._sealed(key, plain, without, key.latest)
        return {**found, "plaintext": _encoded(plain)} if shown == "plaintext" else found

    def _hmac(self, names: list[str], request: dict[str, Any]) -> dict[str, Any]:
        key = self._known(names[0])
        secret = key.hmac_keys.setdefault(key.latest, os.urandom(32))
        digest = hmac.new(secret, _decoded(request["input"]), sha256).digest()
        return {"hmac": f"vault:v{key.latest}:{_encoded(digest)}"}


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        wrong = re.search(r"[^A-Za-z0-9+/=]", text)
        raise Refused(f"illegal base64 data at input byte {wrong.start() if wrong else len(text)}") from None


def _encoded(data: bytes) -> str:
    return b64encode(data).decode()
