"""Where the clauses of INSERT, UPDATE and DELETE stand in the client's text: spans in bytes, of clauses without their word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from phiproxy.errors import StatementRefused
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.composed import Span
from phiproxy.sql.text.parse import Statement, location
from phiproxy.sql.text.token_spans import COMMA, OPEN, SEMICOLON, Spans

_EQUALS = "ASCII_61"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One entry of SET: the column's name, or the list of names, and what it is set to."""

    names: Span
    value: Span
    row: tuple[Span, ...] = ()
    """Of ``(a, b) = (x, y)`` the values."""


@dataclass(slots=True)
class Clauses:
    """The clauses of a write; those that it does not have are None."""

    before: Span | None
    """WITH and its queries."""
    relation: Span
    """The target, with ONLY and its alias."""
    others: Span | None = None
    """The items of FROM of an UPDATE, or of USING."""
    where: Span | None = None
    returning: Span | None = None
    assignments: list[Assignment] = field(default_factory=list)
    """The entries of SET."""
    into: Span | None = None
    """Of an INSERT what stands between its target and its values: the list of columns, OVERRIDING."""
    source: Span | None = None
    """Of an INSERT its VALUES or its query."""
    rows: list[list[Span]] = field(default_factory=list)
    """The values of VALUES."""
    conflict: Span | None = None
    """ON CONFLICT, with these words."""
    updates: list[Assignment] = field(default_factory=list)
    """The entries of SET in it."""
    updated_where: Span | None = None
    """The condition of its UPDATE."""


def clauses_of(statement: Statement, spans: Spans) -> Clauses:
    """Return the clauses of an INSERT, UPDATE or DELETE; Impossible where they are not located."""
    if statement.kind not in _READERS:
        raise Impossible("another statement than an INSERT, UPDATE or DELETE")
    try:
        return _READERS[statement.kind](statement, spans)
    except (StatementRefused, IndexError, StopIteration):
        raise Impossible("a clause could not be located") from None


def _update(statement: Statement, spans: Spans) -> Clauses:
    word = spans.before(spans.at(location(statement.body["relation"])), "UPDATE")
    marks = _marks(spans, word + 1, statement.end, ("SET", "FROM", "WHERE", "RETURNING"))
    clauses = Clauses(with_span(statement, spans, word), span_of(spans, word + 1, marks["SET"]))
    behind = min(i for name, i in marks.items() if i > marks["SET"])
    for first, end in items(spans, marks["SET"] + 1, behind):
        clauses.assignments.append(assignment(spans, first, end))
    return _common(clauses, spans, marks, "FROM")


def _delete(statement: Statement, spans: Spans) -> Clauses:
    word = spans.before(spans.at(location(statement.body["relation"])), "DELETE_P")
    marks = _marks(spans, word + 2, statement.end, ("USING", "WHERE", "RETURNING"))
    clauses = Clauses(with_span(statement, spans, word), span_of(spans, word + 2, min(marks.values())))
    return _common(clauses, spans, marks, "USING")


def _common(clauses: Clauses, spans: Spans, marks: dict[str, int], others: str) -> Clauses:
    for name, i in marks.items():
        if name in (others, "WHERE", "RETURNING"):
            behind = min(other for other in marks.values() if other > i)
            span = span_of(spans, i + 1, behind)
            if name == others:
                clauses.others = span
            elif name == "WHERE":
                clauses.where = span
            else:
                clauses.returning = span
    return clauses


