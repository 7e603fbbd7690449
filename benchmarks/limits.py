"""What no proxy in Python can be below: loops that do nothing but HMAC and AES-GCM calls, and a sync of the disk."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from benchmarks.measures import middle
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


def sync(directory: Path) -> float:
    """Return the seconds, the median of 200, that the disk takes to sync 1 KB written over what is there."""
    taken: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(1 << 18))
        file.flush()
        os.fsync(file.fileno())
        for number in range(200):
            os.pwrite(file.fileno(), bytes([number]) * 1024, number * 1024)
            taken.append(_timed(partial(os.fdatasync, file.fileno())))
    return middle(taken)


def _record(data_key: HMAC) -> bytes:
    mac = data_key.copy()
    mac.update(SALT)
    return mac.finalize()


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
