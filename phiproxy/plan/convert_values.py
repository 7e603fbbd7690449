"""Values to what the server gets of them, sealed or tagged; of many values in slices, so that other sessions have their turn."""

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

from phiproxy.crypto.seal import Record
from phiproxy.errors import DataKeyWant, KeyNeeded, WriteKeyWant
from phiproxy.long_values import LONG_VALUE
from phiproxy.plan.column_ciphers import Ciphers, StoreFunction, long_for
from phiproxy.plan.range_tags import NO_TAG, Bounds, range_tags
from phiproxy.plan.spelled_values import RecordNames, SpelledKeys, may_spell_stored, needed_together, records_spelled
from phiproxy.plan.value_formats import perhaps
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.values.contained_scalars import Contained
from phiproxy.sql.values.field_containment import REST, ContainedFields
from phiproxy.sql.values.uses import Absent, Define, Nullness, Plain, Renew, Search, Store, Use, of_elements
from phiproxy.wire.arrays import Array, array_from_binary, array_from_text
from phiproxy.wire.oids import TEXT_ARRAY_OID

NULL_TEST_VALUE = b"\x01"
# From so many values on, what is made of them is made in slices: one of these is half a millisecond or a whole one, and a
# neighbour's question waits for two.
MANY = 512
SLICE = 32
_WANTED = 4 * SLICE
T = TypeVar("T")
Steps = Generator[Callable[[], object] | None, object, T]
"""Work in slices: between two of them other sessions may have their turn. What is yielded, if anything, is for another thread."""
# What a use is given and what it makes of it: an array for a use of elements.
Given = bytes | Array | Bounds | None
# A row that a statement stores: (its number, and of an array's elements which).
RowKey = tuple[int, int]


def given(use: Use, value: bytes | None, code: int = 0, oid: int | None = None) -> Given:
    """Return a value as its use takes it, given only its format ``code`` and type ``oid``; ValueRefused for what is no array."""
    if value is None or not of_elements(use):
        return value
    return array_from_binary(value, oid or TEXT_ARRAY_OID) if code else array_from_text(value)


def at_once(steps: Steps[T]) -> T:
    """Take all steps, and return what they come to."""
    outcome: object = None
    while True:
        try:
            asked = steps.send(outcome)
            outcome = asked() if asked is not None else None
        except StopIteration as end:
            result: T = end.value
            return result


def convert_steps(ciphers: Ciphers, uses: Sequence[tuple[Use, Given]]) -> Steps[list[Given]]:
    """Return what the server gets for each (use, value): envelopes, tags, constants, NULL for NULL; in slices.

    One record is drawn per (row, scope) that stores a value. KeyNeeded before any is drawn, and where a key is given up on the way.
    """
    wanted: dict[str, set[RowKey]] = {}
    stored: set[ProtectedColumn] = set()
    renewed: set[ProtectedColumn] = set()
    for begin in range(0, len(uses), _WANTED):
        if begin:
            yield None
        part = uses[begin : begin + _WANTED]
        _want(wanted, part)
        stored.update(u.column for u, v in part if isinstance(u, Store | Renew) and v is not None)
        renewed.update(u.column for u, _ in part if isinstance(u, Renew))
    stores = ciphers.stores(list(stored), renewed) if wanted else {}
    rows = yield from _drawn(ciphers, wanted)
    result: list[Given] = []
    for i, (use, value) in enumerate(uses, start=1):
        if not i % SLICE:
            yield None
        if isinstance(use, Store) and isinstance(value, bytes | Array) and _is_long(use.column, value):
            result.append((yield from _sealed_apart(ciphers, stores, use, value, rows)))
            continue
        try:
            result.append(_converted(ciphers, stores, use, value, rows))
        except KeyNeeded as needed:
            raise (yield from _needed_by_all(needed, uses)) from None
    yield from let_go(rows)
    return result


def _needed_by_all(needed: KeyNeeded, uses: Sequence[tuple[Use, Given]]) -> Steps[KeyNeeded]:
    """Return what asks, where a value spells what is stored, for the keys of all that values spell."""
    if not any(isinstance(want, DataKeyWant) for want in needed.wants):
        return needed
    given = [(use.column, value) for use, value in uses if isinstance(use, Store) and isinstance(value, bytes | Array)]
    spelled = yield lambda: [records_spelled(column, elements_of(value)) for column, value in given]
    return needed_together(needed.wants, cast("list[RecordNames]", spelled))


def _is_long(column: ProtectedColumn, value: bytes | Array) -> bool:
    """Tell whether another thread seals a value."""
    return size_of(value) > long_for(column)


def _spelled_keys(ciphers: Ciphers, column: ProtectedColumn, value: bytes | Array) -> Steps[SpelledKeys]:
    """Return the keys of what a long value spells that may be stored."""
    elements = elements_of(value)
    short = size_of(value) <= LONG_VALUE or column.document is None
    if short and not any(element is not None and may_spell_stored(column, element) for element in elements):
        return SpelledKeys()
    (keys,) = yield from keys_spelled(ciphers, [column], lambda: [records_spelled(column, elements)])
    return keys


def keys_spelled(
    ciphers: Ciphers, columns: Sequence[ProtectedColumn], search: Callable[[], list[RecordNames]]
) -> Steps[list[SpelledKeys]]:
    """Return, for each column, the keys of what values spell that may be stored, which another thread searches for; KeyNeeded."""
    keys: list[SpelledKeys] = []
    for column, records in zip(columns, cast("list[RecordNames]", (yield search)), strict=True):
        keys.append((yield from ciphers.spelled_keys(column, records)))
    return keys


