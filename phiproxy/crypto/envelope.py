"""The stored bytes of one value: framing, header, associated data, padding (envelope version 1); knows no keys.

What is parsed here comes from tables that an attacker may write, so everything is refused that is not exactly version
1, and no refusal says more than a constant: never a byte of what was read.
"""

from struct import Struct

from phiproxy.errors import SealError

MAGIC = b"\xf5\x50"
"""First two bytes of every envelope; F5 never occurs in UTF-8."""

VERSION = 1
SUITE = 1
"""Record key by HKDF-SHA-256, then AES-256-GCM."""

FLAG_PADDED = 0x01
FLAG_FIELD = 0x02
"""The value is a field of a document: its path is bound into the associated data."""
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
"""Associated data are ``frame("phi/aad/v1", header, deployment, tenant, identity)``, and the path of a field behind that."""

_HEADER = Struct(">2sBBBIHB")
_unpack_header = _HEADER.unpack_from
_UINT32 = Struct(">I")


def frame(*parts: bytes) -> bytes:
    """Encode byte strings so that no two different tuples encode equally: per part, 4-byte big-endian length and bytes.

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


def build_header(key_id: int, number: int, slots: bytes, *, padded: bool, field: bool = False) -> bytes:
    """Return the ``12 + 16*k`` header bytes for k ``slots``, which are 16 bytes each, in slot order.

    Raises ValueError when an id, a number or a slot has no place in the format: a caller's mistake, never a property of data.
    """
    count, rest = divmod(len(slots), SLOT_LENGTH)
    if not (0 < key_id <= MAX_KEY_ID and 0 < number <= MAX_NUMBER and count <= MAX_SLOTS):
        raise ValueError("key id, identity number or number of slots out of range")
    if rest:
        raise ValueError("a slot is not 16 bytes")
    flags = (FLAG_PADDED if padded else 0) | (FLAG_FIELD if field else 0)
    return _HEADER.pack(MAGIC, VERSION, SUITE, flags, key_id, number, count) + slots


def envelope_parts(
    data: bytes, number: int | None = None, *, field: bool = False
) -> tuple[int, int, bool, bytes, bytes, bytes, bytes]:
    """Return data key id, identity number, whether it is padded, header, salt, nonce, and ciphertext with GCM tag of a value.

    With ``number``, every other identity's is refused; ``field``: it is that of a field of a document. SealError (XX001) with a
    constant text for everything that is not an envelope of version 1. A bare tuple: a name for each field costs as much as the
    parsing.
    """
    if len(data) < OVERHEAD:
        raise SealError("stored value is not an envelope")
    magic, version, suite, flags, key_id, read_slots, k = _unpack_header(data)
    if magic != MAGIC:
        raise SealError("stored value is not an envelope")
    if version != VERSION or suite != SUITE or flags & ~FLAG_PADDED != (FLAG_FIELD if field else 0):
        raise SealError("stored value has a version, suite or flag that this version does not open")
    if key_id == 0 or read_slots == 0:
        raise SealError("stored value is not a well-formed envelope")
    if number is not None and read_slots != number:
        raise SealError("stored value belongs to another column")
    end = FIXED_HEADER + SLOT_LENGTH * k
    body = end + SALT_LENGTH + NONCE_LENGTH
    # A padded plaintext has at least one byte, so its ciphertext has too.
    padded = bool(flags & FLAG_PADDED)
    if len(data) < body + GCM_TAG_LENGTH + padded:
        raise SealError("stored value is not a well-formed envelope")
    salt_end = end + SALT_LENGTH
    return key_id, read_slots, padded, data[:end], data[end:salt_end], data[salt_end:body], data[body:]


def pad(plaintext: bytes, multiple: int) -> bytes:
    """Append ``80`` and then ``00`` bytes up to the next multiple, at least one byte (ISO/IEC 7816-4)."""
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
