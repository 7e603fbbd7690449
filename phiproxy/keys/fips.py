"""``keys.fips: required``: nothing starts unless both OpenSSLs of the process run a FIPS provider and the KEK is approved.

Two, because ``cryptography`` brings an OpenSSL of its own (its wheels are no FIPS module: build it against the system's, or take
the distribution's package) while ``ssl`` and ``hashlib`` use the interpreter's. A library that says that it is in FIPS mode is not
believed: it must do AES-256-GCM and must refuse an algorithm that is not approved, since a module that could not be loaded
leaves the mode set. What this does not say: that the module's certificate is valid, and that the machine is an approved
environment. FIPS 140-3; SP 800-140C; OpenSSL fips_module(7).
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.bindings._rust import openssl as bundled
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from phiproxy.errors import ConfigError

ALGORITHMS: Final[Mapping[str, str | None]] = {
    "AESGCM": "SP 800-38D, with 256-bit keys: envelopes (suite 1), wraps of a local KEK",
    "AES256": "FIPS 197: envelopes of long values, in pieces",
    "GCM": "SP 800-38D: envelopes of long values, in pieces",
    "aes_key_wrap": "SP 800-38F: data keys under their root key",
    "aes_key_unwrap": "SP 800-38F",
    "HKDFExpand": "SP 800-56C, SP 800-108: record, index and registry keys",
    "HMAC": "FIPS 198-1: tags, registry rows",
    "hmac": "FIPS 198-1: SCRAM-SHA-256",
    "SHA256": "FIPS 180-4",
    "sha256": "FIPS 180-4",
    "padding": "SP 800-56B: OAEP",
    "RSAPublicKey": "SP 800-56B: 2048 bits or more",
    "RSAPrivateKey": "SP 800-56B",
    "SHA1": None,  # oaep=sha1
    "hash_secret_raw": None,  # Argon2id: a local KEK under a passphrase
    "ChaCha20Poly1305": None,  # only to see that it is refused
    "blake2b": None,  # only to tell one version of the configuration from another: no security rests on it
}
"""What this package calls, by the name that it is imported by, and what approves it (None: nothing does)."""

KEK_SCHEMES: Final[Mapping[str, str]] = {
    "local": "AES-256-GCM",
    "rsa": "RSA-OAEP with SHA-256",
    "pkcs11": "AES-256-GCM or RSA-OAEP with SHA-256, in the token",
    "awskms": "AES-256-GCM, in AWS KMS",
    "vault": "AES-256-GCM, in Vault",
}
_APPROVED_OPTIONS: Final[Mapping[str, str]] = {"oaep": "sha256"}

# SP 800-52 Rev. 2, 3.3.1 without key transport by RSA, which SP 800-131A Rev. 2 has ended.
_SUITE = re.compile(
    r"TLS_AES_(?:128|256)_(?:GCM|CCM|CCM_8)_SHA(?:256|384)"
    r"|(?:ECDHE|DHE)-(?:ECDSA|RSA)-AES(?:128|256)-(?:(?:GCM-)?SHA(?:256|384)?|CCM8?)"
)


def require_fips(*keks: str, suites: Iterable[str] = ()) -> None:
    """Raise ConfigError, a line for each reason, unless FIPS mode holds and KEK URIs and TLS suites are of approved algorithms."""
    reasons = [*_cryptography(), *_interpreter(), *(reason for kek in keks for reason in unapproved_kek(kek))]
    if offered := unapproved_suites(suites):
        reasons.append(f"TLS would offer cipher suites that are not approved: {', '.join(offered)}")
    if reasons:
        raise ConfigError("\n".join(f"keys.fips is required, but {reason}" for reason in reasons))


def _cryptography() -> list[str]:
    version = bundled.openssl_version_text()
    if not bundled.is_fips_enabled():
        return [f"the OpenSSL behind cryptography ({version}) is not in FIPS mode"]
    try:
        AESGCM(os.urandom(32)).encrypt(os.urandom(12), b"", b"")
    except (InternalError, UnsupportedAlgorithm):
        return [f"the OpenSSL behind cryptography ({version}) says FIPS and has no FIPS provider loaded"]
    try:
        ChaCha20Poly1305(os.urandom(32)).encrypt(os.urandom(12), b"", b"")
    except (InternalError, UnsupportedAlgorithm):
        return []
    return [f"the OpenSSL behind cryptography ({version}) lets unapproved algorithms be used"]


def _interpreter() -> list[str]:
    """``_hashlib`` alone says it; a build of Python without it has no OpenSSL behind ``ssl`` either."""
    openssl = getattr(hashlib, "_hashlib", None)
    if openssl is None or openssl.get_fips_mode() != 1:
        return [f"the OpenSSL behind ssl ({ssl.OPENSSL_VERSION}) is not in FIPS mode"]
    try:
        openssl.new("sha256", b"")
    except ValueError:
        return [f"the OpenSSL behind ssl ({ssl.OPENSSL_VERSION}) says FIPS and has no FIPS provider loaded"]
    if any("CHACHA20" in suite["name"] for suite in ssl.create_default_context().get_ciphers()):
        return [f"the OpenSSL behind ssl ({ssl.OPENSSL_VERSION}) offers unapproved cipher suites"]
    return []


def unapproved_suites(names: Iterable[str]) -> list[str]:
    """Return those of the cipher suites (by OpenSSL's names) that SP 800-52 Rev. 2 does not approve, each once."""
    return sorted({name for name in names if _SUITE.fullmatch(name) is None})


def unapproved_kek(kek: str) -> list[str]:
    """Return why a KEK URI's algorithms are not approved; nothing where they are."""
    scheme, _, rest = kek.partition(":")
    if scheme not in KEK_SCHEMES:
        return ["a KEK is of a kind whose algorithms are not known as approved"]
    options = dict(option.partition("=")[::2] for option in rest.partition("?")[2].split("&"))
    if scheme == "local" and "passphrase" in options:
        return ["a local KEK under a passphrase rests on Argon2id, which is not approved"]
    return [
        f"{name}={options[name]} is not approved" for name, best in _APPROVED_OPTIONS.items() if options.get(name, best) != best
    ]
