"""Envelopes by the names of their fields."""

from __future__ import annotations

from typing import NamedTuple

from phiproxy.crypto.envelope import FIXED_HEADER, SLOT_LENGTH, envelope_parts


class Envelope(NamedTuple):
    """One parsed envelope: ``header`` is everything before the salt, slots included, ``sealed`` ciphertext and GCM tag."""

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


def parse_envelope(data: bytes, number: int | None = None) -> Envelope:
    """Parse one whole stored value; with ``number``, refuse every other identity's.

    Raises SealError (XX001) with a constant text for everything that is not an envelope of version 1.
    """
    return Envelope._make(envelope_parts(data, number))
