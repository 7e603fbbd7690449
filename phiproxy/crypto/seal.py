"""Sealing and opening one column's values: closures made once per plan, then run per value; knows no types and no SQL.

AES-256-GCM under a record key (SP 800-38D; spec/stored-format 2.1). A record key belongs to one salt, and a salt to
one row and data key; the nonce is random per value, so that columns of one row may share a record key.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from struct import Struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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
from phiproxy.crypto.gcm_in_pieces import decrypt, encrypt
from phiproxy.crypto.key_derivation import FIRST_BLOCK, KEY_LENGTH, expand
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.errors import OtherTenant, SealError
from phiproxy.long_values import LONG_VALUE, LongWork, cut, together

RECORD_LABEL: Final = b"phi/record/v1"

# What ``frame`` gives of a label and a salt ends in the salt.
BEFORE_SALT: Final = frame(RECORD_LABEL, bytes(SALT_LENGTH))[:-SALT_LENGTH]

# The last byte of the fixed header is the number of slots, and with it says how long the header is.
AT_SLOTS: Final = FIXED_HEADER - 1
# The associated data before a header: its label and the header's length, for each number of slots.
BEFORE_HEADER: Final = tuple(
    frame(AAD_LABEL) + (FIXED_HEADER + SLOT_LENGTH * slots).to_bytes(4, "big") for slots in range(MAX_SLOTS + 1)
)

# Of as many data keys the last record key is remembered: a result has rows of a few, and fewer secrets are better. More record
# keys of one would help where the same row is read again, but cost each new row more than they save: their memory is cold.
MAX_RECORD_KEYS = 64

# Sealing so many values takes some 10 milliseconds.
_NONCES_AT_ONCE = 512

# Of one column: a data key has one or two, for each number of slots that the column has had.
MAX_HEADERS = 256


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """What a column binds into its values; ``pad`` hides the length up to the next multiple (2...65536 bytes), or is None.

    ``path`` is that of a field of a document, with positions in arrays as ``[*]``; empty of a column.
    """

    deployment: str
    tenant: str
    identity: str
    number: int
    pad: int | None = None
    path: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.number <= MAX_NUMBER:
            raise ValueError("identity number out of range")
        if self.pad is not None and not MIN_PAD <= self.pad <= MAX_PAD:
            raise ValueError("pad out of range")


def default_spec(spec: ColumnSpec) -> ColumnSpec:
    """Return what the text of a computed DEFAULT of a column is sealed as: under another identity than its values.

    So no stored value is ever taken for one, nor the text for a value, whoever moves envelopes about in the catalogue.
    """
    return replace(spec, identity=f"{spec.identity}\0default")


class Record:
    """The salt and cipher of one (row, data key): one use. Never kept beyond the execution that drew it.

    ``nonces`` are those of its values, where it has many.
    """

    __slots__ = ("_key", "_secret", "cipher", "key_id", "nonces", "salt", "tenant")

    def __init__(self, key: DataKey, salt: bytes) -> None:
        self._key = key
        self._secret: bytes | None = None
        self.nonces: Iterator[bytes] | None = None
        self.key_id = key.id
        self.tenant = key.tenant
        self.salt = salt
        self.cipher = AESGCM(record_key(key, salt))

    def secret(self) -> bytes:
        """Return the record key itself, for a long value; ValueError when the data key was overwritten meanwhile.

        Another thread may ask only when the loop has asked before: the data key could be overwritten while it is derived.
        """
        if self._secret is None:
            self._secret = record_key(self._key, self.salt)
        return self._secret


def record_key(key: DataKey, salt: bytes) -> bytes:
    """Return the record key of a salt; ValueError when the data key was overwritten meanwhile."""
    mac = key.mac
    if mac is None or len(key.secret) != KEY_LENGTH or len(salt) != SALT_LENGTH:
        return expand(key.secret, RECORD_LABEL, salt)
    # What ``expand`` gives: one block of HKDF-Expand is one HMAC of the info and the byte 1, and 32 bytes are one block.
    block = mac.copy()
    block.update(BEFORE_SALT + salt + FIRST_BLOCK)
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


def many_nonces() -> Iterator[bytes]:
    """Yield random nonces, which come from the system by the hundred.

    Each time it is asked the interpreter's lock is let go of. A thread that does so every few microseconds looks to others as if
    they had had their turn, and they wait until they happen to be awake at such a moment.
    """
    while True:
        drawn = os.urandom(NONCE_LENGTH * _NONCES_AT_ONCE)
        for at in range(0, len(drawn), NONCE_LENGTH):
            yield drawn[at : at + NONCE_LENGTH]


def make_sealer(spec: ColumnSpec) -> Callable[[bytes, Record, bytes], bytes]:
    """Return ``seal(plaintext, record, slots) -> envelope`` for one column; ``slots`` are 16 bytes each, in slot order.

    The closure raises ValueError for slots that do not fit the format or a record of another tenant, TypeError for a
    str: the caller's mistakes.

    The fixed header is made anew where the data key or the number of slots is not that of the value before. What is remembered of
    that is replaced whole: a long value is sealed by another thread.
    """
    number, multiple, tenant = spec.number, spec.pad, spec.tenant
    padded, field = multiple is not None, bool(spec.path)
    after = behind_header(spec)
    urandom = os.urandom
    last = 0, 0, b"", b""

    def seal(plaintext: bytes, record: Record, slots: bytes) -> bytes:
        nonlocal last
        if record.tenant != tenant:
            raise ValueError("the record was drawn from another tenant's data key")
        key_id, length, fixed, before = last
        if record.key_id != key_id or len(slots) != length:
            fixed = build_header(record.key_id, number, slots, padded=padded, field=field)[:FIXED_HEADER]
            before = BEFORE_HEADER[fixed[AT_SLOTS]] + fixed
            last = record.key_id, len(slots), fixed, before
        nonce = urandom(NONCE_LENGTH) if record.nonces is None else next(record.nonces)
        if len(plaintext) > LONG_VALUE:
            end = [padding(len(plaintext), multiple)] if multiple is not None else []
            pieces = encrypt(record.secret(), nonce, chain(cut(plaintext, 0, len(plaintext)), end), before + slots + after)
            pieces[:0] = [fixed, slots, record.salt, nonce]
            return together(pieces)
        if multiple is not None:
            plaintext = pad(plaintext, multiple)
        return fixed + slots + record.salt + nonce + record.cipher.encrypt(nonce, plaintext, before + slots + after)

    return seal


OpenSpan = Callable[[bytes, int, int], bytes]
"""Takes data and where in it a value begins and ends, and returns the plaintext."""
Note = Callable[[], object]
"""Called after each opening of a value."""
Split = Callable[[bytes, int], tuple[bytes, bytes, bytes, bytes]]
"""Takes data and where a value begins, and returns its fixed header, the slots, the salt and the nonce."""


class LastRecord:
    """The record key of a data key that was used last, with its salt; none where ``cipher`` is None."""

    __slots__ = ("cipher", "key", "salt")

    def __init__(self, key: DataKey) -> None:
        self.key, self.salt = key, b""
        self.cipher: AESGCM | None = None

    def forget(self) -> None:
        """Drop it."""
        self.salt, self.cipher = b"", None

    def derive(self, salt: bytes) -> AESGCM:
        """Return the cipher of another salt, and remember it in place of the one before, whose memory it takes."""
        self.cipher, key = None, self.key
        mac = key.mac
        if mac is None or len(key.secret) != KEY_LENGTH:
            self.cipher = cipher = AESGCM(record_key(key, salt))
        else:  # the same, by hand: of a long result it is done for each row
            block = mac.copy()
            block.update(BEFORE_SALT + salt + FIRST_BLOCK)
            self.cipher = cipher = AESGCM(block.finalize())
        self.salt = salt
        return cipher


class _HeaderFacts(NamedTuple):
    """What the fixed header of a value that was opened says of others that begin with it.

    The record key of its data key that was used last, what cuts header, slots, salt and nonce out, where the ciphertext begins, how
    long a value is at least, whether it is padded, what the associated data begins with, and who is told of each opening.
    """

    last: LastRecord
    split: Split
    sealed: int
    shortest: int
    padded: bool
    before: bytes
    note: Note | None = None


@lru_cache
def _splitter(slots: int) -> Split:
    """Return what cuts fixed header, slots, salt and nonce out of data."""
    return Struct(f"{FIXED_HEADER}s{SLOT_LENGTH * slots}s{SALT_LENGTH}s{NONCE_LENGTH}s").unpack_from


_NO_KEY: Final = DataKey(0, "", "", 0, b"", "destroyed")
# No value is as long, so that each is looked at.
_NOTHING_KNOWN: Final = _HeaderFacts(LastRecord(_NO_KEY), _splitter(0), 0, sys.maxsize, padded=False, before=b"")


Facts = tuple[
    Callable[[bytes, int], tuple[int, bytes, bytes, bytes, bytes]], bytes, int, int, bytes, bytes, bool, Note | None, LastRecord
]
"""What opens values that begin alike and stand behind their length, as fields of rows do, where the length is.

