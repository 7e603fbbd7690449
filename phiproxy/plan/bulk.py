"""What a long INSERT means, from the analysis of a shorter one that has a row of each form: its decisions, for every row.

What is decided of a row of a form is right for all of them under the same conditions as for two texts of one shape (``shapes``), if
no parameter that is protected in one row stands in another. Else the text is analysed as it is.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import count
from typing import Any, NamedTuple

from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.plan.shapes import template
from phiproxy.sql.meaning import Edit, Meaning, Occurrence, Renew, Search, Store, Use
from phiproxy.sql.parse import char_position, decode_text, parse
from phiproxy.sql.rows import Bulk, Row, find_bulk
from phiproxy.sql.shape import Shape, literal_value, quoted_names, shape_of
from phiproxy.sql.taint import ProtectedValues

Change = Edit | Occurrence
Analyse = Callable[[bytes], list[Meaning]]


class _Placed(NamedTuple):
    """A change of one row: ``constant`` is the mark (counted from the row's first) that it is, or behind which it stands.

    Of the latter ``start`` and ``end`` are counted from there, or from the row's beginning (``constant`` is -1).
    """

    change: Change
    constant: int
    start: int = 0
    end: int = 0
    whole: bool = False


def bulk_meanings(text: bytes, analyse: Analyse, declared: Sequence[int] = ()) -> list[Meaning] | None:
    """Return the meanings of a text, from what ``analyse`` says, and proves, of a shorter one; None where that is not possible.

    ``declared`` are the type OIDs of its parameters.

    Raises what ``analyse`` raises, with positions in ``text``.
    """
    decode_text(text)
    bulk = find_bulk(text, declared)
    try:
        if bulk is None or not bulk.is_as_found(parse(bulk.short.text)):
            return None
    except StatementRefused:
        return None  # of the text itself it is told where
    found = _spread(bulk, analyse)
    if isinstance(found, list):
        return found
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


def _spread(bulk: Bulk, analyse: Analyse) -> list[Meaning] | tuple[int, ...] | None:
    """Return the meanings, with all rows, or the numbers of rows of which one repeats unprotected what another has protected."""
    meanings = _analysed(bulk, analyse)
    short = shape_of(bulk.short.text)
    made = template(short, parse(bulk.short.text), meanings) if short is not None else None
    if short is None or made is None or any(m.bound or m.tree is not None for m in meanings):
        return None
    inserts = next(m for m in meanings if m.start < bulk.short.rows[0].start < m.end)
    if len(meanings) > 1 and any(m.numbers for m in meanings):
        return None
    marks = bulk.short.shape
    by_start = {start: i for i, start in enumerate(marks.starts)}
    fixed = frozenset(by_start[short.starts[i]] for i, _ in made.fixed)
    if inserts.numbers != _numbers(marks) or not _are_alike(bulk, fixed):
        return None
    protected = {by_start[short.starts[i]] for i in made.protected}
    numbers = {b"$%d" % n for o in inserts.occurrences for n in o.numbers}
    repeated = _shared(bulk, {i for i, mark in enumerate(marks.constants) if mark in numbers})
    if repeated is None:
        repeated = _repeated(bulk, protected)
    if repeated is not None:
        return repeated
    whole = _Spread(bulk, inserts, fixed).meaning()
    return None if whole is None else [whole if m is inserts else _moved(bulk, m) for m in meanings]


def _numbers(shape: Shape) -> frozenset[int]:
    return frozenset(int(mark[1:]) for mark in shape.constants if mark[:1] == b"$")


def _are_alike(bulk: Bulk, fixed: Set[int]) -> bool:
    """Tell whether all rows of a form have the same in those places whose value decides what the row means."""
    own = [[i - row.first for i in sorted(fixed) if row.first <= i < row.last] for row in bulk.short.rows]
    if not any(own):
        return True
    marks, kept = bulk.long.shape.constants, [bulk.short.shape.constants[row.first : row.last] for row in bulk.short.rows]
    rows = zip(bulk.long.rows, bulk.form, strict=True)
    return all(marks[row.first + i] == kept[form][i] for row, form in rows for i in own[form])


def _repeated(bulk: Bulk, sealed: Set[int]) -> tuple[int, ...] | None:
    """Return the rows with a constant that is protected in one place, and not, or a name, in another (a place may be in none)."""
    protected: list[tuple[bytes, int | None]] = []
    others: list[tuple[bytes, int | None]] = [
        (b"'" + name.replace(b"'", b"''") + b"'", None) for name in quoted_names(bulk.short.shape)
    ]
    for number, constant, own in _marks(bulk, sealed, b"'0123456789"):
        if own:
            protected.append((literal_value(constant), number))
        else:
            others.append((constant, number))
    values = ProtectedValues(protected, _row)
    found = next((item for item in others if values.repeated_by_constant(*item)), None)
    if found is None:
        return None
    first = next(number for value, number in protected if ProtectedValues([(value, number)], _row).repeated_by_constant(*found))
    return tuple(n for n in (found[1], first) if n is not None)


def _row(number: int | None) -> int | None:
    return number


def _shared(bulk: Bulk, sealed: Set[int]) -> tuple[int, ...] | None:
    """Return two rows that share a parameter which is protected in one of them (none, if in both); None where no rows do so.

    As what such a parameter is read may hang on all its places. What is around the rows counts as one.
    """
    places: dict[bytes, set[int | None]] = {}
    owners: dict[bytes, set[int | None]] = {}
    for number, mark, own in _marks(bulk, sealed, b"$"):
        places.setdefault(mark, set()).add(number)
        if own:
            owners.setdefault(mark, set()).add(number)
    shared = [mark for mark in owners if len(places[mark]) > 1]
    if not shared:
        return None
    tainted = next((mark for mark in shared if places[mark] != owners[mark]), None)
    if tainted is None:
        return ()
    two = (next(iter(owners[tainted])), next(iter(places[tainted] - owners[tainted])))
    return tuple(n for n in two if n is not None)


def _marks(bulk: Bulk, sealed: Set[int], kinds: bytes) -> Iterator[tuple[int | None, bytes, bool]]:
    """Yield the marks that begin with one of ``kinds``: number of the row, spelling, whether it is one of the ``sealed``."""
    long, short = bulk.long, bulk.short
    owned = [[i in sealed for i in range(place.first, place.last)] for place in short.rows]
    outside = [*range(short.rows[0].first), *range(short.rows[-1].last, len(short.shape.constants))]
    for i in outside:
        if short.shape.constants[i][:1] in kinds:
            yield None, short.shape.constants[i], i in sealed
    for number, (row, form) in enumerate(zip(long.rows, bulk.form, strict=True)):
        for mark, own in zip(long.shape.constants[row.first : row.last], owned[form], strict=True):
            if mark[:1] in kinds:
                yield number, mark, own


class _Crossing(Exception):
    """A change is neither in one row nor outside of all, or rows share what is stored: the text is analysed as it is."""


def _moved(bulk: Bulk, meaning: Meaning) -> Meaning:
    """Return the meaning of another statement of the shorter text at its place in the long one."""
    edits = [dataclasses.replace(e, start=bulk.offset(e.start), end=bulk.offset(e.end)) for e in meaning.edits]
    occurrences = [dataclasses.replace(o, start=bulk.offset(o.start), end=bulk.offset(o.end)) for o in meaning.occurrences]
    return dataclasses.replace(meaning, **_place(bulk, meaning), edits=edits, occurrences=occurrences)


def _place(bulk: Bulk, meaning: Meaning) -> dict[str, Any]:
    """Return where a statement stands in the long text."""
    room = bulk.offset(meaning.room[0]), bulk.offset(meaning.room[1])
    return {"start": bulk.offset(meaning.start), "end": bulk.offset(meaning.end), "room": room}


class _Spread:
    """The changes of the shorter text, carried over to the long one; ``fixed`` marks are the same in all rows of a form."""

    def __init__(self, bulk: Bulk, meaning: Meaning, fixed: Set[int]) -> None:
        self._bulk = bulk
        self._fixed = fixed
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
            **_place(bulk, short),
            numbers=_numbers(bulk.long.shape),
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
                if (change.start, change.end) != (shape.starts[i], end) or isinstance(change, Edit) or _is_expression(change):
                    raise _Crossing
                return _Placed(change, i - row.first, whole=True)
            placed = _Placed(change, i - row.first, change.start - end, change.end - end)
        if isinstance(change, Occurrence) and change.numbers:
            raise _Crossing  # an expression with parameters, or what is put elsewhere
        crossed = range(i + 1, bisect_left(shape.starts, change.end, i + 1, row.last))
        if (isinstance(change, Occurrence) and crossed) or not self._fixed >= set(crossed):
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
            number, literal = _said(shape.constants[i]) if placed.whole else (change.number, change.literal)
            self._occurrences.append(
                Occurrence(
                    start, end, use, number, literal, change.type_oid, change.order, change.group, change.cast,
                    change.lead, change.trail, change.formula,
                )
            )  # fmt: skip

    def _add(self, change: Change) -> None:
        if isinstance(change, Edit):
            self._edits.append(change)
        else:
            self._occurrences.append(change)


def _is_expression(occurrence: Occurrence) -> bool:
    return occurrence.formula is not None or occurrence.computed is not None


def _said(mark: bytes) -> tuple[int, bytes | None]:
    """Return the number of a parameter, or the value of a constant."""
    return (int(mark[1:]), None) if mark[:1] == b"$" else (0, literal_value(mark))


def _in_row(use: Store | Renew, row: int) -> Use:
    if isinstance(use, Renew):
        return Renew(use.column, row)
    return dataclasses.replace(use, row=row)


def _rows_of(changes: Iterable[Change]) -> Iterator[int]:
    for change in changes:
        if isinstance(change, Occurrence) and isinstance(change.use, Store | Renew):
            yield change.use.row
