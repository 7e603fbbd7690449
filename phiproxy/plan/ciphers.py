"""Closures over keys for the plans: how a column's value is stored, searched and opened. Made once per column, run per value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.crypto.blind import ZERO_TAG, make_tag, make_tagger
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, OpenSpan, Record, draw_record, draw_records, make_sealer, make_span_opener
from phiproxy.errors import IndexKeyWant, KeyNeeded, SealError, ValueRefused, WriteKeyWant
from phiproxy.index.spelling import IDENTITY
from phiproxy.index.transform import transform
from phiproxy.longvalues import LONG_VALUE, LongWork
from phiproxy.policy.conditions import Condition, condition
from phiproxy.policy.guards import violation
from phiproxy.policy.protection import Check, ProtectedColumn, Slot
from phiproxy.policy.types import named_type
from phiproxy.types.comparing import form_of
from phiproxy.types.declared import DeclaredType
from phiproxy.types.registry import codec
from phiproxy.wire.arrays import Array
from phiproxy.wire.values import assign_varchar, check_text

StoreFunction = Callable[[bytes, Record], bytes]
Macs = Sequence[HMAC]
"""A column's index keys, one for each slot that is live, in slot order."""
RowStoreFunction = Callable[[bytes, Record, Macs], bytes]
SlotFunction = Callable[[bytes, Macs], bytes]
ValueFunction = Callable[[bytes], bytes]
Lower = Callable[[bytes], bytes]


