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
import ssl

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.bindings._rust import openssl as bundled
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from phiproxy.errors import ConfigError


def require_fips(kek: str) -> None:
    """Raise ConfigError, a line for each reason, unless FIPS mode holds and the KEK URI names only approved algorithms."""
    reasons = [*_cryptography(), *_interpreter(), *_configured(kek)]
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


def _configured(kek: str) -> list[str]:
    scheme, _, rest = kek.partition(":")
    options = rest.partition("?")[2].split("&")
    if scheme == "local" and any(o.startswith("passphrase=") for o in options):
        return ["a local KEK under a passphrase rests on Argon2id, which is not approved"]
    if "oaep=sha1" in options:
        return ["oaep=sha1 is not approved"]
    return []
