"""Sealing and opening one column's values: closures made once per plan, then run per value; knows no types and no SQL.

AES-256-GCM under a record key (SP 800-38D; crypto.md sections 2-4). A record key belongs to one salt, and a salt to
one row and data key; the nonce is random per value, so that columns of one row may share a record key.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from struct import Struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.crypto.derive import FIRST_BLOCK, KEY_LENGTH, expand
from phiproxy.crypto.envelope import (
    AAD_LABEL,
    FIXED_HEADER,
    GCM_TAG_LENGTH,
    LONGEST_HEAD,
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
    padding,
    unpad,
    unpad_pieces,
)
from phiproxy.crypto.gcm import decrypt, encrypt
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.errors import OtherTenant, SealError
from phiproxy.longvalues import LONG_VALUE, LongWork, cut

RECORD_LABEL: Final = b"phi/record/v1"

# What ``frame`` gives of a label and a salt ends in the salt.
_BEFORE_SALT: Final = frame(RECORD_LABEL, bytes(SALT_LENGTH))[:-SALT_LENGTH]

# The last byte of the fixed header is the number of slots, and with it says how long the header is.
_AT_SLOTS: Final = FIXED_HEADER - 1
# What ``envelope.aad`` puts before a header: its own label and the header's length, for each number of slots.
_BEFORE_HEADER: Final = tuple(
    frame(AAD_LABEL) + (FIXED_HEADER + SLOT_LENGTH * slots).to_bytes(4, "big") for slots in range(MAX_SLOTS + 1)
)

# Of as many data keys the last record key is remembered: a result has rows of a few, and fewer secrets are better. More record
# keys of one would help where the same row is read again, but cost each new row more than they save: their memory is cold.
MAX_RECORD_KEYS = 64

# Of one column: a data key has one or two, for each number of slots that the column has had.
MAX_HEADERS = 256


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

    __slots__ = ("_key", "_secret", "cipher", "key_id", "salt", "tenant")

    def __init__(self, key: DataKey, salt: bytes) -> None:
        self._key = key
        self._secret: bytes | None = None
        self.key_id = key.id
        self.tenant = key.tenant
        self.salt = salt
        self.cipher = _record_cipher(key, salt)

    def __repr__(self) -> str:
        return f"<Record under data key {self.key_id}>"

    def secret(self) -> bytes:
        """Return the record key itself, for a long value; ValueError when the data key was overwritten meanwhile.

        Another thread may ask only when the loop has asked before: the data key could be overwritten while it is derived.
        """
        if self._secret is None:
            self._secret = _record_key(self._key, self.salt)
        return self._secret


def _record_cipher(key: DataKey, salt: bytes) -> AESGCM:
    """Return the cipher under the record key of a salt; ValueError when the data key was overwritten meanwhile."""
    return AESGCM(_record_key(key, salt))


def _record_key(key: DataKey, salt: bytes) -> bytes:
    mac = key.mac
    if mac is None or len(key.secret) != KEY_LENGTH or len(salt) != SALT_LENGTH:
        return expand(key.secret, RECORD_LABEL, salt)
    block = mac.copy()  # derive.expand_keyed, by hand: it is the hot path
    block.update(_BEFORE_SALT + salt + FIRST_BLOCK)
    return block.finalize()


def draw_record(key: DataKey) -> Record:
    """Draw a random 16-byte salt and derive its record key; one use of ``key``, which must have been reserved."""
    return Record(key, os.urandom(SALT_LENGTH))


def draw_records(key: DataKey, count: int) -> list[Record]:
    """Draw as many as were reserved, as ``draw_record`` does: the salts come from the system in one piece."""
    if count == 1:
        return [Record(key, os.urandom(SALT_LENGTH))]
    salts = os.urandom(SALT_LENGTH * count)
    return [Record(key, salts[i : i + SALT_LENGTH]) for i in range(0, len(salts), SALT_LENGTH)]


def make_sealer(spec: ColumnSpec) -> Callable[[bytes, Record, bytes], bytes]:
    """Return ``seal(plaintext, record, slots) -> envelope`` for one column; ``slots`` are 16 bytes each, in slot order.

    The closure raises ValueError for slots that do not fit the format or a record of another tenant, TypeError for a
    str: the caller's mistakes.

    The fixed header is made anew where the data key or the number of slots is not that of the value before. What is remembered of
    that is replaced whole: a long value is sealed by another thread.
    """
    number, multiple, tenant = spec.number, spec.pad, spec.tenant
    padded = multiple is not None
    after = _behind_header(spec)
    urandom = os.urandom
    last = 0, 0, b"", b""

    def seal(plaintext: bytes, record: Record, slots: bytes) -> bytes:
        nonlocal last
        if record.tenant != tenant:
            raise ValueError("the record was drawn from another tenant's data key")
        key_id, length, fixed, before = last
        if record.key_id != key_id or len(slots) != length:
            fixed = build_header(record.key_id, number, slots, padded=padded)[:FIXED_HEADER]
            before = _BEFORE_HEADER[fixed[_AT_SLOTS]] + fixed
            last = record.key_id, len(slots), fixed, before
        nonce = urandom(NONCE_LENGTH)
        if len(plaintext) > LONG_VALUE:
            end = [padding(len(plaintext), multiple)] if multiple is not None else []
            pieces = encrypt(record.secret(), nonce, chain(cut(plaintext, 0, len(plaintext)), end), before + slots + after)
            return b"".join([fixed, slots, record.salt, nonce, *pieces])
        if multiple is not None:
            plaintext = pad(plaintext, multiple)
        return fixed + slots + record.salt + nonce + record.cipher.encrypt(nonce, plaintext, before + slots + after)

    return seal


OpenSpan = Callable[[bytes, int, int], bytes]
"""Takes data and where in it a value begins and ends, and returns the plaintext."""
Split = Callable[[bytes, int], tuple[bytes, bytes, bytes, bytes]]
"""Takes data and where a value begins, and returns its fixed header, the slots, the salt and the nonce."""


class LastRecord:
    """The record key of a data key that was used last, with its salt; none where ``cipher`` is None."""

    __slots__ = ("cipher", "key", "salt")

    def __init__(self, key: DataKey) -> None:
        self.key, self.salt = key, b""
        self.cipher: AESGCM | None = None

    def __repr__(self) -> str:
        return f"<LastRecord under data key {self.key.id}>"

    def forget(self) -> None:
        """Drop it."""
        self.salt, self.cipher = b"", None

    def derive(self, salt: bytes) -> AESGCM:
        """Return the cipher of another salt, and remember it in place of the one before, whose memory it takes."""
        self.salt, self.cipher = b"", None
        self.cipher = cipher = _record_cipher(self.key, salt)
        self.salt = salt
        return cipher


class _Known(NamedTuple):
    """What the fixed header of a value that was opened says of others that begin with it.

    The record key of its data key that was used last, what cuts header, slots, salt and nonce out, where the ciphertext begins, how
    long a value is at least, whether it is padded, and what the associated data begins with.
    """

    last: LastRecord
    split: Split
    sealed: int
    shortest: int
    padded: bool
    before: bytes


@lru_cache
def _splitter(slots: int) -> Split:
    """Return what cuts fixed header, slots, salt and nonce out of data."""
    return Struct(f"{FIXED_HEADER}s{SLOT_LENGTH * slots}s{SALT_LENGTH}s{NONCE_LENGTH}s").unpack_from


_NO_KEY: Final = DataKey(0, "", "", 0, b"", "destroyed")
# No value is as long, so that each is looked at.
_NOTHING_KNOWN: Final = _Known(LastRecord(_NO_KEY), _splitter(0), 0, sys.maxsize, padded=False, before=b"")


class OpenMemo:
    """What was found while opening: of each data key the last record key, which the columns of a row share, and fixed headers.

    Bounded, and emptied of what came from a data key when that key leaves the ring that ``make_opener`` saw it with. ``until`` is
    the time at which the first of the data keys behind the headers expires.
    """

    def __init__(self, limit: int = MAX_RECORD_KEYS) -> None:
        self._limit = limit
        self._last: dict[int, LastRecord] = {}
        self._forgetting: list[Callable[[], None]] = []
        self.until = math.inf
        self.long_work = LongWork()

    def __repr__(self) -> str:
        return f"<OpenMemo: {len(self)} record keys>"

    def __len__(self) -> int:
        return sum(last.cipher is not None for last in self._last.values())

    def forget(self, key_id: int) -> None:
        """Drop the record key of this data key, and every header."""
        last = self._last.pop(key_id, None)
        if last is not None:
            last.forget()
        self.forget_headers()

    def forget_headers(self) -> None:
        """Ask the ring again for every data key."""
        for forget in self._forgetting:
            forget()
        self.until = math.inf

    def watch(self, forget: Callable[[], None]) -> None:
        """Have this called when the headers are to be forgotten."""
        self._forgetting.append(forget)

    def look_at_clock(self, now: float) -> None:
        """Forget the headers when a data key has expired; to be called before each run of values that are opened."""
        if now >= self.until:
            self.forget_headers()

    def of_key(self, key: DataKey) -> LastRecord:
        """Return the record key of a data key that was used last, whichever column's value it was of."""
        last = self._last.get(key.id)
        if last is not None and last.key is key:
            return last
        for known in [key.id] if last is not None or len(self._last) < self._limit else list(self._last):
            self.forget(known)
        last = self._last[key.id] = LastRecord(key)
        return last


