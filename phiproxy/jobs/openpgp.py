"""OpenPGP messages under a passphrase, as far as ``pgp_sym_encrypt`` makes them (RFC 4880): AES, with or without compression.

Only what is authenticated by an MDC is opened.
"""

import hashlib
import hmac
import zlib
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    from cryptography.hazmat.primitives.ciphers.modes import CFB

_KEY_SIZES: Final = {7: 16, 8: 24, 9: 32}
_HASHES: Final = {2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
_SESSION_KEY, _COMPRESSED, _LITERAL, _PROTECTED, _MDC = 3, 8, 11, 18, 19


def decrypt_symmetric(data: bytes, passphrase: bytes) -> bytes:
    """Return the content of a message under a passphrase; ValueError where it is none, or this one does not open it."""
    key = None
    for tag, body in _packets(data):
        if tag == _SESSION_KEY:
            key = _session_key(body, passphrase)
        elif tag == _PROTECTED and key is not None:
            return _content(_unprotected(body, key))
    raise ValueError("no message under a passphrase")


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the packets of a message, each with its tag (4.2)."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise ValueError("not a packet")
        at += 1
        if head & 0x40:
            tag, parts = head & 0x3F, []
            while True:
                size, at, partial = _new_length(data, at)
                parts.append(_slice(data, at, size))
                at += size
                if not partial:
                    break
            yield tag, b"".join(parts)
            continue
        tag, kind = head >> 2 & 0xF, head & 3
        size = len(data) - at if kind == 3 else int.from_bytes(_slice(data, at, 1 << kind))
        at += 0 if kind == 3 else 1 << kind
        yield tag, _slice(data, at, size)
        at += size


def _new_length(data: bytes, at: int) -> tuple[int, int, bool]:
    first = _slice(data, at, 1)[0]
    if first < 192:
        return first, at + 1, False
    if first < 224:
        return (first - 192 << 8) + _slice(data, at + 1, 1)[0] + 192, at + 2, False
    if first == 255:
        return int.from_bytes(_slice(data, at + 1, 4)), at + 5, False
    return 1 << (first & 0x1F), at + 1, True


def _slice(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) != size:
        raise ValueError("a packet is cut off")
    return part


def _session_key(body: bytes, passphrase: bytes) -> bytes:
    """Return the key of the message: derived from the passphrase, or encrypted under what is (5.3)."""
    version, cipher, kind, digest = _slice(body, 0, 4)
    if version != 4 or cipher not in _KEY_SIZES or digest not in _HASHES or kind not in (0, 1, 3):
        raise ValueError("of another kind than pgcrypto makes")
    salt, at, count = b"", 4, 0
    if kind:
        salt, at = _slice(body, 4, 8), 12
    if kind == 3:
        coded = _slice(body, 12, 1)[0]
        count, at = (16 + (coded & 15)) << (coded >> 4) + 6, 13
    key = _derived(_HASHES[digest], salt, passphrase, count, _KEY_SIZES[cipher])
    if at == len(body):
        return key
    plain = _cfb(key, body[at:])
    if plain[0] not in _KEY_SIZES or len(plain) != 1 + _KEY_SIZES[plain[0]]:
        raise ValueError("not this passphrase")
    return plain[1:]


def _derived(name: str, salt: bytes, passphrase: bytes, count: int, size: int) -> bytes:
    """Return the key of a passphrase (3.7.1)."""
    data = salt + passphrase
    total = max(count, len(data))
    key, prefix = b"", 0
    while len(key) < size:
        state = hashlib.new(name, bytes(prefix))
        whole, rest = divmod(total, max(1, len(data)))
        state.update(data * whole + data[:rest])
        key += state.digest()
        prefix += 1
    return key[:size]


def _cfb(key: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), CFB(bytes(16))).decryptor()
    return cipher.update(data) + cipher.finalize()


def _unprotected(body: bytes, key: bytes) -> bytes:
    """Return what an integrity protected packet holds (5.13): the first block comes twice in part, a SHA-1 of all is last."""
    if body[:1] != b"\x01":
        raise ValueError("of another version")
    plain = _cfb(key, body[1:])
    digest = hashlib.sha1(plain[:-20], usedforsecurity=False).digest()
    if plain[14:16] != plain[16:18] or plain[-22:-20] != b"\xd3\x14" or not hmac.compare_digest(digest, plain[-20:]):
        raise ValueError("not this passphrase, or changed")
    return plain[18:-22]


def _content(data: bytes) -> bytes:
    for tag, body in _packets(data):
        if tag == _COMPRESSED:
            window = {1: -15, 2: 15}.get(body[0])
            return _content(body[1:] if body[0] == 0 else zlib.decompress(body[1:], window or 15))
        if tag == _LITERAL:
            return body[2 + body[1] + 4 :]
    raise ValueError("no literal data")
