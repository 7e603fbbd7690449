"""What a long INSERT means, from the analysis of a shorter one that has a row of each form: its decisions, for every row.

What is decided of a row of a form is right for all of them under the same conditions as for two texts of one shape (``shapes``), if
no parameter that is protected in one row stands in another. Else the text is analysed as it is.
"""

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import accumulate, count
from typing import Any, NamedTuple

from phiproxy.errors import PathNeeded, StatementRefused
from phiproxy.long_values import empty
from phiproxy.plan.templates import template
from phiproxy.plan.whether_split import HasSplit
from phiproxy.sql.expressions.repeated_in_clear import ProtectedValues, elements_of
from phiproxy.sql.result import Answered, Edit, Given, Occurrence, Subject
from phiproxy.sql.text.insert_rows import Bulk, Row, find_bulk
from phiproxy.sql.text.long_constants import without_long_constants
from phiproxy.sql.text.parse import char_position, decode_text, parse
from phiproxy.sql.text.shape import Shape, literal_value, numbers_of_gaps, quoted_names, shape_of
from phiproxy.sql.values.uses import Renew, Search, Store

# Of a longer INSERT it is not found out whom its rows are about: it would be looked at once more each time that it is run.
MOST_GIVEN = 1000
MOST_TEXT = 128 * 1024
# Of a longer INSERT only some rows are analysed; of a shorter one it would save less than a millisecond.
MIN_BULK_TEXT = 1024
# For each long INSERT of a string the rest of it is looked at once more.
MAX_BULKS = 8
Change = Edit | Occurrence
Analyse = Callable[[bytes], list[Answered]]


class _Placed(NamedTuple):
    """A change of one row: ``constant`` is the mark (counted from the row's first) that it is, or behind which it stands.

    Of the latter ``start`` and ``end`` are counted from there, or from the row's beginning (``constant`` is -1).
    """

    change: Change
    constant: int
    start: int = 0
    end: int = 0
    whole: bool = False


def of_some_rows(text: bytes, analyse: Analyse, declared: Sequence[int], inserts: int = MAX_BULKS) -> list[Answered] | None:
    """Return the answers of a text, of whose first long INSERTs (so many of them) only some rows are analysed.

    None where all rows are to be: it has none that is long for more than a long constant, of which each character would be looked
    at, or is split, and a split has the text of some rows only. Raises what ``analyse`` raises.
    """
    if not inserts or len(text) <= MIN_BULK_TEXT or len(without_long_constants(text)) <= MIN_BULK_TEXT:
        return None

    def shorter(shortened: bytes) -> list[Answered]:
        spread = of_some_rows(shortened, analyse, declared, inserts - 1)
        return analyse(shortened) if spread is None else spread

    try:
        return bulk_answers(text, shorter, declared)
    except HasSplit:
        return None


def bulk_answers(text: bytes, analyse: Analyse, declared: Sequence[int] = ()) -> list[Answered] | None:
    """Return the answers of a text, from what ``analyse`` says, and proves, of a shorter one; None where that is not possible.

    ``declared`` are the type OIDs of its parameters. Raises what ``analyse`` raises, with positions in ``text``.
    """
    decode_text(text)
    bulk = find_bulk(text, declared)
    try:
        if bulk is None or not bulk.is_as_expected(parse(bulk.short.text)):
            return None
    except StatementRefused:
        return None  # of the text itself it is told where
    spread = _spread(bulk, analyse)
    if isinstance(spread, list):
        shape, rows = bulk.long.shape, bulk.long.rows
        parts: list[object] = [*shape.constants, *shape.gaps, *shape.starts, *rows]
        del bulk, shape, rows
        empty(parts)
        return spread
    if spread is not None:
        # Refused, as it would be among all rows, at the first of these two.
        _analysed(bulk.with_rows(spread), analyse)
    return None


def _analysed(bulk: Bulk, analyse: Analyse) -> list[Answered]:
    try:
        return analyse(bulk.short.text)
    except (StatementRefused, PathNeeded) as refusal:
        if refusal.position is not None:
            shown = decode_text(bulk.short.text)[: refusal.position - 1]
            refusal.position = char_position(bulk.long.text, bulk.offset(len(shown.encode("utf-8"))))
        raise


