"""AES-256-GCM in pieces, for long values: what ``AESGCM`` gives in one call, which would hold every thread up until it is done."""

from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM


def encrypt(key: bytes, nonce: bytes, plaintext: Iterable[bytes], associated: bytes) -> list[bytes]:
    """Return the pieces of the ciphertext, and the tag behind them."""
    encryptor = Cipher(AES256(key), GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(associated)
    pieces = [encryptor.update(piece) for piece in plaintext]
    pieces.append(encryptor.finalize())
    pieces.append(encryptor.tag)
    return pieces


def decrypt(key: bytes, nonce: bytes, ciphertext: Iterable[bytes], tag: bytes, associated: bytes) -> list[bytes]:
    """Return the pieces of the plaintext; InvalidTag, and nothing of it, where the tag is not that of the whole."""
    decryptor = Cipher(AES256(key), GCM(nonce)).decryptor()
    decryptor.authenticate_additional_data(associated)
    pieces = [decryptor.update(piece) for piece in ciphertext]
    pieces.append(decryptor.finalize_with_tag(tag))
    return pieces