class Ciphers:
    """The closures of one database's protected columns over one keyring."""

    def __init__(self, ring: Keyring, noticed: Callable[[str, DataKey], None] | None = None) -> None:
        self._ring = ring
        self._clock = ring.clock
        self._noticed = noticed
        self._memo = OpenMemo()
        self._store: dict[ProtectedColumn, tuple[RowStoreFunction, tuple[IndexKeyWant, ...]]] = {}
        self._search: dict[tuple[int, int, int, DeclaredType, Lower | None], ValueFunction] = {}
        self._open: dict[str, OpenSpan] = {}
        self._conditions: dict[bytes, Condition] = {}

    def macs(self, columns: Sequence[ProtectedColumn]) -> list[Macs]:
        """Return the index keys of each column, for the rows that are stored now.

        Raises KeyNeeded for all that are missing, in one go and before anything is reserved; then for those that the columns'
        constraints are sealed under.
        """
        return self.macs_of(columns)()

    def macs_of(self, columns: Sequence[ProtectedColumn]) -> Callable[[], list[Macs]]:
        """Return what gives ``macs`` of these columns, time and again."""
        take = partial(self._ring.index_macs, [self._made(column)[1] for column in columns])
        checked = [column for column in columns if column.checks]
        if not checked:
            return take

        def take_all() -> list[Macs]:
            found = take()
            for column in checked:
                self._open_conditions(column)
            return found

        return take_all

    def reserve(self, scope: str, rows: int) -> Callable[[], Record]:
        """Reserve one use per row and return what draws them; KeyNeeded when the lease does not hold as many."""
        return partial(draw_record, self._ring.reserve(scope, rows))

    def draw(self, scope: str, rows: int) -> list[Record]:
        """Reserve one use per row and draw them; KeyNeeded as of ``reserve``."""
        return draw_records(self._ring.reserve(scope, rows), rows)

    def draw_slices(self, scope: str, rows: int, size: int) -> Iterator[list[Record]]:
        """Reserve one use per row now, and draw them so many at a time; KeyNeeded as of ``reserve``.

        KeyNeeded also where the key is given up between two slices, by another session's renewal: then they are to be drawn anew.
        """
        key = self._ring.reserve(scope, rows)
        for begin in range(0, rows, size):
            try:
                yield draw_records(key, min(size, rows - begin))
            except ValueError:
                raise KeyNeeded({WriteKeyWant(scope, rows)}) from None

    def store(self, column: ProtectedColumn) -> StoreFunction:
        """Return (plaintext, record) -> envelope with every registered slot filled.

        The closure applies the declared type as an assignment (22001, 22021) and raises KeyNeeded for a missing index key.
        """
        store, macs = self.row_store(column), self.macs_of([column])
        return lambda value, record: store(value, record, macs()[0])

    def stores(
        self, columns: Sequence[ProtectedColumn], defaults: Iterable[ProtectedColumn] = ()
    ) -> dict[ProtectedColumn, StoreFunction]:
        """Return ``store`` of each column for one execution, with the index keys of now.

        Raises KeyNeeded as of ``macs``, and for what the ``defaults`` of columns are sealed under.
        """
        made = [self._made(column) for column in columns]
        found = {}
        for column, (store, _), macs in zip(columns, made, self._ring.index_macs([wants for _, wants in made]), strict=True):
            if column.checks:
                self._open_conditions(column)
            found[column] = _under(store, macs)
        for column in defaults:
            self.default(column)
        return found

    def row_store(self, column: ProtectedColumn) -> RowStoreFunction:
        """Return (plaintext, record, what ``macs`` gives of the column) -> envelope, as ``store`` does."""
        return self._made(column)[0]

    def _made(self, column: ProtectedColumn) -> tuple[RowStoreFunction, tuple[IndexKeyWant, ...]]:
        """Return what stores into a column, and the index keys that this takes."""
        found = self._store.get(column)
        if found is None:
            column.refuse_distrusted()
            live = (slot for slot in _all_slots(column) if slot is not None and slot.state != "dropped")
            wants = tuple(IndexKeyWant(column.number, slot.number) for slot in live)
            found = self._store[column] = self._make_store(column), wants
        return found

    def _make_store(self, column: ProtectedColumn) -> RowStoreFunction:
        seal, tags = make_sealer(_spec(column)), self._tags(column)
        limit = column.type.max_length
        if not column.type.is_text:
            return self._make_typed_store(column, seal, tags)

        def store(value: bytes, record: Record, macs: Macs) -> bytes:
            if len(value) > LONG_VALUE or 0 in value or not value.isascii():  # no call where there is nothing to say
                check_text(value)
            if value[:2] == b"\\x":
                self._refuse_stored(column, value)
            if limit is not None:
                value = assign_varchar(value, limit)
            return seal(value, record, tags(value, macs))

        return store

    def define(self, column: ProtectedColumn, condition: bytes, record: Record) -> bytes:
        """Return the envelope of a condition over a column: it has no slots."""
        return make_sealer(_spec(column))(condition, record, b"")

    def default(self, column: ProtectedColumn) -> bytes:
        """Return the constant that is a column's DEFAULT; KeyNeeded, SealError."""
        assert column.default is not None
        return self.open(column)(column.default)

    def _open_conditions(self, column: ProtectedColumn) -> None:
        for check in column.checks:
            self._condition(column, check)

    def _condition(self, column: ProtectedColumn, check: Check) -> Condition:
        """Return the condition of a constraint; KeyNeeded, SealError."""
        found = self._conditions.get(check.definition)
        if found is None:
            opened = self.open(column)(check.definition)
            try:
                found = self._conditions[check.definition] = condition(opened)
            except (ValueError, LookupError, TypeError):
                raise SealError(f"what constraint {check.name} of {column.label} says is not a condition") from None
        return found

    def _violation(self, column: ProtectedColumn, value: bytes) -> bytes:
        """Return the slot that says which constraint a value does not satisfy, the first by name as the server has it; or none."""
        text = value.decode("utf-8")
        for check in column.checks:
            if self._condition(column, check)(text) is False:
                return violation(check.definition)
        return b""

    def _make_typed_store(self, column: ProtectedColumn, seal: Callable[..., bytes], tags: SlotFunction) -> RowStoreFunction:
        """Return the closure for values that are in the canonical form of the column's type already."""

        def store(value: bytes, record: Record, macs: Macs) -> bytes:
            if value[:8] == b"\\xf55001":
                self._refuse_stored(column, value)
            return seal(value, record, tags(value, macs))

        return store

    def _refuse_stored(self, column: ProtectedColumn, value: bytes) -> None:
        """Refuse a text that spells what is stored in this column: a dump made past the proxy would be sealed once more."""
        if not spells_stored(value):
            return
        try:
            self.open(column)(bytes.fromhex(value[2:].decode("ascii")))
        except (ValueError, SealError):
            return
        raise ValueRefused(
            f"the value for {column.label} is the spelling of a stored one", hint="Load a dump past the proxy the way it was made."
        )

    def _tags(self, column: ProtectedColumn) -> SlotFunction:
        """Return what makes all slots of a value, each behind the other."""
        slots, live = list[SlotFunction](), 0
        for slot in _all_slots(column):
            slots.append(_slot(column, slot, live))
            live += slot is not None and slot.state != "dropped"
        if column.checks:
            slots.append(lambda value, _macs: self._violation(column, value))
        if len(slots) == 1:
            return slots[0]
        return lambda value, macs: b"".join([slot(value, macs) for slot in slots])

    def search(self, column: ProtectedColumn, slot: Slot, type_: DeclaredType) -> ValueFunction:
        """Return value -> tag for a comparison with values of a type, whose canonical form it is in (crypto.md section 5).

        No length applies; of a text only 22021 is asked.
        """
        column.refuse_distrusted()
        key = (column.number, slot.number, slot.generation, type_, _lower(column, slot, type_))
        found = self._search.get(key)
        if found is None:
            tag = make_tagger(*key[:3], self._ring)
            found = self._search[key] = _text_search(tag) if type_.is_text else _search(tag, form_of(type_, key[4]))
        return found

    def open(self, column: ProtectedColumn) -> ValueFunction:
        """Return envelope -> plaintext; SealError (XX001) or KeyNeeded."""
        open_span = self.open_span(column)

        def open_value(envelope: bytes) -> bytes:
            self.look_at_clock()
            return open_span(envelope, 0, len(envelope))

        return open_value

    @property
    def long_work(self) -> LongWork:
        """Who does what a long value takes while it is opened."""
        return self._memo.long_work

    def look_at_clock(self) -> None:
        """Let no key be used that has expired: to be called before each run of values that ``open_span`` opens."""
        if self._clock() >= self._memo.until:
            self._memo.forget_headers()

    def open_span(self, column: ProtectedColumn) -> OpenSpan:
        """Return (data, begin, end of an envelope) -> plaintext, for a run of values; SealError (XX001) or KeyNeeded."""
        found = self._open.get(column.identity)
        if found is None:
            column.refuse_distrusted()
        if found is None and column.shown_of is not None:
            found = self._open[column.identity] = self.open_span(column.shown_of)
        if found is None and column.base is not None:
            found = self._open[column.identity] = self._computed(column, column.base)
        if found is None:
            noticed = partial(self._noticed, column.label) if self._noticed is not None else None
            found = self._open[column.identity] = make_span_opener(_spec(column), self._ring, self._memo, noticed)
        return found

    def _computed(self, column: ProtectedColumn, base: ProtectedColumn) -> OpenSpan:
        """Return envelope -> what an expression makes of the plaintext: the server gives NULL where it is NULL."""
        opened, apply = self.open_span(base), transform(column.expression, base.type.indexed_as, base.characters).apply

        def computed(data: bytes, begin: int, end: int) -> bytes:
            value = apply(opened(data, begin, end))
            if value is None:
                raise SealError(f"a stored value of {column.label} has a tag that is not its own")
            return value

        return computed


