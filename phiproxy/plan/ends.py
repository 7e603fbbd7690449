"""Ranges on their way to the server: the two ends that the client gives become the tags of whole periods (``sql.edges``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.reading import reader
from phiproxy.sql.finish import fixed_word, null_marker
from phiproxy.sql.meaning import End, EndPair, Occurrence, Search, is_upper
from phiproxy.sql.operands import read_as
from phiproxy.types.declared import DeclaredType
from phiproxy.types.styles import Styles
from phiproxy.wire.arrays import Array

# What no tag is equal to: the array of no tags would be false of NULL too.
NO_TAG = b"\x00"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values of both ends, in canonical form."""

    lower: bytes | None
    upper: bytes | None


def is_lower(occurrence: Occurrence) -> bool:
    """Tell whether an occurrence is the lower end of a range, or stands for it beside another index."""
    return isinstance(occurrence.use, Search) and occurrence.use.range is not None and not occurrence.use.range.upper


def is_read_pair(occurrence: Occurrence) -> bool:
    """Tell whether an occurrence is the lower end of a range of which a value is known at Bind, if only to be refused there."""
    return is_lower(occurrence) and (not occurrence.null or bool(tuple(end_pair(occurrence).numbers())))


def paired(occurrences: Sequence[Occurrence]) -> list[Occurrence]:
    """Return the occurrences of one statement, of which each lower end knows its upper one."""
    uppers = {_number(o): o for o in occurrences if is_upper(o.use)}
    return [replace(o, other=uppers[_number(o)]) if is_lower(o) else o for o in occurrences] if uppers else list(occurrences)


def _number(occurrence: Occurrence) -> int:
    assert isinstance(occurrence.use, Search)
    assert occurrence.use.range is not None
    return occurrence.use.range.ends.pair


def end_pair(occurrence: Occurrence) -> EndPair:
    """Return both ends of the range whose lower one an occurrence is."""
    assert occurrence.other is not None
    return EndPair(_end(occurrence), _end(occurrence.other))


def _end(occurrence: Occurrence) -> End:
    assert isinstance(occurrence.use, Search)
    return End(occurrence.use, occurrence.number - 1, occurrence.literal)


BoundsReader = Callable[[Sequence[bytes | None], Sequence[int], Styles], Bounds]


def bounds_reader(pair: EndPair) -> BoundsReader:
    """Return what reads both ends of the client's values, in their formats."""
    lower, upper = _end_reader(pair.lower), _end_reader(pair.upper)
    return lambda values, formats, styles: Bounds(lower(values, formats, styles), upper(values, formats, styles))


def _end_reader(end: End) -> Callable[[Sequence[bytes | None], Sequence[int], Styles], bytes | None]:
    number, literal, read = end.number, end.literal, reader(end.use)
    if read is None:
        assert number < 0
        assert literal is None
        return lambda _values, _formats, _styles: None

    def of_value(values: Sequence[bytes | None], formats: Sequence[int], styles: Styles) -> bytes | None:
        value, code = (literal, 0) if number < 0 else (values[number], formats[number] if formats else 0)
        found = None if value is None else read(value, code, styles)
        assert not isinstance(found, Array)
        return found

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


def read_ends_as(pair: EndPair, types: Mapping[int, DeclaredType], at: Callable[[int], AbstractContextManager[None]]) -> EndPair:
    """Return the ends with how their parameters are read, whose ``types`` by number are known; ``at`` places refusals."""
    return EndPair(_read_as(pair.lower, types, at), _read_as(pair.upper, types, at))


def _read_as(end: End, types: Mapping[int, DeclaredType], at: Callable[[int], AbstractContextManager[None]]) -> End:
    if end.number < 0 or end.number + 1 not in types:
        return end
    with at(end.number + 1):
        use = read_as(end.use, types[end.number + 1])
    assert isinstance(use, Search)
    return replace(end, use=use)


def without_number(occurrence: Occurrence) -> bytes:
    """Return what the server gets of an occurrence that is no parameter of it: of an upper end, or NULL."""
    word = fixed_word(occurrence.use)
    return null_marker(occurrence.use) if word is None else word
