"""Closures over keys for the plans: how a column's value is stored, searched and opened. Made once per column, run per value."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from phiproxy.access.rules import Masked
from phiproxy.crypto.blind_tags import make_tagger
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.crypto.seal import (
    ColumnSpec,
    KnownHeader,
    Note,
    OpenMemo,
    OpenSpan,
    Record,
    RecordKeys,
    default_spec,
    draw_records,
    make_opener,
    make_record_opener,
    make_sealer,
    make_span_opener,
    record_key_of,
)
from phiproxy.crypto.seal_rows import RowKeys, draw_row_keys
from phiproxy.errors import IndexKeyWant, KeyNeeded, KeyWant, SealError, ValueRefused, WriteKeyWant
from phiproxy.index.transform import transform
from phiproxy.long_values import LONG_JSON, LONG_VALUE, LongWork
from phiproxy.plan.document_ciphers import opening, sealing, searching_json, showing
from phiproxy.plan.field_ciphers import Macs, Made, RowStoreFunction
from phiproxy.plan.row_counts import RowCounts
from phiproxy.plan.slot_tags import Lower, SlotFunction, all_slots, lower_of, slot_function, spec_of
from phiproxy.plan.spelled_values import RecordNames, SpelledKeys, envelope_spelled, needed_together, spells_stored
from phiproxy.policy.check_evaluation import Condition, condition
from phiproxy.policy.physical_columns import violation
from phiproxy.policy.protection import Check, ProtectedColumn, Slot
from phiproxy.policy.view_rests import ViewRest
from phiproxy.types.codecs import codec
from phiproxy.types.comparable_operands import form_of
from phiproxy.types.declared import DeclaredType
from phiproxy.types.value_errors import ChildMayRefuse
from phiproxy.wire.bytea_and_text import assign_varchar, check_text
from phiproxy.wire.fields import FieldFunctionOrNull


class StoreFunction(Protocol):
    """Seals a value for one execution."""

    def __call__(self, value: bytes, record: Record, keys: RecordKeys | None = None, /) -> bytes:
        """Return what the server gets, as ``RowStoreFunction`` does."""


ValueFunction = Callable[[bytes], bytes]


# Of record keys so many are derived before others have their turn: half a millisecond.
_KEYS_AT_ONCE = 256


class Noticed(Protocol):
    """Returns what notes openings of a column under a data key, or (None) masks of it that are shown without an opening."""

    def __call__(self, column: str, key: DataKey | None, *, masked: bool) -> Note | None:
        """``masked``: a mask is shown instead of the value."""


class Ciphers:
    """The closures of one database's protected columns over one keyring."""

    def __init__(self, ring: Keyring, noticed: Noticed | None = None, counts: RowCounts | None = None) -> None:
        self._ring = ring
        self.counts = counts if counts is not None else RowCounts()
        self._clock = ring.clock
        self._noticed = noticed
        self.note_subject: Callable[[tuple[int, bytes | None]], None] | None = None
        """Told, where there is an audit log, the number and value of each subject column of each row."""
        self._memo = OpenMemo()
        self._store: dict[ProtectedColumn, Made] = {}
        self._search: dict[tuple[int, int, int, DeclaredType, Lower | None], ValueFunction] = {}
        self._open: dict[tuple[str, str, bool | Masked | None], OpenSpan] = {}
        self._shown: dict[tuple[str, str, Masked], FieldFunctionOrNull] = {}
        self._known: dict[Callable[..., bytes | None], KnownHeader] = {}
        self._conditions: dict[bytes, Condition] = {}
        self._default_texts: dict[tuple[int, bytes], bytes] = {}
        self.views: dict[bytes, ViewRest] = {}
        """What computes views over expressions, by what it is sealed as, as far as it was opened."""

    def macs(self, columns: Sequence[ProtectedColumn]) -> list[Macs]:
        """Return the index keys of each column, for the rows that are stored now.

        Raises KeyNeeded once for all that are missing, before anything is reserved; then for those that constraints need.
        """
        take = self._with_conditions(partial(self._ring.index_macs, self._wants(columns)), columns)
        return take()

    def macs_of(self, columns: Sequence[ProtectedColumn]) -> Callable[[], list[Macs]]:
        """Return what gives ``macs`` of these columns, time and again."""
        return self._with_conditions(self._ring.index_macs_of(self._wants(columns)), columns)

    def _wants(self, columns: Sequence[ProtectedColumn]) -> list[tuple[IndexKeyWant, ...]]:
        return [self.made(column)[1] for column in columns]

    def _with_conditions(self, take: Callable[[], list[Macs]], columns: Sequence[ProtectedColumn]) -> Callable[[], list[Macs]]:
        """Return what takes the keys that constraints need too."""
        checked = [column for column in columns if column.checks]
        if not checked:
            return take

        def take_all() -> list[Macs]:
            taken = take()
            for column in checked:
                self._open_conditions(column)
            return taken

        return take_all

    def draw(self, scope: str, rows: int) -> list[Record]:
        """Reserve one use per row and draw them; KeyNeeded when the lease does not hold as many."""
        return draw_records(self._ring.reserve(scope, rows), rows)

    def draw_row_keys(self, scope: str, rows: int) -> RowKeys:
        """Do as ``draw``, for rows that are sealed column by column."""
        return draw_row_keys(self._ring.reserve(scope, rows), rows)

    def draw_slices(self, scope: str, rows: int, size: int) -> Iterator[list[Record]]:
        """Reserve one use per row now, and draw them so many at a time; KeyNeeded as of ``draw``.

        KeyNeeded also where the key is given up between two slices, by another session's renewal: then they are to be drawn anew.
        """
        key = self._ring.reserve(scope, rows)
        for begin in range(0, rows, size):
            try:
                yield draw_records(key, min(size, rows - begin))
            except ValueError:
                raise KeyNeeded({WriteKeyWant(scope, rows)}) from None

    def stores(
        self, columns: Sequence[ProtectedColumn], defaults: Iterable[ProtectedColumn] = ()
    ) -> dict[ProtectedColumn, StoreFunction]:
        """Return (plaintext, record) -> envelope of each column for one execution, all registered slots filled by the keys of now.

        The functions apply the declared type as an assignment (22001, 22021). Raises KeyNeeded as of ``macs``, and for what the
        ``defaults`` of columns are sealed under.
        """
        stores = [self.made(column) for column in columns]
        ciphers = {}
        for column, (store, _), macs in zip(columns, stores, self._ring.index_macs([wants for _, wants in stores]), strict=True):
            if column.checks:
                self._open_conditions(column)
            ciphers[column] = _under(store, macs)
        for column in defaults:
            self.default(column)
        return ciphers

    def row_store(self, column: ProtectedColumn) -> RowStoreFunction:
        """Return (plaintext, record, what ``macs`` gives of the column) -> envelope, as those of ``stores`` do."""
        return self.made(column)[0]

    def made(self, column: ProtectedColumn) -> Made:
        """Return what seals values of a column, and the index keys that it takes."""
        store = self._store.get(column)
        if store is None:
            column.refuse_distrusted()
            if column.document is not None:
                made = sealing(self, column)
                if not column.place:  # a client chooses places, so none is remembered
                    self._store[column] = made
                return made
            wants = tuple(IndexKeyWant(column.number, slot.number) for slot, _ in all_slots(column) if slot is not None)
            store = self._store[column] = self._make_store(column), wants
        return store

    def _make_store(self, column: ProtectedColumn) -> RowStoreFunction:
        seal, tags, tally = make_sealer(spec_of(column)), self._tags(column), self.counts.stored(column.label)
        limit = column.type.max_length
        if not column.type.is_text:
            return self._make_typed_store(column, seal, tags, tally)

        def store(value: bytes, record: Record, macs: Macs, keys: RecordKeys | None = None, /) -> bytes:
            if len(value) > LONG_VALUE or 0 in value or not value.isascii():  # no call where there is nothing to say
                check_text(value)
            if value[:2] == b"\\x":
                self._refuse_stored(column, value, keys)
            if limit is not None:
                value = assign_varchar(value, limit)
            tally[0] += 1
            return seal(value, record, tags(value, macs))

        return store

    def define(self, column: ProtectedColumn, definition: bytes, record: Record, *, default: bool = False) -> bytes:
        """Return the envelope of a condition over a column, or of the text of its computed ``default``: it has no slots."""
        return make_sealer(_default_spec(column) if default else spec_of(column))(definition, record, b"")

    def default_text(self, column: ProtectedColumn) -> bytes:
        """Return the expression that is a column's DEFAULT, as a text; KeyNeeded, SealError. It is no value, so nobody is told."""
        column.refuse_distrusted()
        envelope = column.computed_default
        assert envelope is not None
        text = self._default_texts.get((column.number, envelope))
        if text is None:
            text = make_opener(_default_spec(column), self._ring, self._memo)(envelope)
            self._default_texts[column.number, envelope] = text
        return text

    def opened_definition(self, column: ProtectedColumn, sealed: bytes) -> bytes:
        """Return what ``define`` has sealed, which is no value that anybody is shown; KeyNeeded, SealError."""
        return make_span_opener(spec_of(column), self._ring, OpenMemo())(sealed, 0, len(sealed))

    def default(self, column: ProtectedColumn) -> bytes:
        """Return the constant that is a column's DEFAULT; KeyNeeded, SealError."""
        assert column.default is not None
        return self.open(column)(column.default)

    def _open_conditions(self, column: ProtectedColumn) -> None:
        for check in column.checks:
            self._condition(column, check)

    def _condition(self, column: ProtectedColumn, check: Check) -> Condition:
        """Return the condition of a constraint; KeyNeeded, SealError."""
        evaluated = self._conditions.get(check.definition)
        if evaluated is None:
            opened = self.open(column)(check.definition)
            try:
                evaluated = self._conditions[check.definition] = condition(opened)
            except (ValueError, LookupError, TypeError):
                raise SealError(f"what constraint {check.name} of {column.label} says is not a condition") from None
        return evaluated

    def _violation(self, column: ProtectedColumn, value: bytes) -> bytes:
        """Return the slot that says which constraint a value does not satisfy, the first by name as the server has it; or none.

        ChildMayRefuse for a constraint that only some of the rows have which the value may come to: with that slot it would stay in
        the others, and slots of later indexes be counted wrongly.
        """
        text = value.decode("utf-8")
        for check in column.checks:
            if self._condition(column, check)(text) is False:
                if check.child:
                    raise ChildMayRefuse(column.label, check.name, check.child)
                return violation(check.definition)
        return b""

    def _make_typed_store(
        self, column: ProtectedColumn, seal: Callable[..., bytes], tags: SlotFunction, tally: list[int]
    ) -> RowStoreFunction:
        """Return the closure for values that are in the canonical form of the column's type already."""

        def store(value: bytes, record: Record, macs: Macs, keys: RecordKeys | None = None, /) -> bytes:
            if value[:8] == b"\\xf55001":
                self._refuse_stored(column, value, keys)
            tally[0] += 1
            return seal(value, record, tags(value, macs))

        return store

    def _refuse_stored(self, column: ProtectedColumn, value: bytes, keys: RecordKeys | None) -> None:
        """Refuse a text that spells what is stored in this column; ``keys`` as of ``RowStoreFunction``."""
        if not spells_stored(value):
            return
        try:
            envelope = envelope_spelled(value)
            if keys is None:
                self.open(column)(envelope)
            else:
                self.opening_by(column, keys)(envelope, 0, len(envelope))
        except (ValueError, SealError):
            return
        raise ValueRefused(
            f"the value for {column.label} is the spelling of a stored one", hint="Load a dump past the proxy the way it was made."
        )

    def _tags(self, column: ProtectedColumn) -> SlotFunction:
        slots = [slot_function(column, slot, position) for slot, position in all_slots(column)]
        if column.checks:
            slots.append(lambda value, _macs: self._violation(column, value))
        if len(slots) == 1:
            return slots[0]
        return lambda value, macs: b"".join([slot(value, macs) for slot in slots])

    def search(self, column: ProtectedColumn, slot: Slot, type_: DeclaredType) -> ValueFunction:
        """Return value -> tag for canonical values of a type (spec/stored-format 5); of a text 22021 is asked, but no length."""
        column.refuse_distrusted()
        if column.part is not None and not column.part.text:
            return searching_json(self, column.part, slot)
        key = (column.number, slot.number, slot.generation, type_, lower_of(column, slot, type_))
        search = self._search.get(key)
        if search is None:
            tag = make_tagger(*key[:3], self._ring)
            search = self._search[key] = _text_search(tag) if type_.is_text else _search(tag, form_of(type_, key[4]))
        return search

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
        # One identity may be that of several columns, and a record says of which a value was opened.
        # Of a document some of whose fields are masked the masks are made where it is opened.
        masked = column.masked_whole is not None
        key = column.identity, column.label, masked or column.masked
        opener = self._open.get(key)
        if opener is None:
            column.refuse_distrusted()
        if opener is None and column.base is None and (column.document is not None or column.part is not None):
            opener = self._open[key] = opening(self, column)
        if opener is None and column.shown_of is not None:
            opener = self._open[key] = self.open_span(column.shown_of)
        if opener is None and column.base is not None:
            opener = self._open[key] = self._computed(column, column.base)
        if opener is None:
            told, label = self._noticed, column.label
            noticed = None if told is None else partial(told, label, masked=masked)
            known = KnownHeader()
            opener = self._open[key] = make_span_opener(spec_of(column), self._ring, self._memo, noticed, known)
            self._known[opener] = known
        return opener

    def shown_span(self, column: ProtectedColumn) -> FieldFunctionOrNull:
        """Return the same for values that are shown: None of a part of a document, as text, where its mask is JSON's null."""
        if column.part is None or not column.part.text or column.masked is None:
            return self.open_span(column)
        key = column.identity, column.label, column.masked  # as of ``open_span``
        shown = self._shown.get(key)
        if shown is None:
            column.refuse_distrusted()
            shown = self._shown[key] = showing(self, column)
        return shown

    def known_by(self, opener: Callable[..., bytes | None]) -> KnownHeader | None:
        """Return what a function of ``open_span`` knows of the last value; None of one that does more than to open values."""
        return self._known.get(opener)

    def sealing_once(self, column: ProtectedColumn) -> Callable[[bytes, Record], bytes]:
        """Return what seals values without tags, and is not remembered: of one of many leaves that no path of a policy lists."""
        seal = make_sealer(spec_of(column))
        return lambda value, record: seal(value, record, b"")

    def opening_once(self, column: ProtectedColumn, label: str) -> OpenSpan:
        """Return what opens such values, as ``open_span`` does; ``label`` is what they are noted under as opened."""
        told, masked = self._noticed, column.masked_whole is not None
        noticed = None if told is None else partial(told, label, masked=masked)
        return make_span_opener(spec_of(column), self._ring, self._memo, noticed)

    def record_keys(
        self, column: ProtectedColumn, records: Mapping[tuple[int, bytes], Mapping[tuple[str, bool], int]]
    ) -> RecordKeys:
        """Return the record keys of (data key, salt), and note how many values of which columns are opened by each.

        These are by labels, and by whether masks of them are shown. Raises KeyNeeded before anything is noted.
        """
        keys = {record: record_key_of(self._ring, column.tenant, *record) for record in records}
        if self._noticed is not None:
            for record, (key, _) in keys.items():
                for (label, masked), times in records[record].items():
                    if (note := self._noticed(label, key, masked=masked)) is not None:
                        for _ in range(times):
                            note()
        return {record: secret for record, (_, secret) in keys.items()}

    def opening_by(self, column: ProtectedColumn, keys: RecordKeys) -> OpenSpan:
        """Return what opens values of a column by record keys; for any thread."""
        return make_record_opener(spec_of(column), keys)

    def spelled_keys(self, column: ProtectedColumn, records: RecordNames) -> Generator[None, None, SpelledKeys]:
        """Return the record keys of what values to be stored in a column spell, a few in each step; KeyNeeded for all."""
        keys, missing = SpelledKeys(), set[KeyWant]()
        for number, record in enumerate(records, start=1):
            try:
                keys[record] = record_key_of(self._ring, column.tenant, *record)[1]
            except SealError:
                keys.of_nobody.add(record)
            except KeyNeeded as needed:
                missing |= needed.wants
            if not number % _KEYS_AT_ONCE:
                yield None
        if missing:
            raise needed_together(missing)
        return keys

    def unopened(self, column: ProtectedColumn) -> Note | None:
        """Return what notes that a mask of a column is shown for which no value was opened; None where nobody is told."""
        return self._noticed(column.label, None, masked=True) if self._noticed is not None else None

    def digest(self, column: ProtectedColumn, *, apart: bool = False) -> ValueFunction:
        """Return value -> HMAC-SHA-256 of what it is equal by, under the key of the role that a masked column is keyed by.

        ``apart``: for any thread, and so by the key of now; KeyNeeded.
        """
        assert column.masked is not None
        number, role, find = column.number, column.masked.keyed_by, self._ring.mask_mac
        now = find(number, role) if apart else None
        form = codec(column.type, column.characters.lower if column.type.ignores_case else None).form

        def digest(value: bytes) -> bytes:
            mac = (now or find(number, role)).copy()
            mac.update(form(value))
            return mac.finalize()

        return digest

    def _computed(self, column: ProtectedColumn, base: ProtectedColumn) -> OpenSpan:
        """Return envelope -> what an expression makes of the plaintext: the server gives NULL where it is NULL."""
        opened, apply = self.open_span(base), transform(column.expression, base.type.indexed_as, base.characters).apply

        def computed(data: bytes, begin: int, end: int) -> bytes:
            value = apply(opened(data, begin, end))
            if value is None:
                raise SealError(f"a stored value of {column.label} has a tag that is not its own")
            return value

        return computed


def long_for(column: ProtectedColumn) -> int:
    """Return the length above which a value of a column is read and sealed, or opened, by another thread."""
    document = (column.base or column).form != "bytea" or column.type.underlying.family in ("json", "jsonb")
    return LONG_JSON if document else LONG_VALUE


def _search(tag: ValueFunction, form: ValueFunction) -> ValueFunction:
    return lambda value: tag(form(value))


def _text_search(tag: ValueFunction) -> ValueFunction:
    def search(value: bytes) -> bytes:
        if 0 in value or not value.isascii():  # no call where there is nothing to say
            check_text(value)
        return tag(value)

    return search


def _under(store: RowStoreFunction, macs: Macs) -> StoreFunction:
    def under(value: bytes, record: Record, keys: RecordKeys | None = None, /) -> bytes:
        return store(value, record, macs, keys)

    return under


def _default_spec(column: ProtectedColumn) -> ColumnSpec:
    return default_spec(spec_of(column))
