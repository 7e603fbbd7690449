"""Blind index tags.

16 bytes that are equal exactly when an expression's values are (crypto.md section 6); knows no expressions.

HMAC-SHA-256 (RFC 2104), cut to 120 bits behind the slot's generation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final

from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.crypto.derive import Secret, expand
from phiproxy.crypto.envelope import SLOT_LENGTH, frame
from phiproxy.crypto.keyring import Keyring
from phiproxy.longvalues import LONG_VALUE

INDEX_LABEL: Final = b"phi/index/v1"
TAG_LABEL: Final = b"phi/tag/v1"

ZERO_TAG: Final = bytes(SLOT_LENGTH)
"""The slot's expression is NULL for this value, or the slot is dropped; no tag equals it, since no generation is 0."""

MAX_GENERATION = 255


def derive_index_key(root: Secret, identity: str, expression: str, normaliser: int) -> bytes:
    """Return the 32-byte key of an indexed expression, from the 32-byte index root of its scope and tenant.

    ``expression`` is in phiproxy's own spelling, as registered. Raises ValueError unless ``normaliser`` is 1...255.
    """
    if not 0 < normaliser <= 255:
        raise ValueError("normaliser version out of range")
    return expand(root, INDEX_LABEL, identity.encode(), expression.encode(), bytes([normaliser]))


def make_tagger(number: int, slot: int, generation: int, ring: Keyring) -> Callable[[bytes | None], bytes]:
    """Return ``tag(equality form) -> 16 bytes`` for one slot of one identity; None gives ZERO_TAG.

    The closure raises KeyNeeded when the index key is not in memory.
    """
    find, tag_under = ring.index_mac, make_tag(generation)
    return lambda form: ZERO_TAG if form is None else tag_under(form, (find(number, slot),))


def make_tag(generation: int, position: int = 0) -> Callable[[bytes, Sequence[HMAC]], bytes]:
    """Return ``tag(equality form, HMACs) -> 16 bytes`` for a slot of a generation; the HMAC at ``position`` is keyed for it.

    ValueError here unless ``generation`` is 1...255: generation 0 would make tags that could be taken for ZERO_TAG.
    """
    if not 0 < generation <= MAX_GENERATION:
        raise ValueError("slot generation out of range")
    prefix, label, pack_length = bytes([generation]), frame(TAG_LABEL), Struct(">I").pack

    def tag(form: bytes, keyed: Sequence[HMAC]) -> bytes:
        mac = keyed[position].copy()
        if len(form) > LONG_VALUE:  # not copied; while it is hashed another thread may go on
            mac.update(label + pack_length(len(form)))
            mac.update(form)
        else:
            mac.update(label + pack_length(len(form)) + form)  # frame, by hand: it is the hot path
        return prefix + mac.finalize()[: SLOT_LENGTH - 1]

    return tag
