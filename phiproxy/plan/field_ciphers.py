"""What a document asks of its database's ciphers for its fields; so that these may ask the document's own in turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.crypto.seal import Note, OpenSpan, Record, RecordKeys
from phiproxy.errors import IndexKeyWant
from phiproxy.long_values import LongWork
from phiproxy.plan.row_counts import RowCounts
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.types.declared import DeclaredType

Macs = Sequence[HMAC]
"""A column's index keys, one for each slot that is live, in slot order; of a document those of its fields, one after the other."""


class RowStoreFunction(Protocol):
    """Seals a value."""

    def __call__(self, value: bytes, record: Record, macs: Macs, keys: RecordKeys | None = None, /) -> bytes:
        """Return what the server gets. ``keys`` open what a document spells that is stored; without them the keyring is asked."""


Made = tuple[RowStoreFunction, tuple[IndexKeyWant, ...]]


class FieldCiphers(Protocol):
    """The part of ``Ciphers`` that documents use; what each does is said there."""

    counts: RowCounts

    def made(self, column: ProtectedColumn) -> Made:
        """Return what seals values of a field, and the index keys that it takes."""

    def search(self, column: ProtectedColumn, slot: Slot, type_: DeclaredType) -> Callable[[bytes], bytes]:
        """Return value -> tag."""

    @property
    def long_work(self) -> LongWork:
        """Who does what a long value takes while it is opened."""

    def look_at_clock(self) -> None:
        """Let no key be used that has expired."""

    def open_span(self, column: ProtectedColumn) -> OpenSpan:
        """Return what opens values of a field, for a run of them."""

    def sealing_once(self, column: ProtectedColumn) -> Callable[[bytes, Record], bytes]:
        """Return what seals values without tags, and is not remembered."""

    def opening_once(self, column: ProtectedColumn, label: str) -> OpenSpan:
        """Return what opens such values, noted under ``label``."""

    def record_keys(
        self, column: ProtectedColumn, records: Mapping[tuple[int, bytes], Mapping[tuple[str, bool], int]]
    ) -> RecordKeys:
        """Return the record keys of (data key, salt), and note what is opened by each."""

    def opening_by(self, column: ProtectedColumn, keys: RecordKeys) -> OpenSpan:
        """Return what opens values of a field by record keys; for any thread."""

    def unopened(self, column: ProtectedColumn) -> Note | None:
        """Return what notes that a mask of a field is shown for which no value was opened."""

    def digest(self, column: ProtectedColumn, *, apart: bool = False) -> Callable[[bytes], bytes]:
        """Return value -> HMAC-SHA-256 of what it is equal by."""
