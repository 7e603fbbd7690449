"""``keys.fips: required``: nothing starts unless both OpenSSLs of the process run a FIPS provider and the KEK is approved.

Two, because ``cryptography`` brings an OpenSSL of its own (its wheels are no FIPS module: build it against the system's, or take
the distribution's package) while ``ssl`` and ``hashlib`` use the interpreter's. A library that says that it is in FIPS mode is not
believed: it must do AES-256-GCM and must refuse an algorithm that is not approved, since a module that could not be loaded
leaves the mode set. What this does not say: that the module's certificate is valid, and that the machine is an approved
environment. FIPS 140-3; SP 800-140C; OpenSSL fips_module(7).
"""

import hashlib
import os
import re
import ssl
from collections.abc import Iterable

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.bindings._rust import openssl as bundled
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from phiproxy.errors import ConfigError
from phiproxy.policy.kek_schemes import KEK_SCHEMES

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
    kind = KEK_SCHEMES.get(scheme)
    if kind is None or kind.algorithm is None:
        return ["a KEK is of a kind whose algorithms are not known as approved"]
    options = dict(option.partition("=")[::2] for option in rest.partition("?")[2].split("&"))
    return [
        *(
            f"a {scheme} KEK under a {name} rests on {algorithm}, which is not approved"
            for name, algorithm in kind.unapproved.items()
            if name in options
        ),
        *(f"{name}={options[name]} is not approved" for name, best in kind.approved.items() if options.get(name, best) != best),
    ]