def _spread(bulk: Bulk, analyse: Analyse) -> list[Answered] | tuple[int, ...] | None:
    """Return the answers, with all rows, or the numbers of rows of which one repeats unprotected what another has protected."""
    answers = _analysed(bulk, analyse)
    short = shape_of(bulk.short.text)
    of_shape = template(short, parse(bulk.short.text), answers) if short is not None else None
    if short is None or of_shape is None or not all(m.cacheable for m in answers):
        return None
    inserts = next(m for m in answers if m.start < bulk.short.rows[0].start < m.end)
    if len(answers) > 1 and any(m.numbers for m in answers):
        return None
    marks = bulk.short.shape
    by_start = {start: i for i, start in enumerate(marks.starts)}
    fixed = frozenset(by_start[short.starts[i]] for i, _ in of_shape.fixed)
    if inserts.numbers != _numbers(marks) or not _are_alike(bulk, fixed):
        return None
    protected = {by_start[short.starts[i]] for i in of_shape.protected}
    numbers = {b"$%d" % n for o in inserts.occurrences for n in o.numbers}
    repeated = _shared(bulk, {i for i, mark in enumerate(marks.constants) if mark in numbers})
    if repeated is None:
        repeated = _repeated(bulk, protected)
    if repeated is not None:
        return repeated
    whole = _Spread(bulk, inserts, fixed).answer()
    return None if whole is None else [whole if m is inserts else _moved(bulk, m) for m in answers]


def _numbers(shape: Shape) -> frozenset[int]:
    return frozenset(int(mark[1:]) for mark in shape.constants if mark[:1] == b"$")


def _are_alike(bulk: Bulk, fixed: Set[int]) -> bool:
    """Tell whether all rows of a form have the same in those constants whose value decides what the row means."""
    own = [[i - row.first for i in sorted(fixed) if row.first <= i < row.last] for row in bulk.short.rows]
    if not any(own):
        return True
    marks, rows_kept = bulk.long.shape.constants, [bulk.short.shape.constants[row.first : row.last] for row in bulk.short.rows]
    rows = zip(bulk.long.rows, bulk.form, strict=True)
    return all(marks[row.first + i] == rows_kept[form][i] for row, form in rows for i in own[form])


def _repeated(bulk: Bulk, sealed: Set[int]) -> tuple[int, ...] | None:
    """Return the rows with a constant that is protected in one place, and not, or a name, in another (a place may be in none)."""
    protected: list[tuple[bytes, int | None]] = []
    others: list[tuple[bytes, int | None]] = [
        (b"'" + name.replace(b"'", b"''") + b"'", None) for name in quoted_names(bulk.short.shape)
    ]
    others += [(number, None) for number in numbers_of_gaps(bulk.short.shape)]
    for number, constant, own in _marks(bulk, sealed, b"'0123456789"):
        if own:
            value = literal_value(constant)
            protected += [(value, number), *((element, number) for element in elements_of(value))]
        else:
            others.append((constant, number))
    values = ProtectedValues(protected, _row)
    repeating = next((item for item in others if values.repeated_by_constant(*item)), None)
    if repeating is None:
        return None
    first = next(number for value, number in protected if ProtectedValues([(value, number)], _row).repeated_by_constant(*repeating))
    return tuple(n for n in (repeating[1], first) if n is not None)


def _row(number: int | None) -> int | None:
    return number


def _shared(bulk: Bulk, sealed: Set[int]) -> tuple[int, ...] | None:
    """Return two rows that share a parameter which is protected in one of them (none, if in both); None where no rows do so.

    As what such a parameter is read may depend on all rows that it is in. What is around the rows counts as one.
    """
    rows_of: dict[bytes, set[int | None]] = {}
    owners: dict[bytes, set[int | None]] = {}
    for number, mark, own in _marks(bulk, sealed, b"$"):
        rows_of.setdefault(mark, set()).add(number)
        if own:
            owners.setdefault(mark, set()).add(number)
    shared = [mark for mark in owners if len(rows_of[mark]) > 1]
    if not shared:
        return None
    tainted = next((mark for mark in shared if rows_of[mark] != owners[mark]), None)
    if tainted is None:
        return ()
    two = (next(iter(owners[tainted])), next(iter(rows_of[tainted] - owners[tainted])))
    return tuple(n for n in two if n is not None)


def _marks(bulk: Bulk, sealed: Set[int], kinds: bytes) -> Iterator[tuple[int | None, bytes, bool]]:
    """Yield the marks that begin with one of ``kinds``: number of the row, spelling, whether it is one of the ``sealed``."""
    long, short = bulk.long, bulk.short
    owned = [[i in sealed for i in range(row.first, row.last)] for row in short.rows]
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


def _moved(bulk: Bulk, answer: Answered) -> Answered:
    edits = [Edit(bulk.offset(e.start), bulk.offset(e.end), e.text) for e in answer.edits]
    occurrences = [o.at(bulk.offset(o.start), bulk.offset(o.end), o.literal) for o in answer.occurrences]
    subjects = _not_given(answer)
    return dataclasses.replace(answer, **_place(bulk, answer), edits=edits, occurrences=occurrences, subjects=subjects)


