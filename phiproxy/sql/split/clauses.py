"""Where the clauses of a query are in its text, and the parts of conditions that AND joins; token indexes, ends excluded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from phiproxy.errors import StatementRefused
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.text.parse import Node, location, messages, only
from phiproxy.sql.text.token_spans import CLOSE, COMMA, OPEN, SET_OPERATORS, Spans

_AFTER_FROM = SET_OPERATORS | {"WHERE", "GROUP_P", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "ASCII_59"}
_AFTER_WHERE = _AFTER_FROM - {"WHERE"}
_AFTER_ON = _AFTER_FROM | {COMMA, "NATURAL", "CROSS", "JOIN", "INNER_P", "LEFT", "RIGHT", "FULL", "ON", "USING"}
_BRACKETS = (OPEN, "ASCII_91")


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One condition of several that AND joins: its span in bytes, and the nodes in it.

    ``weaker`` is a span of it and what the source has there instead: then it keeps more rows, and the rest decides.
    """

    start: int
    end: int
    nodes: tuple[Node, ...] = field(compare=False)
    weaker: tuple[int, int, bytes] | None = field(default=None, compare=False)


def first_of(node: object) -> int:
    """Return the byte offset of what stands first in an expression; Impossible where nothing in it has a place."""
    places: list[int] = [m["location"] for m in messages(node) if m.get("location", -1) >= 0]
    if not places:
        raise Impossible("an expression without a place")
    return min(places)


def select_token(spans: Spans, body: Node) -> int:
    """Return the SELECT of a query; Impossible where it is written otherwise."""
    targets = body.get("targetList")
    if not targets or location(only(targets[0])[1]) < 0:
        raise Impossible("a query without a target list")
    try:
        i = spans.select(location(only(targets[0])[1]))
    except StatementRefused:
        raise Impossible("a query that is not found") from None
    if spans.tokens[i].name != "SELECT":
        raise Impossible("a query that is no SELECT")
    return i


def first_token(spans: Spans, body: Node) -> int:
    """Return the SELECT of a query, or the TABLE of ``TABLE patients``; Impossible where it is written otherwise."""
    items = body.get("fromClause", ())
    if len(items) == 1 and "RangeVar" in items[0]:
        before = spans.at(location(items[0]["RangeVar"])) - 1
        if spans.name(before) == "TABLE":
            return before
    return select_token(spans, body)


def from_clause(spans: Spans, select: int) -> tuple[int, int]:
    """Return the FROM of the query whose SELECT is at ``select``: what stands behind the word."""
    i = _end(spans, select + 1, _AFTER_FROM | {"FROM"})
    if spans.name(i) != "FROM":
        raise Impossible("a query without FROM")
    return i + 1, _end(spans, i + 1, _AFTER_FROM)


def where(spans: Spans, node: Node) -> list[Part]:
    """Return the parts of a WHERE."""
    return _clause(spans, node, "WHERE", _AFTER_WHERE)


def on(spans: Spans, node: Node) -> list[Part]:
    """Return the parts of the ON of a join."""
    return _clause(spans, node, "ON", _AFTER_ON)


def group_by_end(spans: Spans, node: Node) -> int:
    """Return the byte offset at which the GROUP BY ends that begins with a node."""
    try:
        begin = spans.before(spans.at(first_of(node)), "GROUP_P")
    except StatementRefused:
        raise Impossible("a GROUP BY that is not found") from None
    return spans.tokens[_end(spans, begin + 1, _AFTER_WHERE - {"GROUP_P"}) - 1].end


def tail(spans: Spans, select: int) -> int:
    """Return what stands behind the body of the query whose SELECT is at ``select``: its ORDER BY, LIMIT or locking."""
    return _end(spans, select + 1, SET_OPERATORS | {"ORDER", "LIMIT", "OFFSET", "FETCH", "FOR", "ASCII_59"})


def _clause(spans: Spans, node: Node, word: str, ends: frozenset[str] | set[str]) -> list[Part]:
    try:
        begin = spans.before(spans.at(first_of(node)), word) + 1
    except StatementRefused:
        raise Impossible("a condition that is not found") from None
    kind, body = only(node)
    joined = kind == "BoolExpr" and body["boolop"] == "AND_EXPR"
    nodes = body["args"] if joined else [node]
    return list(_parts(spans, begin, _end(spans, begin, ends), nodes))


def _parts(spans: Spans, begin: int, end: int, nodes: Sequence[Node]) -> Iterator[Part]:
    """Yield the parts of what stands between two tokens, in which several nodes are joined by AND."""
    tokens = spans.tokens
    if len(nodes) > 1 and spans.name(begin) == OPEN and spans.partner(begin) == end - 1:
        yield from _parts(spans, begin + 1, end - 1, nodes)
        return
    cuts = [begin, *(i + 1 for i in _ands(spans, begin, end)), end + 1] if len(nodes) > 1 else [begin, end + 1]
    placed = [(first_of(node), node) for node in nodes]
    for one, following in pairwise(cuts):
        last = following - 2
        start, stop = tokens[one].start, tokens[last].end
        inside = tuple(node for place, node in placed if start <= place < stop)
        if not inside:
            raise Impossible("a condition that is not found")
        if len(inside) > 1:
            if not (spans.name(one) == OPEN and spans.partner(one) == last):
                raise Impossible("conditions that are not told apart")
            yield from _parts(spans, one + 1, last, inside)
        else:
            yield Part(start, stop, inside)


def _ands(spans: Spans, begin: int, end: int) -> Iterator[int]:
    """Yield the ANDs between two tokens that join conditions: no bounds of BETWEEN, and not those inside of CASE or brackets."""
    i, cases, between = begin, 0, 0
    while i < end:
        name = spans.name(i)
        if name in _BRACKETS:
            i = spans.partner(i)
        elif name == "CASE":
            cases += 1
        elif name == "END_P":
            cases -= 1
        elif name == "BETWEEN" and not cases:
            between += 1
        elif name == "AND" and not cases:
            if between:
                between -= 1
            else:
                yield i
        i += 1


def _end(spans: Spans, i: int, ends: frozenset[str] | set[str]) -> int:
    """Return the first token at or behind ``i`` that is one of these words, or closes a bracket around it."""
    try:
        while i < len(spans.tokens):
            name = spans.name(i)
            if name == CLOSE or (name in ends and not _means_something_else(spans, i, name)):
                return i
            i = spans.partner(i) + 1 if name in _BRACKETS else i + 1
    except StatementRefused:
        raise Impossible("brackets that are not found") from None
    return i


def _means_something_else(spans: Spans, i: int, name: str) -> bool:
    if name == "FROM":
        return spans.name(i - 1) == "DISTINCT"  # IS DISTINCT FROM
    return name in ("LEFT", "RIGHT") and spans.name(i + 1) == OPEN  # the functions
