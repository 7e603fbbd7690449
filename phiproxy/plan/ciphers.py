"""Closures over keys for the plans: how a column's value is stored, searched and opened. Made once per column, run per value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from phiproxy.crypto.blind import ZERO_TAG, make_tagger
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, Record, draw_record, make_opener, make_sealer
from phiproxy.errors import IndexKeyWant, KeyNeeded, SealError, ValueRefused
from phiproxy.index.spelling import IDENTITY
from phiproxy.index.transform import transform
from phiproxy.policy.conditions import Condition, condition
from phiproxy.policy.guards import violation
from phiproxy.policy.protection import Check, ProtectedColumn, Slot
from phiproxy.policy.types import named_type
from phiproxy.types.comparing import form_of
from phiproxy.types.declared import DeclaredType
from phiproxy.types.registry import codec
from phiproxy.wire.values import assign_varchar, check_text

StoreFunction = Callable[[bytes, Record], bytes]
ValueFunction = Callable[[bytes], bytes]
Lower = Callable[[bytes], bytes]


class Ciphers:
    """The closures of one database's protected columns over one keyring."""

    def __init__(self, ring: Keyring, noticed: Callable[[str, DataKey], None] | None = None) -> None:
        self._ring = ring
        self._noticed = noticed
        self._memo = OpenMemo()
        self._store: dict[ProtectedColumn, StoreFunction] = {}
        self._wants: dict[ProtectedColumn, tuple[IndexKeyWant, ...]] = {}
        self._search: dict[tuple[int, int, int, DeclaredType, Lower | None], ValueFunction] = {}
        self._open: dict[str, ValueFunction] = {}
        self._conditions: dict[bytes, Condition] = {}

    def need_keys(self, columns: Iterable[ProtectedColumn], defaults: Iterable[ProtectedColumn] = ()) -> None:
        """Raise KeyNeeded for every index key that storing into these columns lacks, in one go and before anything is reserved.

        So it is of the keys that their constraints are sealed under, and the ``defaults`` of those columns.
        """
        columns = list(columns)
        has = self._ring.has
        missing = {want for column in columns for want in self._wants_of(column) if not has(want)}
        if missing:
            raise KeyNeeded(missing)
        for column in columns:
            for check in column.checks:
                self._condition(column, check)
        for column in defaults:
            self.default(column)

    def _wants_of(self, column: ProtectedColumn) -> tuple[IndexKeyWant, ...]:
        wants = self._wants.get(column)
        if wants is None:
            live = (s.number for s in column.slots if s.state != "dropped")
            wants = self._wants[column] = tuple(IndexKeyWant(column.number, slot) for slot in live)
        return wants

    def reserve(self, scope: str, rows: int) -> Callable[[], Record]:
        """Reserve one use per row and return what draws them; KeyNeeded when the lease does not hold as many."""
        key = self._ring.reserve(scope, rows)
        return lambda: draw_record(key)

    def store(self, column: ProtectedColumn) -> StoreFunction:
        """Return (plaintext, record) -> envelope with every registered slot filled.

        The closure applies the declared type as an assignment (22001, 22021) and raises KeyNeeded for a missing index key.
        """
        found = self._store.get(column)
        if found is None:
            found = self._store[column] = self._make_store(column)
        return found

    def _make_store(self, column: ProtectedColumn) -> StoreFunction:
        seal = make_sealer(_spec(column))
        limit = column.type.max_length
        violations = partial(self._violations, column) if column.checks else None
        slots = [self._slot(column, s) for s in _all_slots(column)]
        if not column.type.is_text:
            return self._make_typed_store(column, seal, slots)

        def store(value: bytes, record: Record) -> bytes:
            check_text(value)
            if value.startswith(b"\\x"):
                self._refuse_stored(column, value)
            if limit is not None:
                value = assign_varchar(value, limit)
            tags = [tag(value) for tag in slots]
            return seal(value, record, tags if violations is None else [*tags, *violations(value)])

        return store

    def define(self, column: ProtectedColumn, condition: bytes, record: Record) -> bytes:
        """Return the envelope of a condition over a column: it has no slots."""
        return make_sealer(_spec(column))(condition, record, ())

    def default(self, column: ProtectedColumn) -> bytes:
        """Return the constant that is a column's DEFAULT; KeyNeeded, SealError."""
        assert column.default is not None
        return self.open(column)(column.default)

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

    def _violations(self, column: ProtectedColumn, value: bytes) -> list[bytes]:
        """Return the slot that says which constraint a value does not satisfy, the first by name as the server has it; or none."""
        text = value.decode("utf-8")
        for check in column.checks:
            if self._condition(column, check)(text) is False:
                return [violation(check.definition)]
        return []

    def _make_typed_store(
        self, column: ProtectedColumn, seal: Callable[..., bytes], slots: Sequence[Callable[[bytes], bytes]]
    ) -> StoreFunction:
        """Return the closure for values that are in the canonical form of the column's type already."""
        violations = partial(self._violations, column) if column.checks else None

        def store(value: bytes, record: Record) -> bytes:
            if value.startswith(b"\\xf55001"):
                self._refuse_stored(column, value)
            tags = [tag(value) for tag in slots]
            return seal(value, record, tags if violations is None else [*tags, *violations(value)])

        return store

    def _refuse_stored(self, column: ProtectedColumn, value: bytes) -> None:
        """Refuse a text that spells what is stored in this column: a dump made past the proxy would be sealed once more."""
        if value[2:8].lower() != b"f55001":
            return
        try:
            self.open(column)(bytes.fromhex(value[2:].decode("ascii")))
        except (ValueError, SealError):
            return
        raise ValueRefused(
            f"the value for {column.label} is the spelling of a stored one", hint="Load a dump past the proxy the way it was made."
        )

    def _slot(self, column: ProtectedColumn, slot: Slot | None) -> Callable[[bytes], bytes]:
        if slot is None or slot.state == "dropped":
            return lambda _value: ZERO_TAG
        apply = transform(slot.expression, column.type.indexed_as, column.characters_of(slot)).apply
        tag = make_tagger(column.number, slot.number, slot.generation, self._ring)
        result = slot_type(column, slot)
        if result.is_text:
            return lambda value: tag(apply(value))
        form = codec(result, _lower(column, slot, result)).form
        return lambda value: tag(None if (found := apply(value)) is None else form(found))

    def search(self, column: ProtectedColumn, slot: Slot, type_: DeclaredType) -> ValueFunction:
        """Return value -> tag for a comparison with values of a type, whose canonical form it is in (crypto.md section 5).

        No length applies; of a text only 22021 is asked.
        """
        key = (column.number, slot.number, slot.generation, type_, _lower(column, slot, type_))
        found = self._search.get(key)
        if found is None:
            tag = make_tagger(*key[:3], self._ring)
            form = check_text if type_.is_text else form_of(type_, key[4])
            found = self._search[key] = lambda value: tag(form(value))
        return found

    def open(self, column: ProtectedColumn) -> ValueFunction:
        """Return envelope -> plaintext; SealError (XX001) or KeyNeeded."""
        found = self._open.get(column.identity)
        if found is None and column.base is not None:
            found = self._open[column.identity] = self._computed(column, column.base)
        if found is None:
            noticed = partial(self._noticed, column.label) if self._noticed is not None else None
            found = self._open[column.identity] = make_opener(_spec(column), self._ring, self._memo, noticed)
        return found

    def _computed(self, column: ProtectedColumn, base: ProtectedColumn) -> ValueFunction:
        """Return envelope -> what an expression makes of the plaintext: the server gives NULL where it is NULL."""
        opened, apply = self.open(base), transform(column.expression, base.type.indexed_as, base.characters).apply

        def computed(envelope: bytes) -> bytes:
            value = apply(opened(envelope))
            if value is None:
                raise SealError(f"a stored value of {column.label} has a tag that is not its own")
            return value

        return computed


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