What cuts length, fixed header, slots, salt and nonce out, the header, where the ciphertext begins, the least length, what the
associated data are before and behind the slots, whether a value is padded, who is told of each opening, and the record key.
"""


class KnownHeader:
    """What is known of the fixed header that a column's last value had, for a loop over rows; of none before the first."""

    __slots__ = ("facts",)

    def __init__(self) -> None:
        self.facts: Facts = _NO_FACTS

    def forget(self) -> None:
        """Know nothing."""
        self.facts = _NO_FACTS

    def learn(self, header: bytes, facts: _HeaderFacts, after: bytes) -> None:
        """Take what a fixed header says."""
        split = _framed_splitter(header[AT_SLOTS])
        behind_length = facts.sealed + 4
        self.facts = split, header, behind_length, facts.shortest, facts.before, after, facts.padded, facts.note, facts.last


@lru_cache
def _framed_splitter(slots: int) -> Callable[[bytes, int], tuple[int, bytes, bytes, bytes, bytes]]:
    """Return what cuts a length, and the fixed header, slots, salt and nonce behind it, out of data."""
    return Struct(f"!i{FIXED_HEADER}s{SLOT_LENGTH * slots}s{SALT_LENGTH}s{NONCE_LENGTH}s").unpack_from


# No value begins with nothing, so that each is looked at.
_NO_FACTS: Final = _framed_splitter(0), b"", 0, 0, b"", b"", False, None, LastRecord(_NO_KEY)


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
        for key_id in [key.id] if last is not None or len(self._last) < self._limit else list(self._last):
            self.forget(key_id)
        last = self._last[key.id] = LastRecord(key)
        return last


