"""What a column of many rows is sealed by at once: for texts of which nothing need be asked one by one, as most of COPY's are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

from phiproxy.crypto.blind_tags import make_tags
from phiproxy.crypto.seal_rows import RowKeys, SealColumn, make_column_sealer
from phiproxy.index.spelling import IDENTITY
from phiproxy.plan.field_ciphers import Macs
from phiproxy.plan.slot_tags import all_slots, slot_function, spec_of

if TYPE_CHECKING:
    from phiproxy.plan.column_ciphers import Ciphers
    from phiproxy.policy.protection import ProtectedColumn, Slot

_Tags = Callable[[Sequence[bytes], Macs], list[bytes]]


@dataclass(frozen=True, slots=True)
class ColumnStore:
    """Seals the values of one column, which are short texts in ASCII without zero bytes and backslashes.

    The two functions together do for all of them what ``Ciphers.row_store`` does for each. ``slots`` gives the slots of each value,
    and raises ValueRefused where one has no value of an indexed expression. ``limit`` is how long a value may be.
    """

    limit: int | None
    slots: Callable[[Sequence[bytes], Macs], list[bytes]]
    seal: SealColumn

    def takes(self, values: Sequence[bytes]) -> bool:
        """Tell whether none of these is too long."""
        return self.limit is None or max(map(len, values)) <= self.limit


def _tags(column: ProtectedColumn, slot: Slot | None, position: int) -> _Tags:
    if slot is not None and slot.expression == IDENTITY and column.type.is_text:  # it is its own equality form
        return make_tags(slot.generation, position)
    tag = slot_function(column, slot, position)
    return lambda values, macs: [tag(value, macs) for value in values]


def column_store(ciphers: Ciphers, column: ProtectedColumn, *, canonical: bool = False) -> ColumnStore | None:
    """Return what seals a column's values at once; None where each must be looked at: no texts, documents, or constraints.

    ``canonical``: values of other types than texts come in the form in which they are sealed.
    """
    if not (column.type.is_text or canonical) or column.document is not None or column.checks or column.form != "bytea":
        return None
    column.refuse_distrusted()
    tags = [_tags(column, slot, position) for slot, position in all_slots(column)]
    seal_column, tally = make_column_sealer(spec_of(column)), ciphers.counts.stored(column.label)

    def slots(values: Sequence[bytes], macs: Macs) -> list[bytes]:
        if not tags:
            return [*repeat(b"", len(values))]
        of_slots = [tags_of(values, macs) for tags_of in tags]
        return of_slots[0] if len(tags) == 1 else [*map(b"".join, zip(*of_slots, strict=True))]

    def seal(values: Sequence[bytes], rows: RowKeys, slots: Sequence[bytes]) -> list[bytes]:
        tally[0] += len(values)
        return seal_column(values, rows, slots)

    return ColumnStore(column.type.max_length, slots, seal)