def make_opener(
    spec: ColumnSpec, ring: Keyring, memo: OpenMemo, noticed: Callable[[DataKey], None] | None = None
) -> Callable[[bytes], bytes]:
    """Return ``open_value(envelope) -> plaintext`` for one column: ``make_span_opener`` for single values."""
    open_span, clock = make_span_opener(spec, ring, memo, noticed), ring.clock

    def open_value(data: bytes) -> bytes:
        memo.look_at_clock(clock())
        return open_span(data, 0, len(data))

    return open_value


def make_span_opener(  # noqa: C901 - another function for each value would cost what is saved
    spec: ColumnSpec, ring: Keyring, memo: OpenMemo, noticed: Callable[[DataKey], None] | None = None
) -> OpenSpan:
    """Return ``open_span(data, begin, end) -> plaintext`` for one column, for runs of values: ``memo`` looks at the clock for each.

    The closure raises SealError (XX001) for whatever is not this column's intact value and KeyNeeded when the data
    key is not in memory. ``noticed`` is called with the data key after each opening under a compromised or a stale
    one, to be audited.
    """
    ring.watch(memo)
    after = _behind_header(spec)
    headers: dict[bytes, _Known] = {}
    # What the last value began with, and what is known of that: nearly always the next begins with it too.
    header: bytes | None = None
    last, split, sealed, shortest, padded, before = _NOTHING_KNOWN

    def forget() -> None:
        nonlocal header, last, split, sealed, shortest, padded, before
        header = None
        last, split, sealed, shortest, padded, before = _NOTHING_KNOWN
        headers.clear()

    memo.watch(forget)

    def turn_to(data: bytes, begin: int, end: int) -> None:
        nonlocal header, last, split, sealed, shortest, padded, before
        found = data[begin : begin + FIXED_HEADER]
        known = headers.get(found) or _look_at(data[begin : min(end, begin + LONGEST_HEAD)], spec, ring, memo, headers)
        last, split, sealed, shortest, padded, before = known
        header = found if found in headers else None
        if end - begin < shortest:
            raise SealError("stored value is not a well-formed envelope")

    def open_span(data: bytes, begin: int, end: int) -> bytes:
        if end - begin < shortest:
            turn_to(data, begin, end)
        found, slots, salt, nonce = split(data, begin)
        if found != header:
            turn_to(data, begin, end)
            found, slots, salt, nonce = split(data, begin)
        if end - begin > LONG_VALUE:
            secret = _record_key(last.key, salt)
            associated, key_id = before + slots + after, last.key.id
            opened = partial(_open_long, secret, nonce, data, begin + sealed, end, associated, padded, key_id)
            plaintext = memo.long_work.do(opened)
        else:
            cipher = (last.cipher if salt == last.salt else None) or last.derive(salt)
            try:
                plaintext = cipher.decrypt(nonce, data[begin + sealed : end], before + slots + after)
            except InvalidTag:
                raise _does_not_open(last.key.id) from None
            if padded:
                plaintext = unpad(plaintext)
        if header is None and noticed is not None:
            noticed(last.key)
        return plaintext

    return open_span


