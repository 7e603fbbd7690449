"""The one key derivation: HKDF-Expand with SHA-256 (RFC 5869, section 2.3) over a framed label.

Every input key here is 256 bits from ``os.urandom``, so the extract step of HKDF has nothing to do (RFC 5869, section 3.3).
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from phiproxy.crypto.envelope import frame

KEY_LENGTH = 32
"""Bytes of every symmetric key in this project."""
FIRST_BLOCK = b"\x01"
"""What HKDF-Expand puts behind the info of its first block."""

_SHA256 = SHA256()


Secret = bytes | bytearray
"""Key bytes; a bytearray where they are kept, so that they can be overwritten."""


def expand(secret: Secret, *parts: bytes) -> bytes:
    """Derive a 32-byte key: ``HKDF-Expand-SHA256(secret, frame(*parts), 32)``; ValueError when ``secret`` is not 32 bytes."""
    if len(secret) != KEY_LENGTH:
        raise ValueError("a key is not 32 bytes")
    return HKDFExpand(_SHA256, KEY_LENGTH, frame(*parts)).derive(secret)


def keyed(secret: Secret) -> HMAC:
    """Return HMAC-SHA-256 under a 32-byte key, to be copied and never updated."""
    if len(secret) != KEY_LENGTH:
        raise ValueError("a key is not 32 bytes")
    return HMAC(secret, _SHA256)


def wipe(secret: Secret | None) -> None:
    """Overwrite a kept key, and make it too short to be used by whoever still holds it.

    As far as CPython lets one: copies that other objects made of it, OpenSSL's among them, are freed and not overwritten here.
    """
    if isinstance(secret, bytearray):
        secret[:] = bytes(len(secret))
        secret.clear()
