"""The stored bytes of one value: framing, header, associated data, padding (envelope version 1); knows no keys.

What is parsed here comes from tables that an attacker may write, so everything is refused that is not exactly version
1, and no refusal says more than a constant: never a byte of what was read.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from phiproxy.errors import SealError

MAGIC = b"\xf5\x50"
"""First two bytes of every envelope; F5 never occurs in UTF-8."""

VERSION = 1
SUITE = 1
"""Record key by HKDF-SHA-256, then AES-256-GCM."""

FLAG_PADDED = 0x01
SLOT_LENGTH = 16
SALT_LENGTH = 16
NONCE_LENGTH = 12
GCM_TAG_LENGTH = 16
FIXED_HEADER = 12
OVERHEAD = 56
"""Bytes of an envelope of the empty string without slots."""

MAX_SLOTS = 255
LONGEST_HEAD = FIXED_HEADER + SLOT_LENGTH * MAX_SLOTS + SALT_LENGTH + NONCE_LENGTH + GCM_TAG_LENGTH + 1
"""As many bytes of an envelope tell whether it is well-formed: of what is behind them only the tag of the cipher tells anything."""
MAX_KEY_ID = 0xFFFF_FFFF
MAX_NUMBER = 0xFFFF
MIN_PAD, MAX_PAD = 2, 65536

AAD_LABEL = b"phi/aad/v1"

_HEADER = Struct(">2sBBBIHB")
_unpack_header = _HEADER.unpack_from
_UINT32 = Struct(">I")


class Envelope(NamedTuple):
    """One parsed envelope.

    ``sealed`` is ciphertext and GCM tag; ``header`` is everything before the salt, slots included.
    """

    key_id: int
    number: int
    padded: bool
    header: bytes
    salt: bytes
    nonce: bytes
    sealed: bytes

    @property
    def slots(self) -> tuple[bytes, ...]:
        """The tag slots, 16 bytes each, in slot order."""
        return tuple(self.header[i : i + SLOT_LENGTH] for i in range(FIXED_HEADER, len(self.header), SLOT_LENGTH))


def frame(*parts: bytes) -> bytes:
    """Encode a tuple of byte strings so that no two different tuples encode equally.

    Per part, 4-byte big-endian length and bytes.

    Raises TypeError for anything but bytes: a str must choose its encoding, a number its spelling, before it gets here.
    """
    pieces = []
    for part in parts:
        if not isinstance(part, bytes):
            msg = "frame takes bytes only"
            raise TypeError(msg)
        pieces.append(_UINT32.pack(len(part)))
        pieces.append(part)
    return b"".join(pieces)


def build_header(key_id: int, number: int, slots: bytes, *, padded: bool) -> bytes:
    """Return the ``12 + 16*k`` header bytes for k ``slots``, which are 16 bytes each, in slot order.

    Raises ValueError when an id, a number or a slot has no place in the format: a caller's mistake, never a property
    of data.
    """
    count, rest = divmod(len(slots), SLOT_LENGTH)
    if not (0 < key_id <= MAX_KEY_ID and 0 < number <= MAX_NUMBER and count <= MAX_SLOTS):
        raise ValueError("key id, identity number or number of slots out of range")
    if rest:
        raise ValueError("a slot is not 16 bytes")
    flags = FLAG_PADDED if padded else 0
    return _HEADER.pack(MAGIC, VERSION, SUITE, flags, key_id, number, count) + slots


def aad(header: bytes, deployment: str, tenant: str, identity: str) -> bytes:
    """Return the associated data of one value: ``frame("phi/aad/v1", header, deployment, tenant, identity)``."""
    return frame(AAD_LABEL, header, deployment.encode(), tenant.encode(), identity.encode())


def parse_envelope(data: bytes, number: int | None = None) -> Envelope:
    """Parse one whole stored value; with ``number``, refuse every other identity's.

    Raises SealError (XX001) with a constant text for everything that is not an envelope of version 1.
    """
    return Envelope._make(envelope_parts(data, number))


def envelope_parts(data: bytes, number: int | None = None) -> tuple[int, int, bool, bytes, bytes, bytes, bytes]:
    """Return the fields of ``parse_envelope`` as a bare tuple: a name for each costs as much as the parsing."""
    if len(data) < OVERHEAD:
        raise SealError("stored value is not an envelope")
    magic, version, suite, flags, key_id, found, k = _unpack_header(data)
    if magic != MAGIC:
        raise SealError("stored value is not an envelope")
    if version != VERSION or suite != SUITE or flags > FLAG_PADDED:
        raise SealError("stored value has a version, suite or flag that this version does not open")
    if key_id == 0 or found == 0:
        raise SealError("stored value is not a well-formed envelope")
    if number is not None and found != number:
        raise SealError("stored value belongs to another column")
    end = FIXED_HEADER + SLOT_LENGTH * k
    body = end + SALT_LENGTH + NONCE_LENGTH
    # A padded plaintext has at least one byte, so its ciphertext has too.
    if len(data) < body + GCM_TAG_LENGTH + flags:
        raise SealError("stored value is not a well-formed envelope")
    salt_end = end + SALT_LENGTH
    padded = flags == FLAG_PADDED
    return key_id, found, padded, data[:end], data[end:salt_end], data[salt_end:body], data[body:]


def pad(plaintext: bytes, multiple: int) -> bytes:
    """Append ``80`` and then ``00`` bytes up to the next multiple (ISO/IEC 7816-4).

    At least one byte is always added.
    """
    return plaintext + padding(len(plaintext), multiple)


def padding(length: int, multiple: int) -> bytes:
    """Return what ``pad`` appends to so many bytes."""
    return b"\x80" + b"\x00" * (-(length + 1) % multiple)


def unpad(padded: bytes) -> bytes:
    """Undo ``pad`` whatever the multiple was; SealError when there is no ``80`` before the trailing zeros."""
    stripped = padded.rstrip(b"\x00")
    if not stripped.endswith(b"\x80"):
        raise SealError("stored value has no valid padding")
    return stripped[:-1]


def unpad_pieces(padded: list[bytes]) -> list[bytes]:
    """Do what ``unpad`` does, of a value in pieces."""
    pieces = list(padded)
    while pieces and not (pieces[-1] and pieces[-1].rstrip(b"\x00")):
        pieces.pop()
    return [*pieces[:-1], unpad(pieces[-1] if pieces else b"")]