def _insert(statement: Statement, spans: Spans) -> Clauses:
    body = statement.body
    target = spans.at(location(body["relation"]))
    word = spans.before(target, "INSERT")
    end_of_target = spans.relation_end(location(body["relation"]), aliased="alias" in body["relation"])
    behind = next(i for i in range(target, len(spans.tokens)) if spans.tokens[i].end == end_of_target) + 1
    marks = _marks(spans, behind, statement.end, ("RETURNING",))
    conflict = next((i for i in level(spans, behind, marks[""]) if _is_conflict(spans, i)), None)
    source = _source_start(spans, behind, "cols" in body)
    end = min(i for i in (conflict, *marks.values()) if i is not None)
    clauses = Clauses(with_span(statement, spans, word), (spans.tokens[word + 2].start, end_of_target))
    if source > behind:
        clauses.into = span_of(spans, behind, source)
    clauses.source = span_of(spans, source, end)
    if spans.name(source) == "VALUES":
        clauses.rows = [spans.items(spans.tokens[i].start) for i in level(spans, source + 1, end) if spans.name(i) == OPEN]
    if conflict is not None:
        clauses.conflict = span_of(spans, conflict, marks.get("RETURNING", marks[""]))
        _conflict(clauses, spans, conflict, marks.get("RETURNING", marks[""]))
    if "RETURNING" in marks:
        clauses.returning = span_of(spans, marks["RETURNING"] + 1, marks[""])
    return clauses


def _conflict(clauses: Clauses, spans: Spans, first: int, end: int) -> None:
    """Note the entries of DO UPDATE SET, and its condition; that of the conflict's target stands before them."""
    update = next((i for i in level(spans, first, end) if spans.name(i) == "SET"), None)
    if update is None:
        return
    where = next((i for i in level(spans, update, end) if spans.name(i) == "WHERE"), end)
    clauses.updates = [assignment(spans, *item) for item in items(spans, update + 1, where)]
    if where < end:
        clauses.updated_where = span_of(spans, where + 1, end)


def _source_start(spans: Spans, i: int, listed: bool) -> int:  # noqa: FBT001 - whether there is a list of columns
    if listed:
        i = spans.partner(i) + 1
    return i + 3 if spans.name(i) == "OVERRIDING" else i


def _is_conflict(spans: Spans, i: int) -> bool:
    return spans.name(i) == "ON" and spans.name(i + 1) == "CONFLICT"


def assignment(spans: Spans, first: int, end: int) -> Assignment:
    """Return the entry of SET that these tokens are; StatementRefused, StopIteration, Impossible where it is none that is known."""
    equals = next(i for i in level(spans, first, end) if spans.name(i) == _EQUALS)
    names, value = span_of(spans, first, equals), span_of(spans, equals + 1, end)
    if spans.name(first) != OPEN:
        return Assignment(names, value)
    opening = equals + 2 if spans.name(equals + 1) == "ROW" else equals + 1
    if spans.name(opening) != OPEN or spans.partner(opening) != end - 1:
        raise Impossible("the right side of a list of columns is no row")
    return Assignment(names, value, tuple(spans.items(spans.tokens[opening].start)))


def with_span(statement: Statement, spans: Spans, word: int) -> Span | None:
    """Return WITH and its queries before the word of a write; None where it has none."""
    first = next(t.start for t in spans.tokens if t.start >= statement.start)
    return (first, spans.tokens[word - 1].end) if spans.tokens[word].start > first else None


def _marks(spans: Spans, first: int, end: int, names: tuple[str, ...]) -> dict[str, int]:
    """Return the first token of each of these words outside of brackets, and as "" the one behind the statement."""
    marks: dict[str, int] = {}
    last = next((i for i in range(first, len(spans.tokens)) if spans.tokens[i].start >= end), len(spans.tokens))
    for i in level(spans, first, last):
        name = spans.name(i)
        if name == SEMICOLON:
            last = i
            break
        if name in names and name not in marks and not (name == "FROM" and spans.name(i - 1) == "DISTINCT"):
            marks[name] = i
    return {**marks, "": last}


def items(spans: Spans, first: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the first token of each entry that commas separate, and the one behind its last."""
    for i in level(spans, first, end):
        if spans.name(i) == COMMA:
            yield first, i
            first = i + 1
    yield first, end


def level(spans: Spans, first: int, end: int) -> Iterator[int]:
    """Yield the tokens outside of brackets, and the brackets that open."""
    i = first
    while i < end:
        yield i
        i = spans.partner(i) + 1 if spans.name(i) in (OPEN, "ASCII_91") else i + 1


def span_of(spans: Spans, first: int, behind: int) -> Span:
    """Return where tokens stand in the text."""
    return spans.tokens[first].start, spans.tokens[behind - 1].end


_READERS = {"DeleteStmt": _delete, "InsertStmt": _insert, "UpdateStmt": _update}
