"""What a long INSERT means, from the analysis of a shorter one that has a row of each form: its decisions, for every row.

What is decided of a row of a form is right for all of them under the same conditions as for two texts of one shape (``shapes``).
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.plan.shapes import Template, template
from phiproxy.sql.meaning import Edit, Meaning, Occurrence, Renew, Search, Store, Use
from phiproxy.sql.parse import char_position, decode_text, parse
from phiproxy.sql.rows import Bulk, Row, find_bulk
from phiproxy.sql.shape import literal_value
from phiproxy.sql.taint import says

Change = Edit | Occurrence
Analyse = Callable[[bytes], list[Meaning]]


class _Placed(NamedTuple):
    """A change of one row: ``constant`` is the one (counted from the row's first) that it is, or behind which it stands.

    Of the latter ``start`` and ``end`` are counted from there, or from the row's beginning (``constant`` is -1).
    """

    change: Change
    constant: int
    start: int = 0
    end: int = 0
    whole: bool = False


def bulk_meanings(text: bytes, analyse: Analyse) -> list[Meaning] | None:
    """Return the meanings of a text, from what ``analyse`` says, and proves, of a shorter one; None where that is not possible.

    Raises what ``analyse`` raises, with positions in ``text``.
    """
    decode_text(text)
    bulk = find_bulk(text)
    if bulk is None or not bulk.is_as_found(parse(bulk.short.text)):
        return None
    found = _spread(bulk, analyse)
    if isinstance(found, Meaning):
        return [found]
    if found is not None:
        # Refused, as it would be among all rows, at the first of these two.
        _analysed(bulk.with_rows(found), analyse)
    return None


def _analysed(bulk: Bulk, analyse: Analyse) -> list[Meaning]:
    try:
        return analyse(bulk.short.text)
    except (StatementRefused, PathNeeded) as refusal:
        if refusal.position is not None:
            shown = decode_text(bulk.short.text)[: refusal.position - 1]
            refusal.position = char_position(bulk.long.text, bulk.offset(len(shown.encode("utf-8"))))
        raise


def _spread(bulk: Bulk, analyse: Analyse) -> Meaning | tuple[int, ...] | None:
    """Return the meaning of all rows, or the numbers of two of which one repeats a protected literal of the other unprotected."""
    meanings = _analysed(bulk, analyse)
    made = template(bulk.short.shape, parse(bulk.short.text), meanings)
    if made is None or len(meanings) != 1 or meanings[0].numbers or meanings[0].bound or meanings[0].tree is not None:
        return None
    rows = bulk.short.rows
    if any(rows[0].first <= i < rows[-1].last for i, _ in made.fixed):
        return None
    repeated = _repeated(bulk, made)
    return _Spread(bulk, meanings[0]).meaning() if repeated is None else repeated


def _repeated(bulk: Bulk, made: Template) -> tuple[int, ...] | None:
    """Return the rows that hold a literal which is protected in one place and not in another (a place may be in none)."""
    protected: dict[bytes, int | None] = {}
    others: list[tuple[bytes, int | None]] = []
    for number, constant, sealed in _literals(bulk, made.protected):
        if sealed:
            protected.setdefault(literal_value(constant), number)
        else:
            others.append((literal_value(constant), number))
    protected.pop(b"", None)
    values = set(protected)
    found = next((item for item in others if says(item[0], values)), None)
    if found is None:
        return None
    first = next(number for value, number in protected.items() if says(found[0], {value}))
    return tuple(n for n in (found[1], first) if n is not None)


def _literals(bulk: Bulk, protected: frozenset[int]) -> Iterator[tuple[int | None, bytes, bool]]:
    """Yield the text literals: (number of the row, as it is spelled, whether it is protected)."""
    long, short = bulk.long, bulk.short
    sealed = [[i in protected for i in range(place.first, place.last)] for place in short.rows]
    outside = [*range(short.rows[0].first), *range(short.rows[-1].last, len(short.shape.constants))]
    for i in outside:
        if short.shape.constants[i][:1] == b"'":
            yield None, short.shape.constants[i], i in protected
    for number, (row, form) in enumerate(zip(long.rows, bulk.form, strict=True)):
        for constant, own in zip(long.shape.constants[row.first : row.last], sealed[form], strict=True):
            if constant[:1] == b"'":
                yield number, constant, own


class _Crossing(Exception):
    """A change is neither in one row nor outside of all, or rows share what is stored: the text is analysed as it is."""


class _Spread:
    """The changes of the shorter text, carried over to the long one."""

    def __init__(self, bulk: Bulk, meaning: Meaning) -> None:
        self._bulk = bulk
        self._short = meaning
        self._edits: list[Edit] = []
        self._occurrences: list[Occurrence] = []

    def meaning(self) -> Meaning | None:
        """Return the meaning of the long text, or None where something cannot be carried over."""
        bulk, short = self._bulk, self._short
        try:
            around, own = self._parted([*short.edits, *short.occurrences])
            taken = self._check_apart(around, own)
        except _Crossing:
            return None
        for change in around:
            start, end = bulk.offset(change.start), bulk.offset(change.end)
            self._add(dataclasses.replace(change, start=start, end=end))
        numbers = count(1 + max(taken, default=0))
        for row, form in zip(bulk.long.rows, bulk.form, strict=True):
            self._carry(own[form], row, numbers)
        return dataclasses.replace(
            short,
            start=bulk.offset(short.start),
            end=bulk.offset(short.end),
            room=(bulk.offset(short.room[0]), bulk.offset(short.room[1])),
            edits=sorted(self._edits, key=lambda e: (e.start, e.end)),
            occurrences=sorted(self._occurrences, key=lambda o: (o.start, o.end, o.order)),
        )

    def _parted(self, changes: Iterable[Change]) -> tuple[list[Change], list[list[_Placed]]]:
        """Return the changes outside of the rows, and those of each row."""
        rows = self._bulk.short.rows
        starts = [row.start for row in rows]
        around: list[Change] = []
        own: list[list[_Placed]] = [[] for _ in rows]
        for change in changes:
            i = bisect_right(starts, change.start) - 1
            if change.end <= rows[0].start or change.start >= rows[-1].end:
                around.append(change)
            elif rows[i].start < change.start and change.end < rows[i].end:
                own[i].append(self._placed(change, rows[i]))
            else:
                raise _Crossing
        return around, own

    def _placed(self, change: Change, row: Row) -> _Placed:
        shape = self._bulk.short.shape
        if isinstance(change, Occurrence) and isinstance(change.use, Search) and change.use.range is not None:
            raise _Crossing  # its ends find each other by a number, which rows of one form would share
        i = bisect_right(shape.starts, change.start, row.first, row.last) - 1
        if i < row.first:
            placed = _Placed(change, -1, change.start - row.start, change.end - row.start)
        else:
            end = shape.starts[i] + len(shape.constants[i])
            if change.start < end:
                if (change.start, change.end) != (shape.starts[i], end) or isinstance(change, Edit):
                    raise _Crossing
                return _Placed(change, i - row.first, whole=True)
            placed = _Placed(change, i - row.first, change.start - end, change.end - end)
        if i + 1 < row.last and change.end > shape.starts[i + 1]:
            raise _Crossing
        return placed

    def _check_apart(self, around: Sequence[Change], own: Sequence[Sequence[_Placed]]) -> set[int]:
        """Show that no two rows, and nothing outside of them, store into the same row, and return the numbers of all."""
        seen = set(_rows_of(around))
        for changes in own:
            numbers = set(_rows_of(p.change for p in changes))
            if not seen.isdisjoint(numbers):
                raise _Crossing
            seen |= numbers
        return seen

    def _carry(self, changes: Sequence[_Placed], row: Row, numbers: Iterator[int]) -> None:
        """Take over the changes of a row's form for the row."""
        shape = self._bulk.long.shape
        renumbered: dict[int, int] = {}
        for placed in changes:
            change, i = placed.change, row.first + placed.constant
            before = row.start if placed.constant < 0 else shape.starts[i]
            behind = before if placed.constant < 0 else before + len(shape.constants[i])
            start, end = (before, behind) if placed.whole else (behind + placed.start, behind + placed.end)
            if isinstance(change, Edit):
                self._edits.append(Edit(start, end, change.text))
                continue
            use = change.use
            if isinstance(use, Store | Renew):
                if use.row not in renumbered:
                    renumbered[use.row] = next(numbers)
                use = _in_row(use, renumbered[use.row])
            self._occurrences.append(
                Occurrence(
                    start, end, use, change.number, literal_value(shape.constants[i]) if placed.whole else change.literal,
                    change.type_oid, change.order, change.group, change.cast, change.lead, change.trail, change.formula,
                )
            )  # fmt: skip

    def _add(self, change: Change) -> None:
        if isinstance(change, Edit):
            self._edits.append(change)
        else:
            self._occurrences.append(change)


def _in_row(use: Store | Renew, row: int) -> Use:
    if isinstance(use, Renew):
        return Renew(use.column, row)
    return Store(use.column, row, use.elements, use.limit, use.given)


def _rows_of(changes: Iterable[Change]) -> Iterator[int]:
    for change in changes:
        if isinstance(change, Occurrence) and isinstance(change.use, Store | Renew):
            yield change.use.row
