"""Where the clauses of a MERGE stand in the client's text, and what each WHEN clause gives to which column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from phiproxy.errors import StatementRefused
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.assigned_values import Given, assigned, given_value
from phiproxy.sql.split.writes.clauses import Assignment, assignment, items, level, span_of, with_span
from phiproxy.sql.split.writes.composed import Span
from phiproxy.sql.split.writes.targets import Target
from phiproxy.sql.text.parse import Node, Statement, location, only
from phiproxy.sql.text.token_spans import OPEN, SEMICOLON, Spans


@dataclass(frozen=True, slots=True)
class When:
    """One WHEN clause, of this match kind and with this command; ``into`` is what stands between INSERT and its values."""

    kind: str
    command: str
    node: Node
    condition: Span | None
    into: Span | None = None
    values: tuple[Given, ...] = ()


@dataclass(slots=True)
class Merge:
    """A MERGE with its parts."""

    body: Node
    target: Target
    before: Span | None
    """WITH and its queries."""
    relation: Span
    """The target, with ONLY and its alias."""
    source: Span
    """The item of USING, with its alias."""
    condition: Span
    """That of ON."""
    returning: Span | None = None
    whens: list[When] = field(default_factory=list)


def merge_of(statement: Statement, spans: Spans, target: Target) -> Merge:
    """Return the clauses of a MERGE; Impossible where they are not located."""
    try:
        return _merge(statement, spans, target)
    except (StatementRefused, IndexError, StopIteration, KeyError, ValueError):
        raise Impossible("a clause could not be located") from None


def _merge(statement: Statement, spans: Spans, target: Target) -> Merge:
    body = statement.body
    word = spans.before(spans.at(location(body["relation"])), "MERGE")
    end = _end(spans, word, statement.end)
    starts = [i for i in level(spans, word, end) if _is_when(spans, i)]
    using = next(i for i in level(spans, word, end) if spans.name(i) == "USING")
    on = max(i for i in level(spans, using, starts[0]) if spans.name(i) == "ON")
    returning = next((i for i in level(spans, starts[-1], end) if spans.name(i) == "RETURNING"), end)
    merge = Merge(
        body,
        target,
        with_span(statement, spans, word),
        span_of(spans, word + 2, using),
        span_of(spans, using + 1, on),
        span_of(spans, on + 1, starts[0]),
        span_of(spans, returning + 1, end) if returning < end else None,
    )
    nodes = [only(node)[1] for node in body["mergeWhenClauses"]]
    for node, (first, behind) in zip(nodes, zip(starts, [*starts[1:], returning], strict=True), strict=True):
        merge.whens.append(_when(spans, target, node, first, behind))
    return merge


def _end(spans: Spans, first: int, end: int) -> int:
    """Return the token behind the statement."""
    last = next((i for i in range(first, len(spans.tokens)) if spans.tokens[i].start >= end), len(spans.tokens))
    return next((i for i in level(spans, first, last) if spans.name(i) == SEMICOLON), last)


def _is_when(spans: Spans, i: int) -> bool:
    """Tell whether a WHEN begins a clause of MERGE, and is none of a CASE."""
    behind = i + 2 if spans.name(i + 1) == "NOT" else i + 1
    return spans.name(i) == "WHEN" and spans.name(behind) == "MATCHED" and spans.name(behind + 1) in ("AND", "THEN", "BY")


def _when(spans: Spans, target: Target, node: Node, first: int, behind: int) -> When:
    action = _action(spans, first, behind)
    conjunction = next(i for i in range(first, action) if spans.name(i) in ("AND", "THEN"))
    condition = span_of(spans, conjunction + 1, action - 1) if "condition" in node else None
    kind, command = node["matchKind"], node["commandType"]
    if command == "CMD_UPDATE":
        entries: Iterator[Assignment] = (assignment(spans, *item) for item in items(spans, action + 2, behind))
        return When(kind, command, node, condition, values=tuple(assigned(target, node["targetList"], entries)))
    if command != "CMD_INSERT" or "values" not in node:
        return When(kind, command, node, condition)
    word = next(i for i in level(spans, action, behind) if spans.name(i) == "VALUES")
    opening = next(i for i in range(word, behind) if spans.name(i) == OPEN)
    listed = [only(one)[1] for one in node.get("targetList", ())]
    if any(one.get("indirection") for one in listed):
        raise Impossible("a part of a column is given")
    names = [one["name"] for one in listed] or target.names(len(node["values"]))
    values = zip(names, node["values"], spans.items(spans.tokens[opening].start), strict=True)
    into = span_of(spans, action + 1, word) if word > action + 1 else None
    return When(kind, command, node, condition, into, tuple(given_value(target, *value) for value in values))


def _action(spans: Spans, first: int, behind: int) -> int:
    """Return what stands behind the THEN of a WHEN clause, which is none of a CASE in its condition."""
    depth = 0
    for i in level(spans, first, behind):
        depth += (spans.name(i) == "CASE") - (spans.name(i) == "END_P")
        if spans.name(i) == "THEN" and not depth:
            return i + 1
    raise Impossible("a clause without an action")
