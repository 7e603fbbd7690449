"""The slots of a column: what each has in it of a value, and what a column binds into its values."""

from collections.abc import Callable

from phiproxy.crypto.blind_tags import ZERO_TAG, make_tag
from phiproxy.crypto.seal import ColumnSpec
from phiproxy.index.spelling import IDENTITY
from phiproxy.index.transform import transform
from phiproxy.plan.field_ciphers import Macs
from phiproxy.policy.column_types import named_type
from phiproxy.policy.protection import ProtectedColumn, Slot
from phiproxy.types.codecs import codec
from phiproxy.types.declared import DeclaredType

Lower = Callable[[bytes], bytes]
SlotFunction = Callable[[bytes, Macs], bytes]


def slot_function(column: ProtectedColumn, slot: Slot | None, position: int) -> SlotFunction:
    """Return (value, index keys of the column) -> tag of a slot of ``all_slots``, whose key is at ``position`` of these."""
    if slot is None:
        return lambda _value, _macs: ZERO_TAG
    tag, result = make_tag(slot.generation, position), slot_type(column, slot)
    form = None if result.is_text else codec(result, lower_of(column, slot, result)).form
    if slot.expression == IDENTITY and form is None:
        return tag
    apply = transform(slot.expression, column.type.indexed_as, column.characters_of(slot)).apply

    def made(value: bytes, macs: Macs) -> bytes:
        derived = apply(value)
        if derived is None:
            return ZERO_TAG
        return tag(derived if form is None else form(derived), macs)

    return made


def slot_type(column: ProtectedColumn, slot: Slot) -> DeclaredType:
    """Return the type of what a slot's tags are of."""
    if slot.expression == IDENTITY:
        return column.type
    return named_type(transform(slot.expression, column.type.indexed_as).result)


def lower_of(column: ProtectedColumn, slot: Slot, type_: DeclaredType) -> Lower | None:
    """Return what citext compares by; no other type has any."""
    return column.characters_of(slot).lower if type_.ignores_case else None


def spec_of(column: ProtectedColumn) -> ColumnSpec:
    """Return what a column binds into its values."""
    return ColumnSpec(column.deployment, column.tenant, column.identity, column.number, column.pad, column.path)


def all_slots(column: ProtectedColumn) -> list[tuple[Slot | None, int]]:
    """Return (slot, position of its key among those that are live) per slot number up to the highest.

    So there are highest + 1 (spec/stored-format 6.5); None where a number has no slot, or one that was dropped.
    """
    by_number = {s.number: s for s in column.slots if s.state != "dropped"}
    found, live = list[tuple[Slot | None, int]](), 0
    for number in range(max((s.number for s in column.slots), default=-1) + 1):
        slot = by_number.get(number)
        found.append((slot, live))
        live += slot is not None
    return found
