"""Plain Python loops that do nothing but the HMAC and AES-GCM calls of a piece of work: what no proxy in Python can be below."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from benchmarks.site import row

AAD = bytes(120)
SALT = bytes(range(16))


def _values(rows: int) -> list[tuple[bytes, ...]]:
    return [tuple(str(v).encode() for v in row(n)[1:4]) for n in range(1, rows + 1)]


def opening(rows: int) -> float:
    """Return the seconds in which three values of each row are opened: one record key a row, three decryptions."""
    data_key = HMAC(os.urandom(32), SHA256())
    nonce, record = bytes(12), AESGCM(_record(data_key))
    sealed = [tuple(record.encrypt(nonce, value, AAD) for value in values) for values in _values(rows)]

    def work() -> None:
        for one, two, three in sealed:
            decrypt = AESGCM(_record(data_key)).decrypt
            decrypt(nonce, one, AAD)
            decrypt(nonce, two, AAD)
            decrypt(nonce, three, AAD)

    return _timed(work)


def sealing(rows: int) -> float:
    """Return the seconds in which three values of each row are sealed: one record key, three tags, three encryptions."""
    data_key, index_key = HMAC(os.urandom(32), SHA256()), HMAC(os.urandom(32), SHA256())
    nonce, values = bytes(12), _values(rows)

    def work() -> None:
        for one, two, three in values:
            encrypt = AESGCM(_record(data_key)).encrypt
            for value in (one, two, three):
                mac = index_key.copy()
                mac.update(value)
                mac.finalize()
                encrypt(nonce, value, AAD)

    return _timed(work)


def _record(data_key: HMAC) -> bytes:
    mac = data_key.copy()
    mac.update(SALT)
    return mac.finalize()


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