def spells_stored(value: bytes | Array) -> bool:
    """Tell whether a value may be the spelling of a stored one, which is opened, by its column's key, to be told."""
    if isinstance(value, Array):
        return any(element is not None and spells_stored(element) for element in value.elements)
    return value[:2] == b"\\x" and value[2:8].lower() == b"f55001"


def _search(tag: ValueFunction, form: ValueFunction) -> ValueFunction:
    return lambda value: tag(form(value))


def _text_search(tag: ValueFunction) -> ValueFunction:
    def search(value: bytes) -> bytes:
        if 0 in value or not value.isascii():  # no call where there is nothing to say
            check_text(value)
        return tag(value)

    return search


def _under(store: RowStoreFunction, macs: Macs) -> StoreFunction:
    return lambda value, record: store(value, record, macs)


def _slot(column: ProtectedColumn, slot: Slot | None, position: int) -> SlotFunction:
    """Return what makes one slot of a value, under the key at this position."""
    if slot is None or slot.state == "dropped":
        return lambda _value, _macs: ZERO_TAG
    tag, result = make_tag(slot.generation, position), slot_type(column, slot)
    form = None if result.is_text else codec(result, _lower(column, slot, result)).form
    if slot.expression == IDENTITY and form is None:
        return tag
    apply = transform(slot.expression, column.type.indexed_as, column.characters_of(slot)).apply

    def made(value: bytes, macs: Macs) -> bytes:
        found = apply(value)
        if found is None:
            return ZERO_TAG
        return tag(found if form is None else form(found), macs)

    return made


def slot_type(column: ProtectedColumn, slot: Slot) -> DeclaredType:
    """Return the type of what a slot's tags are of."""
    if slot.expression == IDENTITY:
        return column.type
    return named_type(transform(slot.expression, column.type.indexed_as).result)


def _lower(column: ProtectedColumn, slot: Slot, type_: DeclaredType) -> Lower | None:
    """Return what citext compares by; no other type has any."""
    return column.characters_of(slot).lower if type_.ignores_case else None


def _spec(column: ProtectedColumn) -> ColumnSpec:
    return ColumnSpec(column.deployment, column.tenant, column.identity, column.number, column.pad)


def _all_slots(column: ProtectedColumn) -> list[Slot | None]:
    """Return one entry per slot number up to the highest: k = highest + 1 (crypto.md section 6)."""
    by_number = {s.number: s for s in column.slots}
    return [by_number.get(i) for i in range(max(by_number, default=-1) + 1)]
