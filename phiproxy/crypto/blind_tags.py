"""Blind index tags: 16 bytes that are equal exactly when an expression's values are (spec/stored-format 6.1); knows no expressions.

HMAC-SHA-256 (RFC 2104), cut to 120 bits behind the slot's generation.
"""

from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.crypto.envelope import SLOT_LENGTH, frame
from phiproxy.crypto.key_derivation import Secret, expand
from phiproxy.crypto.keyring import Keyring
from phiproxy.long_values import LONG_VALUE

INDEX_LABEL: Final = b"phi/index/v1"
TAG_LABEL: Final = b"phi/tag/v1"
MASK_LABEL: Final = b"phi/mask/v1"

ZERO_TAG: Final = bytes(SLOT_LENGTH)
"""The slot's expression is NULL for this value, or the slot is dropped; no tag equals it, since no generation is 0."""

MAX_GENERATION = 255


def _before_form(length: int) -> bytes:
    """Return what ``frame`` puts before an equality form of this length: the label and the length."""
    return frame(TAG_LABEL) + length.to_bytes(4, "big")


# For the lengths that most have.
_SHORT: Final = 256
_BEFORE_FORM: Final = tuple(map(_before_form, range(_SHORT)))


def derive_index_key(root: Secret, identity: str, expression: str, normaliser: int) -> bytes:
    """Return the 32-byte key of an indexed expression, from the 32-byte index root of its scope and tenant.

    ``expression`` is in phiproxy's own spelling, as registered. Raises ValueError unless ``normaliser`` is 1...255.
    """
    if not 0 < normaliser <= 255:
        raise ValueError("normaliser version out of range")
    return expand(root, INDEX_LABEL, identity.encode(), expression.encode(), bytes([normaliser]))


def derive_mask_key(root: Secret, identity: str, role: str) -> bytes:
    """Return the 32-byte key of the pseudonyms that a role is shown of an identity's values, from the 32-byte index root."""
    return expand(root, MASK_LABEL, identity.encode(), role.encode())


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
    prefix = bytes([generation])

    def tag(form: bytes, keyed: Sequence[HMAC]) -> bytes:
        mac, length = keyed[position].copy(), len(form)
        if length > LONG_VALUE:  # not copied; while it is hashed another thread may go on
            mac.update(_before_form(length))
            mac.update(form)
        else:  # frame, by hand: it is the hot path
            mac.update((_BEFORE_FORM[length] if length < _SHORT else _before_form(length)) + form)
        return prefix + mac.finalize()[: SLOT_LENGTH - 1]

    return tag


def make_tags(generation: int, position: int = 0) -> Callable[[Sequence[bytes], Sequence[HMAC]], list[bytes]]:
    """Return ``tags(equality forms, HMACs) -> tags``: what ``make_tag`` gives for each of many short forms, in one loop."""
    if not 0 < generation <= MAX_GENERATION:
        raise ValueError("slot generation out of range")
    prefix, cut = bytes([generation]), SLOT_LENGTH - 1

    def tags(forms: Sequence[bytes], keyed: Sequence[HMAC]) -> list[bytes]:
        made: list[bytes] = []
        copy = keyed[position].copy
        for form in forms:
            mac, length = copy(), len(form)
            mac.update((_BEFORE_FORM[length] if length < _SHORT else _before_form(length)) + form)
            made.append(prefix + mac.finalize()[:cut])
        return made

    return tags