def make_opener(
    spec: ColumnSpec, ring: Keyring, memo: OpenMemo, noticed: Callable[[DataKey], Note | None] | None = None
) -> Callable[[bytes], bytes]:
    """Return ``open_value(envelope) -> plaintext`` for one column: ``make_span_opener`` for single values."""
    open_span, clock = make_span_opener(spec, ring, memo, noticed), ring.clock

    def open_value(data: bytes) -> bytes:
        memo.look_at_clock(clock())
        return open_span(data, 0, len(data))

    return open_value


def make_span_opener(  # noqa: C901 - another function for each value would cost what is saved
    spec: ColumnSpec,
    ring: Keyring,
    memo: OpenMemo,
    noticed: Callable[[DataKey], Note | None] | None = None,
    known: KnownHeader | None = None,
) -> OpenSpan:
    """Return ``open_span(data, begin, end) -> plaintext`` for one column, for runs of values: ``memo`` looks at the clock for each.

    The closure raises SealError (XX001) for whatever is not this column's intact value and KeyNeeded when the data key is not in
    memory. ``noticed`` is asked of a data key what is to be called after each opening under it, to be recorded. What the last
    value's header says is put into ``known``.
    """
    ring.watch(memo)
    after = behind_header(spec)
    headers: dict[bytes, _HeaderFacts] = {}
    # What the last value began with, and what is known of that: nearly always the next begins with it too.
    header: bytes | None = None
    last, split, sealed, shortest, padded, before, note = _NOTHING_KNOWN

    def forget() -> None:
        nonlocal header, last, split, sealed, shortest, padded, before, note
        header = None
        last, split, sealed, shortest, padded, before, note = _NOTHING_KNOWN
        headers.clear()

    memo.watch(forget)
    if known is not None:
        memo.watch(known.forget)

    def turn_to(data: bytes, begin: int, end: int) -> None:
        nonlocal header, last, split, sealed, shortest, padded, before, note
        head = data[begin : begin + FIXED_HEADER]
        facts = headers.get(head) or _look_at(data[begin : min(end, begin + LONGEST_HEAD)], spec, ring, memo, headers, noticed)
        last, split, sealed, shortest, padded, before, note = facts
        header = head if head in headers else None
        if known is not None:
            known.forget() if header is None else known.learn(head, facts, after)
        if end - begin < shortest:
            raise SealError("stored value is not a well-formed envelope")

    def open_span(data: bytes, begin: int, end: int) -> bytes:
        if end - begin < shortest:
            turn_to(data, begin, end)
        head, slots, salt, nonce = split(data, begin)
        if head != header:
            turn_to(data, begin, end)
            head, slots, salt, nonce = split(data, begin)
        if end - begin > LONG_VALUE:
            secret = record_key(last.key, salt)
            associated, key_id = before + slots + after, last.key.id
            opened = partial(_open_long, secret, nonce, data, begin + sealed, end, associated, padded, key_id)
            plaintext = memo.long_work.do(opened)
        else:
            cipher = last.cipher
            if cipher is None or salt != last.salt:
                cipher = last.derive(salt)
            try:
                plaintext = cipher.decrypt(nonce, data[begin + sealed : end], before + slots + after)
            except InvalidTag:
                raise _does_not_open(last.key.id) from None
            if padded:
                plaintext = unpad(plaintext)
        if note is not None:
            note()
        return plaintext

    return open_span


