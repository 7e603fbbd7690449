"""Sealing many rows at once, column by column: the same as ``make_sealer`` does value by value, in one loop for each column.

For short values only: a long one takes ``make_sealer``, which lets another thread have it.
"""

import os
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.crypto.envelope import FIXED_HEADER, NONCE_LENGTH, SALT_LENGTH, build_header, pad
from phiproxy.crypto.key_derivation import FIRST_BLOCK, KEY_LENGTH
from phiproxy.crypto.keyring import DataKey
from phiproxy.crypto.seal import AT_SLOTS, BEFORE_HEADER, BEFORE_SALT, ColumnSpec, behind_header, record_key


class RowKeys:
    """The salts and ciphers of many rows under one data key: one use each. Never kept beyond the rows that they were drawn for."""

    __slots__ = ("encrypts", "key_id", "salts", "tenant")

    def __init__(self, key: DataKey, salts: list[bytes]) -> None:
        self.key_id, self.tenant, self.salts = key.id, key.tenant, salts
        mac = key.mac
        if mac is None or len(key.secret) != KEY_LENGTH:
            self.encrypts = [AESGCM(record_key(key, salt)).encrypt for salt in salts]
            return
        encrypts, keyed = [], mac.copy
        for salt in salts:  # what ``record_key`` does, by hand
            block = keyed()
            block.update(BEFORE_SALT + salt + FIRST_BLOCK)
            encrypts.append(AESGCM(block.finalize()).encrypt)
        self.encrypts = encrypts

    def of(self, places: Sequence[int]) -> "RowKeys":
        """Return those of some of the rows, by their places from 0."""
        some = RowKeys.__new__(RowKeys)
        some.key_id, some.tenant = self.key_id, self.tenant
        some.salts, some.encrypts = [self.salts[at] for at in places], [self.encrypts[at] for at in places]
        return some


def draw_row_keys(key: DataKey, count: int) -> RowKeys:
    """Draw random 16-byte salts for as many rows as were reserved of ``key``; ValueError when it was overwritten meanwhile."""
    return RowKeys(key, _cut(os.urandom(SALT_LENGTH * count), SALT_LENGTH))


SealColumn = Callable[[Sequence[bytes], RowKeys, Sequence[bytes]], list[bytes]]
"""Takes the plaintexts of a column, the keys of their rows, and the slots of each, and returns the envelopes."""


def make_column_sealer(spec: ColumnSpec) -> SealColumn:
    """Return ``seal(plaintexts, row keys, slots) -> envelopes`` for one column.

    The closure raises ValueError for slots that do not fit the format or are not as many for each value, and for another tenant's
    keys: the caller's mistakes.
    """
    number, multiple, tenant, after = spec.number, spec.pad, spec.tenant, behind_header(spec)
    padded, field = multiple is not None, bool(spec.path)

    def seal(plaintexts: Sequence[bytes], rows: RowKeys, slots: Sequence[bytes]) -> list[bytes]:
        if rows.tenant != tenant:
            raise ValueError("the records were drawn from another tenant's data key")
        if not plaintexts:
            return []
        if len({*map(len, slots)}) != 1:
            raise ValueError("the values of a column have another number of slots each")
        fixed = build_header(rows.key_id, number, slots[0], padded=padded, field=field)[:FIXED_HEADER]
        before, nonces = BEFORE_HEADER[fixed[AT_SLOTS]] + fixed, _cut(os.urandom(NONCE_LENGTH * len(plaintexts)), NONCE_LENGTH)
        if multiple is not None:
            plaintexts = [pad(plaintext, multiple) for plaintext in plaintexts]
        return [
            fixed + own + salt + nonce + encrypt(nonce, plaintext, before + own + after)
            for plaintext, own, salt, nonce, encrypt in zip(plaintexts, slots, rows.salts, nonces, rows.encrypts, strict=True)
        ]

    return seal


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