def _does_not_open(key_id: int) -> SealError:
    return SealError(f"stored value does not open under data key {key_id}")


def _open_long(key: bytes, nonce: bytes, data: bytes, sealed: int, end: int, associated: bytes, padded: bool, key_id: int) -> bytes:  # noqa: FBT001
    """Return the plaintext of a long value whose ciphertext begins at ``sealed``; SealError. For any thread."""
    tag = end - GCM_TAG_LENGTH
    try:
        pieces = decrypt(key, nonce, cut(data, sealed, tag), data[tag:end], associated)
    except InvalidTag:
        raise _does_not_open(key_id) from None
    return b"".join(unpad_pieces(pieces) if padded else pieces)


def _known(data: bytes, spec: ColumnSpec, ring: Keyring, memo: OpenMemo) -> tuple[_Known, float]:
    """Return what the fixed header of a column's value says, and until when; SealError, KeyNeeded."""
    key_id, _, padded, header, _, _, _ = envelope_parts(data, spec.number)
    key, expires = ring.data_key_until(key_id)
    if key.tenant != spec.tenant:
        raise OtherTenant(f"data key {key.id} is of another tenant")
    slots, sealed = header[_AT_SLOTS], len(header) + SALT_LENGTH + NONCE_LENGTH
    before = _BEFORE_HEADER[slots] + header[:FIXED_HEADER]
    return _Known(memo.of_key(key), _splitter(slots), sealed, sealed + GCM_TAG_LENGTH + padded, padded, before), expires


def _look_at(data: bytes, spec: ColumnSpec, ring: Keyring, memo: OpenMemo, headers: dict[bytes, _Known]) -> _Known:
    """Return what the fixed header of a column's value says, and remember it; SealError, KeyNeeded."""
    known, expires = _known(data, spec, ring, memo)
    key = known.last.key
    if not (key.stale or key.state == "compromised"):  # those are looked at, and noticed, each time
        if len(headers) >= MAX_HEADERS:
            headers.clear()
        headers[data[:FIXED_HEADER]] = known
        memo.until = min(memo.until, expires)
    return known


def _behind_header(spec: ColumnSpec) -> bytes:
    """Return what ``envelope.aad`` puts after the header: it is constant for a column."""
    return frame(spec.deployment.encode(), spec.tenant.encode(), spec.identity.encode())
