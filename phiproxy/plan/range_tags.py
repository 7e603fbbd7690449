"""Ranges on their way to the server: the client's two bounds become the tags of whole periods (``sql.values.range_periods``)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.value_formats import reader
from phiproxy.sql.result import Bound, BoundPair, Occurrence
from phiproxy.sql.rewrite.references_and_markers import fixed_word, null_marker
from phiproxy.sql.values.accepted_types import read_as
from phiproxy.sql.values.uses import Search, is_upper
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.arrays import Array

# What no tag is equal to: the array of no tags would be false of NULL too.
NO_TAG = b"\x00"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values of both bounds, in canonical form."""

    lower: bytes | None
    upper: bytes | None


def is_lower(occurrence: Occurrence) -> bool:
    """Tell whether an occurrence is the lower bound of a range, or stands for it beside another index."""
    return isinstance(occurrence.use, Search) and occurrence.use.range is not None and not occurrence.use.range.upper


def is_read_pair(occurrence: Occurrence) -> bool:
    """Tell whether an occurrence is the lower bound of a range of which a value is known at Bind, if only to be refused there."""
    return is_lower(occurrence) and (not occurrence.null or bool(tuple(bound_pair(occurrence).numbers())))


def paired(occurrences: Sequence[Occurrence]) -> list[Occurrence]:
    """Return the occurrences of one statement, of which each lower bound knows its upper one."""
    uppers = {_number(o): o for o in occurrences if is_upper(o.use)}
    return [replace(o, other=uppers[_number(o)]) if is_lower(o) else o for o in occurrences] if uppers else list(occurrences)


def _number(occurrence: Occurrence) -> int:
    assert isinstance(occurrence.use, Search)
    assert occurrence.use.range is not None
    return occurrence.use.range.bounds.pair


def bound_pair(occurrence: Occurrence) -> BoundPair:
    """Return both bounds of the range whose lower one an occurrence is."""
    assert occurrence.other is not None
    return BoundPair(_bound(occurrence), _bound(occurrence.other))


def _bound(occurrence: Occurrence) -> Bound:
    assert isinstance(occurrence.use, Search)
    return Bound(occurrence.use, occurrence.number - 1, occurrence.literal)


BoundsReader = Callable[[Sequence[bytes | None], Sequence[int], Styles], Bounds]


def bounds_reader(pair: BoundPair) -> BoundsReader:
    """Return what reads both bounds of the client's values, in their formats."""
    lower, upper = _bound_reader(pair.lower), _bound_reader(pair.upper)
    return lambda values, formats, styles: Bounds(lower(values, formats, styles), upper(values, formats, styles))


def _bound_reader(bound: Bound) -> Callable[[Sequence[bytes | None], Sequence[int], Styles], bytes | None]:
    number, literal, read = bound.number, bound.literal, reader(bound.use)
    if read is None:
        assert number < 0
        assert literal is None
        return lambda _values, _formats, _styles: None

    def of_value(values: Sequence[bytes | None], formats: Sequence[int], styles: Styles) -> bytes | None:
        value, code = (literal, 0) if number < 0 else (values[number], formats[number] if formats else 0)
        read_value = None if value is None else read(value, code, styles)
        assert not isinstance(read_value, Array)
        return read_value

    return of_value


def range_tags(ciphers: Ciphers, use: Search, bounds: Bounds) -> Array | None:
    """Return the tags of a range of which an index has a part, in an order that says nothing; None for NULL. NotAnswered."""
    assert use.range is not None
    subjects = use.range.subjects(bounds.lower, bounds.upper)
    if subjects is None:
        return None
    search = ciphers.search(use.column, use.slot, use.column.type)
    tags = sorted(map(search, subjects)) or [NO_TAG]
    return Array(((len(tags), 1),), tuple(tags))


def read_bounds_as(
    pair: BoundPair, types: Mapping[int, DeclaredType], at: Callable[[int], AbstractContextManager[None]]
) -> BoundPair:
    """Return the bounds with how their parameters are read, whose ``types`` by number are known; ``at`` positions refusals."""
    return BoundPair(_read_as(pair.lower, types, at), _read_as(pair.upper, types, at))


def _read_as(bound: Bound, types: Mapping[int, DeclaredType], at: Callable[[int], AbstractContextManager[None]]) -> Bound:
    if bound.number < 0 or bound.number + 1 not in types:
        return bound
    with at(bound.number + 1):
        use = read_as(bound.use, types[bound.number + 1])
    assert isinstance(use, Search)
    return replace(bound, use=use)


def without_number(occurrence: Occurrence) -> bytes:
    """Return what the server gets of an occurrence that is no parameter of it: of an upper bound, or NULL."""
    word = fixed_word(occurrence.use)
    return null_marker(occurrence.use) if word is None else word
