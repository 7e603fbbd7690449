"""The rows of a long INSERT … VALUES, found without a parse: rows of one form differ only in their constants and parameters.

One row of each form goes into a shorter text, which is analysed in place of the long one. The other rows change nothing: a row of
the same tokens is one more row of VALUES, and the rows of an INSERT do not see each other. The rows of ``INSERT … SELECT … FROM
(VALUES …)`` share the types of their columns, which further rows of a known form do not change.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from phiproxy.sql.text.parse import Node, Statement, location, messages, only
from phiproxy.sql.text.shape import Shape, kind_of, shape_of

# Up to the bracket of the first row; what has literals here, or subscripts, is not looked at further.
_HEAD = re.compile(rb"""(?:\A|;)\s*INSERT\s+INTO\s(?:[^;'"\[]|\[\]|"[^"]*")*?\bVALUES\s*(?=\()""", re.IGNORECASE)
_BRACKET = re.compile(rb'[()"]')
_NEXT = re.compile(rb"\s*,\s*(?=\()")
# Of fewer rows, or where hardly two are alike, nothing is gained.
_FEWEST, _ALIKE = 16, 4
_SIMPLE = frozenset({"valuesLists", "limitOption", "op"})
# The query around them in FROM; what it orders, groups or limits are rows that are there already.
_AROUND = frozenset({"targetList", "fromClause", "sortClause", "whereClause", "limitOption", "op"})


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the offsets of its parentheses, and the range of the shape's marks inside (``last`` excluded)."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a text in their order, with its shape, whose constants and parameters are called *marks*.

    ``declared`` are the type OIDs of the parameters.
    """

    text: bytes
    shape: Shape
    rows: Sequence[Row]
    declared: Sequence[int] = ()

    def form(self, row: Row) -> object:
        """Return the form of a row: equal for rows that differ only in their marks, and use equal parameters alike."""
        if row.first == row.last:
            return self.text[row.start : row.end]
        marks, starts = self.shape.constants[row.first : row.last], self.shape.starts
        behind = starts[row.last - 1] + len(marks[-1])
        kinds = tuple((marks.index(mark), self._type(mark)) if mark[:1] == b"$" else kind_of(mark) for mark in marks)
        before, after = self.text[row.start : starts[row.first]], self.text[behind : row.end]
        return before, self.shape.gaps[row.first + 1 : row.last], after, kinds

    def _type(self, mark: bytes) -> int:
        number = int(mark[1:])
        return self.declared[number - 1] if 0 < number <= len(self.declared) else 0


@dataclass(frozen=True, slots=True)
class Bulk:
    """A long INSERT. Its row ``i`` is like row ``analysed[form[i]]``; ``short`` is a text with the rows of ``analysed`` only."""

    long: Rows
    short: Rows
    analysed: Sequence[int]
    form: Sequence[int]

    def offset(self, short: int) -> int:
        """Return the offset in the long text of an offset in the shorter one."""
        if short < self.short.rows[0].start:
            return short
        if short >= self.short.rows[-1].end:
            return self.long.rows[-1].end + short - self.short.rows[-1].end
        i = next(i for i, row in enumerate(self.short.rows) if short <= row.end)
        return self.long.rows[self.analysed[i]].start + max(short - self.short.rows[i].start, 0)

    def is_as_expected(self, statements: Sequence[Statement]) -> bool:
        """Tell whether the shorter text parses to an INSERT of exactly these rows."""
        first = self.short.rows[0]
        around = [s for s in statements if s.start < first.start < s.end]
        if len(around) != 1 or around[0].kind != "InsertStmt" or "selectStmt" not in around[0].body:
            return False
        source = _values(around[0].body["selectStmt"])
        if source is None or len(source["valuesLists"]) != len(self.analysed):
            return False
        return all(first.start < location(m) < first.end for m in messages(source["valuesLists"][0]) if location(m) > 0)

    def with_rows(self, more: Collection[int]) -> Bulk:
        """Return the same with further rows in the shorter text."""
        chosen = sorted({*self.analysed, *more})
        moved = [chosen.index(i) for i in self.analysed]
        return _shortened(self.long, chosen, [moved[form] for form in self.form])


def find_bulk(text: bytes, declared: Sequence[int] = ()) -> Bulk | None:
    """Return a text's rows and a shorter text; None without a long INSERT of similar rows. ``declared``: parameters' type OIDs."""
    first = next(_heads(text), None)
    shape = shape_of(text, parameters=True) if first is not None else None
    if shape is None:
        return None
    heads = (head for head in _heads(text) if not _in_constant(shape, head.start()))
    return next((bulk for head in heads if (bulk := _of_rows(text, shape, head.end(), declared)) is not None), None)


def _heads(text: bytes) -> Iterator[re.Match[bytes]]:
    """Yield where an INSERT may begin: at the beginning of the text, and behind semicolons, which are fast to find."""
    at = 0
    while at >= 0:
        head = _HEAD.match(text, at)
        if head is not None:
            yield head
        at = text.find(b";", at + 1 if head is None else head.end())


def _in_constant(shape: Shape, offset: int) -> bool:
    i = bisect_right(shape.starts, offset) - 1
    return i >= 0 and offset < shape.starts[i] + len(shape.constants[i])


def _of_rows(text: bytes, shape: Shape, begin: int, declared: Sequence[int]) -> Bulk | None:
    rows = tuple(_rows(shape, begin))
    if len(rows) < _FEWEST:
        return None
    long = Rows(text, shape, rows, declared)
    forms: dict[object, int] = {}
    chosen = [0, 1]  # one row alone is analysed, and described, in another way than several
    form = []
    for i, row in enumerate(rows):
        first = forms.setdefault(long.form(row), len(chosen) if i > 1 else i)
        if first == len(chosen):
            chosen.append(i)
        form.append(first)
    return _shortened(long, chosen, form) if len(rows) >= _ALIKE * len(chosen) else None


def _values(source: Node) -> Node | None:
    """Return the VALUES that an INSERT's source is or only reads; None for any other query."""
    kind, body = only(source)
    if kind != "SelectStmt":
        return None
    if body.keys() <= _SIMPLE:
        return body if "valuesLists" in body else None
    items = body.get("fromClause", ())
    if not body.keys() <= _AROUND or len(items) != 1 or only(items[0])[0] != "RangeSubselect":
        return None
    _, inner = only(only(items[0])[1]["subquery"])
    return inner if "valuesLists" in inner and inner.keys() <= _SIMPLE else None


def _shortened(long: Rows, chosen: Sequence[int], form: Sequence[int]) -> Bulk:
    pieces, rows = [long.text[: long.rows[0].start]], []
    start, first = long.rows[0].start, long.rows[0].first
    for i in chosen:
        row = long.rows[i]
        rows.append(Row(start, start + row.end - row.start, first, first + row.last - row.first))
        pieces += (long.text[row.start : row.end], b", ")
        start, first = rows[-1].end + 2, rows[-1].last
    pieces[-1] = long.text[long.rows[-1].end :]
    text = b"".join(pieces)
    shape = shape_of(text, parameters=True)
    assert shape is not None
    return Bulk(long, Rows(text, shape, rows), chosen, form)


def _rows(shape: Shape, begin: int) -> Iterator[Row]:
    """Yield the rows from the parenthesis at ``begin`` on; none where quoted names may hold parentheses."""
    walk = cache(_walk)
    start, depth = begin, 0
    before = first = bisect_left(shape.starts, begin)
    for i in range(first, len(shape.gaps)):
        behind = shape.starts[i - 1] + len(shape.constants[i - 1]) if i else 0
        base = behind if i > before else begin
        breaks, depth, over = walk(shape.gaps[i][base - behind :], depth)
        for end, following in breaks:
            yield Row(start, base + end, first, i)
            start, first = base + following, i
        if over:
            return


def _walk(gap: bytes, depth: int) -> tuple[Sequence[tuple[int, int]], int, bool]:
    """Return where rows end and begin in a gap, how deep in parentheses it ends, and whether the last row is over."""
    breaks: list[tuple[int, int]] = []
    position = 0
    while (bracket := _BRACKET.search(gap, position)) is not None:
        position = bracket.end()
        if bracket[0] == b'"':
            return (), 0, True
        depth += 1 if bracket[0] == b"(" else -1
        if depth == 0:
            following = _NEXT.match(gap, position)
            if following is None:
                return (*breaks, (position, position)), 0, True
            breaks.append((position, following.end()))
            position = following.end()
    return breaks, depth, False
