"""Sealing and opening one column's values: closures made once per plan, then run per value; knows no types and no SQL.

AES-256-GCM under a record key (SP 800-38D; crypto.md sections 2-4). A record key belongs to one salt, and a salt to
one row and data key; the nonce is random per value, so that columns of one row may share a record key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.crypto.derive import KEY_LENGTH, expand, expand_keyed
from phiproxy.crypto.envelope import (
    AAD_LABEL,
    FIXED_HEADER,
    MAX_NUMBER,
    MAX_PAD,
    MAX_SLOTS,
    MIN_PAD,
    NONCE_LENGTH,
    SALT_LENGTH,
    SLOT_LENGTH,
    build_header,
    envelope_parts,
    frame,
    pad,
    unpad,
)
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.errors import OtherTenant, SealError

RECORD_LABEL: Final = b"phi/record/v1"

# What ``frame`` gives of a label and a salt ends in the salt.
_BEFORE_SALT: Final = frame(RECORD_LABEL, bytes(SALT_LENGTH))[:-SALT_LENGTH]

# The last byte of the fixed header is the number of slots, and with it says how long the header is.
_AT_SLOTS: Final = FIXED_HEADER - 1
# What ``envelope.aad`` puts before a header: its own label and the header's length, for each number of slots.
_BEFORE_HEADER: Final = tuple(
    frame(AAD_LABEL) + (FIXED_HEADER + SLOT_LENGTH * slots).to_bytes(4, "big") for slots in range(MAX_SLOTS + 1)
)

# Enough for the rows between two looks at the same salt (a page's columns come row by row), small enough to hold few
# secrets.
MAX_RECORD_KEYS = 1024


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """What a column binds into its values.

    ``pad`` hides the length up to the next multiple (2...65536 bytes), or is None.
    """

    deployment: str
    tenant: str
    identity: str
    number: int
    pad: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.number <= MAX_NUMBER:
            raise ValueError("identity number out of range")
        if self.pad is not None and not MIN_PAD <= self.pad <= MAX_PAD:
            raise ValueError("pad out of range")


class Record:
    """The salt and cipher of one (row, data key): one use. Never kept beyond the execution that drew it."""

    __slots__ = ("cipher", "key_id", "salt", "tenant")

    def __init__(self, key: DataKey, salt: bytes) -> None:
        self.key_id, self.tenant, self.salt = key.id, key.tenant, salt
        self.cipher = _record_cipher(key, salt)

    def __repr__(self) -> str:
        return f"<Record under data key {self.key_id}>"


def _record_cipher(key: DataKey, salt: bytes) -> AESGCM:
    """Return the cipher under the record key of a salt; ValueError when the data key was overwritten meanwhile."""
    if key.mac is None or len(key.secret) != KEY_LENGTH or len(salt) != SALT_LENGTH:
        return AESGCM(expand(key.secret, RECORD_LABEL, salt))
    return AESGCM(expand_keyed(key.mac, _BEFORE_SALT + salt))


def draw_record(key: DataKey) -> Record:
    """Draw a random 16-byte salt and derive its record key; one use of ``key``, which must have been reserved."""
    return Record(key, os.urandom(SALT_LENGTH))


def make_sealer(spec: ColumnSpec) -> Callable[[bytes, Record, bytes], bytes]:
    """Return ``seal(plaintext, record, slots) -> envelope`` for one column; ``slots`` are 16 bytes each, in slot order.

    The closure raises ValueError for slots that do not fit the format or a record of another tenant, TypeError for a
    str: the caller's mistakes.

    The fixed header is made anew where the data key or the number of slots is not that of the value before.
    """
    number, multiple, tenant = spec.number, spec.pad, spec.tenant
    padded = multiple is not None
    after = _behind_header(spec)
    urandom = os.urandom
    key_id, length, fixed, before = 0, 0, b"", b""

    def seal(plaintext: bytes, record: Record, slots: bytes) -> bytes:
        nonlocal key_id, length, fixed, before
        if record.tenant != tenant:
            raise ValueError("the record was drawn from another tenant's data key")
        if record.key_id != key_id or len(slots) != length:
            fixed = build_header(record.key_id, number, slots, padded=padded)[:FIXED_HEADER]
            before = _BEFORE_HEADER[fixed[_AT_SLOTS]] + fixed
            key_id, length = record.key_id, len(slots)
        nonce = urandom(NONCE_LENGTH)
        if multiple is not None:
            plaintext = pad(plaintext, multiple)
        return fixed + slots + record.salt + nonce + record.cipher.encrypt(nonce, plaintext, before + slots + after)

    return seal


class OpenMemo:
    """Record keys already derived while opening, by data key and salt: the columns of a row share one.

    Bounded, and emptied of a data key's records when that key leaves the ring that ``make_opener`` saw it with.
    """

    def __init__(self, limit: int = MAX_RECORD_KEYS) -> None:
        self._limit = limit
        self._count = 0
        self._ciphers: dict[int, dict[bytes, AESGCM]] = {}

    def __repr__(self) -> str:
        return f"<OpenMemo: {self._count} record keys>"

    def __len__(self) -> int:
        return self._count

    def forget(self, key_id: int) -> None:
        """Drop the record keys of this data key."""
        self._count -= len(self._ciphers.pop(key_id, ()))

    def cipher(self, key: DataKey, salt: bytes) -> AESGCM:
        """Return the cipher of (data key, salt), derived on first sight."""
        of_key = self._ciphers.get(key.id)
        if of_key is not None:
            known = of_key.get(salt)
            if known is not None:
                return known
        if self._count >= self._limit:
            # Records come in runs, so starting over costs one derivation per row that is still in flight.
            self._ciphers.clear()
            self._count = 0
            of_key = None
        cipher = _record_cipher(key, salt)
        if of_key is None:
            of_key = self._ciphers.setdefault(key.id, {})
        of_key[salt] = cipher
        self._count += 1
        return cipher


def make_opener(
    spec: ColumnSpec, ring: Keyring, memo: OpenMemo, noticed: Callable[[DataKey], None] | None = None
) -> Callable[[bytes], bytes]:
    """Return ``open_value(envelope) -> plaintext`` for one column.

    The closure raises SealError (XX001) for whatever is not this column's intact value and KeyNeeded when the data
    key is not in memory. ``noticed`` is called with the data key after each opening under a compromised or a stale
    one, to be audited.
    """
    ring.watch(memo)
    number, tenant = spec.number, spec.tenant
    after = _behind_header(spec)
    find, cipher_of = ring.data_key, memo.cipher

    def open_value(data: bytes) -> bytes:
        key_id, _, padded, header, salt, nonce, sealed = envelope_parts(data, number)
        key = find(key_id)
        if key.tenant != tenant:
            raise OtherTenant(f"data key {key.id} is of another tenant")
        associated = _BEFORE_HEADER[header[_AT_SLOTS]] + header + after
        try:
            plaintext = cipher_of(key, salt).decrypt(nonce, sealed, associated)
        except InvalidTag:
            raise SealError(f"stored value does not open under data key {key.id}") from None
        if padded:
            plaintext = unpad(plaintext)
        if noticed is not None and (key.stale or key.state == "compromised"):
            noticed(key)
        return plaintext

    return open_value


def _behind_header(spec: ColumnSpec) -> bytes:
    """Return what ``envelope.aad`` puts after the header: it is constant for a column."""
    return frame(spec.deployment.encode(), spec.tenant.encode(), spec.identity.encode())