def let_go(*many: list[Any] | dict[Any, Any]) -> Steps[None]:
    """Let go of what nobody needs any longer, in slices: a hundred thousand objects that end at once take a tenth of a second."""
    for items in many:
        while len(items) > MANY:
            for _ in range(MANY):
                items.popitem() if isinstance(items, dict) else items.pop()
            yield None


def size_of(value: bytes | Array) -> int:
    """Return how many bytes a value has, or all elements of an array."""
    return sum(len(element) for element in elements_of(value) if element is not None)


def elements_of(value: bytes | Array) -> Sequence[bytes | None]:
    """Return the elements of an array, or a value as the only one."""
    return (value,) if isinstance(value, bytes) else value.elements


def _sealed_apart(
    ciphers: Ciphers,
    stores: Mapping[ProtectedColumn, StoreFunction],
    use: Store,
    value: bytes | Array,
    rows: Mapping[tuple[str, RowKey], Record],
) -> Steps[Given]:
    """Let another thread seal a long value. The keys are taken before it begins: a keyring is not for two threads."""
    numbers = _rows(use, value)
    try:
        for number in numbers:
            rows[use.column.scope, number].secret()
    except ValueError:  # given up since the records were drawn
        raise KeyNeeded({WriteKeyWant(use.column.scope, len(rows))}) from None
    keys = yield from _spelled_keys(ciphers, use.column, value)
    sealed = yield partial(_sealed, ciphers, stores, use, value, rows, keys)
    assert isinstance(sealed, bytes | Array)
    return sealed


def _drawn(ciphers: Ciphers, wanted: Mapping[str, set[RowKey]]) -> Steps[dict[tuple[str, RowKey], Record]]:
    rows: dict[tuple[str, RowKey], Record] = {}
    for scope, numbers in wanted.items():
        waiting = iter(numbers)
        for records in ciphers.draw_slices(scope, len(numbers), SLICE):
            for record, number in zip(records, islice(waiting, len(records)), strict=True):
                rows[scope, number] = record
            if len(numbers) > SLICE:
                yield None
    return rows


def _converted(
    ciphers: Ciphers,
    stores: Mapping[ProtectedColumn, StoreFunction],
    use: Use,
    value: Given,
    rows: Mapping[tuple[str, RowKey], Record],
) -> Given:
    if value is None or isinstance(use, Plain):
        return value
    if isinstance(use, Absent):
        return None
    if isinstance(use, Store | Define | Renew):
        assert not isinstance(value, Bounds)
        return _sealed(ciphers, stores, use, value, rows)
    if isinstance(use, Search):
        return _tag(ciphers, use, value)
    assert isinstance(use, Nullness)
    return NULL_TEST_VALUE


def _tag(ciphers: Ciphers, use: Search, value: bytes | Array | Bounds) -> bytes | Array | None:
    if isinstance(value, Bounds):
        return range_tags(ciphers, use, value)
    if isinstance(use.chosen, ContainedFields) and use.chosen.own == REST and isinstance(value, bytes):
        return use.chosen.in_clear(value)
    contained = isinstance(use.chosen, Contained | ContainedFields)
    search = ciphers.search(use.column, use.slot, use.column.type if contained else use.type)
    if isinstance(value, Array):
        return value.map(search)
    if use.chosen is None:
        return search(value)
    tag = use.chosen.tag(value, search)
    return NO_TAG if tag is None else tag


def _want(wanted: dict[str, set[RowKey]], uses: Sequence[tuple[Use, Given]]) -> None:
    """Add the rows per scope for which something is sealed; an array without elements is none."""
    for use, value in uses:
        rows = _rows(use, value) if isinstance(use, Store | Define | Renew) and isinstance(value, bytes | Array) else []
        if isinstance(use, Store | Define | Renew) and rows:
            wanted.setdefault(use.column.scope, set()).update(rows)


def _rows(use: Store | Define | Renew, value: bytes | Array) -> list[RowKey]:
    if isinstance(value, Array):
        return [(use.row, i) for i, element in enumerate(value.elements) if element is not None]
    return [(use.row, -1)]


def _sealed(
    ciphers: Ciphers,
    stores: Mapping[ProtectedColumn, StoreFunction],
    use: Store | Define | Renew,
    value: bytes | Array,
    rows: Mapping[tuple[str, RowKey], Record],
    keys: SpelledKeys | None = None,
) -> bytes | Array:
    scope = use.column.scope
    if isinstance(use, Renew):
        return stores[use.column](ciphers.default(use.column), rows[scope, (use.row, -1)])
    if isinstance(use, Define):
        assert isinstance(value, bytes)
        return ciphers.define(use.column, value, rows[scope, (use.row, -1)], default=use.default)
    if isinstance(value, bytes):
        if use.perhaps:
            with perhaps(use):
                return stores[use.column](value, rows[scope, (use.row, -1)], keys)
        return stores[use.column](value, rows[scope, (use.row, -1)], keys)
    numbered = enumerate(value.elements)  # of which nothing is sealed where all are NULL
    elements = (None if e is None else stores[use.column](e, rows[scope, (use.row, i)], keys) for i, e in numbered)
    return Array(value.bounds, tuple(elements))