def _not_given(answer: Answered) -> tuple[Subject, ...]:
    """Return how it is known whom the rows are about, without constants and parameters: they have other numbers in a long text."""
    return tuple(dataclasses.replace(subject, given=()) for subject in answer.subjects)


def _given_in_rows(bulk: Bulk, subject: Subject) -> Subject:
    """Return whom the rows of the long text are about, where each row of the short one says it by a parameter or constant."""
    short, long = bulk.short, bulk.long
    starts = {start: i for i, start in enumerate(short.shape.starts)}
    offsets: list[int] = []
    for row, one in zip(short.rows, subject.given, strict=False):
        at = starts.get(one.start, -1)
        offsets += [at - row.first] if row.first <= at < row.last else []
    if len(offsets) != len(short.rows) or len(long.rows) > MOST_GIVEN or len(long.text) > MOST_TEXT:
        return dataclasses.replace(subject, given=())
    # Constants are numbered without the parameters, which are among the marks of the rows.
    marks = long.shape.constants
    given: list[Given] = []
    numbers = [0, *accumulate(mark[:1] != b"$" for mark in marks)]
    for row, form in zip(long.rows, bulk.form, strict=True):
        i = row.first + offsets[form]
        given.append(Given(int(marks[i][1:])) if marks[i][:1] == b"$" else Given(constant=numbers[i]))
    return dataclasses.replace(subject, given=tuple(given))


def _place(bulk: Bulk, answer: Answered) -> dict[str, Any]:
    room = bulk.offset(answer.room[0]), bulk.offset(answer.room[1])
    return {"start": bulk.offset(answer.start), "end": bulk.offset(answer.end), "room": room}


class _Spread:
    """The changes of the shorter text, carried over to the long one; ``fixed`` marks are the same in all rows of a form."""

    def __init__(self, bulk: Bulk, answer: Answered, fixed: Set[int]) -> None:
        self._bulk = bulk
        self._fixed = fixed
        self._short = answer
        self._edits: list[Edit] = []
        self._occurrences: list[Occurrence] = []

    def answer(self) -> Answered | None:
        """Return the answer of the long text, or None where something cannot be carried over."""
        bulk, short = self._bulk, self._short
        try:
            around, own = self._parted([*short.edits, *short.occurrences])
            taken = self._check_apart(around, own)
        except _Crossing:
            return None
        first, numbers = bulk.short.rows[0].start, count(1 + max(taken, default=0))
        self._keep(change for change in around if change.end <= first)
        for row, form in zip(bulk.long.rows, bulk.form, strict=True):
            self._carry(own[form], row, numbers)
        self._keep(change for change in around if change.end > first)
        return dataclasses.replace(
            short,
            **_place(bulk, short),
            numbers=_numbers(bulk.long.shape),
            subjects=tuple(_given_in_rows(bulk, subject) for subject in short.subjects),
            edits=self._edits,
            occurrences=self._occurrences,
        )

    def _keep(self, around: Iterable[Change]) -> None:
        """Carry over what is before the rows, or behind them."""
        for change in sorted(around, key=_in_order):
            start, end = self._bulk.offset(change.start), self._bulk.offset(change.end)
            if isinstance(change, Edit):
                self._edits.append(Edit(start, end, change.text))
            else:
                self._occurrences.append(change.at(start, end, change.literal))

    def _parted(self, changes: Iterable[Change]) -> tuple[list[Change], list[list[_Placed]]]:
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
        for changed in own:
            changed.sort(key=lambda placed: _in_order(placed.change))
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
                use = dataclasses.replace(use, row=renumbered[use.row])
            number, literal = _said(shape.constants[i]) if placed.whole else (change.number, change.literal)
            self._occurrences.append(
                Occurrence(
                    start, end, use, number, literal, change.type_oid, change.order, change.group, change.cast,
                    change.lead, change.trail, change.formula,
                )
            )  # fmt: skip


def _in_order(change: Change) -> tuple[int, int, int]:
    return change.start, change.end, 0 if isinstance(change, Edit) else change.order


def _is_expression(occurrence: Occurrence) -> bool:
    return occurrence.formula is not None or occurrence.computed is not None


def _said(mark: bytes) -> tuple[int, bytes | None]:
    return (int(mark[1:]), None) if mark[:1] == b"$" else (0, literal_value(mark))


def _rows_of(changes: Iterable[Change]) -> Iterator[int]:
    for change in changes:
        if isinstance(change, Occurrence) and isinstance(change.use, Store | Renew):
            yield change.use.row