RecordKeys = Mapping[tuple[int, bytes], bytes]
"""Record keys by the number of their data key and their salt."""


def record_key_of(ring: Keyring, tenant: str, key_id: int, salt: bytes) -> tuple[DataKey, bytes]:
    """Return the data key of this number, and the record key of a salt; SealError for another tenant's, KeyNeeded."""
    key, _ = ring.data_key_until(key_id)
    if key.tenant != tenant:
        raise OtherTenant(f"data key {key_id} is of another tenant")
    return key, record_key(key, salt)


def make_record_opener(spec: ColumnSpec, keys: RecordKeys) -> OpenSpan:
    """Return what ``make_span_opener`` does, for values of records whose keys are given. Nobody is told. For any thread."""
    after, field = behind_header(spec), bool(spec.path)
    ciphers: dict[tuple[int, bytes], AESGCM] = {}

    def open_span(data: bytes, begin: int, end: int) -> bytes:
        long = end - begin > LONG_VALUE
        head = data[begin : min(end, begin + LONGEST_HEAD)] if long else data[begin:end]
        key_id, _, padded, header, salt, nonce, rest = envelope_parts(head, spec.number, field=field)
        associated = BEFORE_HEADER[header[AT_SLOTS]] + header + after
        if long:
            sealed = begin + len(head) - len(rest)
            return _open_long(keys[key_id, salt], nonce, data, sealed, end, associated, padded, key_id)
        cipher = ciphers.get((key_id, salt))
        if cipher is None:
            cipher = ciphers[key_id, salt] = AESGCM(keys[key_id, salt])
        try:
            plaintext = cipher.decrypt(nonce, rest, associated)
        except InvalidTag:
            raise _does_not_open(key_id) from None
        return unpad(plaintext) if padded else plaintext

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
    if padded:
        pieces = unpad_pieces(pieces)
    return together(pieces)


def _header_facts(data: bytes, spec: ColumnSpec, ring: Keyring, memo: OpenMemo) -> tuple[_HeaderFacts, float]:
    """Return what the fixed header of a column's value says, and until when; SealError, KeyNeeded."""
    key_id, _, padded, header, _, _, _ = envelope_parts(data, spec.number, field=bool(spec.path))
    key, expires = ring.data_key_until(key_id)
    if key.tenant != spec.tenant:
        raise OtherTenant(f"data key {key.id} is of another tenant")
    slots, sealed = header[AT_SLOTS], len(header) + SALT_LENGTH + NONCE_LENGTH
    before = BEFORE_HEADER[slots] + header[:FIXED_HEADER]
    return _HeaderFacts(memo.of_key(key), _splitter(slots), sealed, sealed + GCM_TAG_LENGTH + padded, padded, before), expires


def _look_at(
    data: bytes,
    spec: ColumnSpec,
    ring: Keyring,
    memo: OpenMemo,
    headers: dict[bytes, _HeaderFacts],
    noticed: Callable[[DataKey], Note | None] | None,
) -> _HeaderFacts:
    """Return what the fixed header of a column's value says, and remember it; SealError, KeyNeeded."""
    facts, expires = _header_facts(data, spec, ring, memo)
    key = facts.last.key
    if noticed is not None:
        facts = facts._replace(note=noticed(key))
    if not (key.stale or key.state == "compromised"):  # those are looked at each time
        if len(headers) >= MAX_HEADERS:
            headers.clear()
        headers[data[:FIXED_HEADER]] = facts
        memo.until = min(memo.until, expires)
    return facts


def behind_header(spec: ColumnSpec) -> bytes:
    """Return the associated data after the header: it is constant for a column."""
    path = (spec.path.encode(),) if spec.path else ()
    return frame(spec.deployment.encode(), spec.tenant.encode(), spec.identity.encode(), *path)
