"""Statements around a query: COPY (query) TO, DECLARE CURSOR FOR query, EXPLAIN query. What they do with it the engine does.

Of a write EXPLAIN shows how its rows are fetched and its values computed; what would store them is not planned. EXPLAIN ANALYZE
runs all of it, and explains each part (``explained``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.result import Around, Rest, Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.explained import OPTIONS, analyzed, check_shown, explained_as, is_analyzed
from phiproxy.sql.statements import prepare_and_cursors
from phiproxy.sql.statements.utility import effects
from phiproxy.sql.text.parse import Node, Statement, only
from phiproxy.sql.text.token_spans import OPEN, Spans

_AROUND: dict[str, Around] = {"CopyStmt": "copy", "DeclareCursorStmt": "cursor", "ExplainStmt": "explain"}
_SCROLLS, _SCROLLS_NOT = 0x0002, 0x0004
# SCROLL, INSENSITIVE, WITH HOLD: PostgreSQL declares no such cursor over a query that locks rows.
_LOCKS_NOTHING = _SCROLLS | 0x0008 | 0x0020
_WRITES = frozenset({"DeleteStmt", "InsertStmt", "MergeStmt", "UpdateStmt"})


class Inner(NamedTuple):
    """The query, or write, inside of a statement: ``start:end`` of the text."""

    around: Around
    start: int
    end: int


def inner_query(statement: Statement, text: bytes, context: Context) -> Inner | None:
    """Return the query inside of a statement that the engine can run around it; None of any other.

    Of ``COPY (SELECT upper(ssn) FROM patients) TO STDOUT`` it is the SELECT.
    """
    around, body = _AROUND.get(statement.kind), statement.body
    if around is None or "query" not in body or not _is_plain(around, body):
        return None
    kind, query = only(body["query"])
    if kind != "SelectStmt" and not (around == "explain" and kind in _WRITES):
        return None
    if around == "cursor" and "lockingClause" in query and body.get("options", 0) & _LOCKS_NOTHING:
        return None
    a = Analysis(text, context, statement, RULES)
    if around == "copy" and any("ParamRef" in m for m in a.whole()):
        return None
    if around != "explain" and not _WRITES.isdisjoint(a.keys):
        return None  # what a write in WITH stores would be computed, and not be stored
    spans = Spans([t for t in a.tokens() if statement.start <= t.start < statement.end])
    names = [token.name for token in spans.tokens]
    if around == "copy":
        first = names.index(OPEN)
        return Inner(around, spans.tokens[first + 1].start, spans.tokens[spans.partner(first)].start)
    first = names.index("FOR") + 1 if around == "cursor" else _behind_options(spans, names)
    return Inner(around, spans.tokens[first].start, statement.end)


def _behind_options(spans: Spans, names: list[str]) -> int:
    """Return the index of the first token of the query that is explained."""
    at = 1
    if names[1] == OPEN and names[2] not in ("SELECT", "WITH", "VALUES", "TABLE", OPEN):
        at = spans.partner(1) + 1
    while names[at] in ("ANALYZE", "ANALYSE", "VERBOSE"):
        at += 1
    return at


def _is_plain(around: Around, body: Node) -> bool:
    if around == "copy":
        return not (body.get("is_program") or "filename" in body)
    return around == "cursor" or all(only(option)[1]["defname"] in OPTIONS for option in body.get("options", ()))


def split_around(statement: Statement, text: bytes, context: Context, inner: Inner, split: Split) -> Split:
    """Return how a statement is split, of whose query it is known."""
    a = Analysis(text, context, statement, RULES)
    a.answer.effects = effects(statement.kind, statement.body, a.whole(), context.catalog.setters)
    if inner.around == "cursor":
        prepare_and_cursors.declare(a, statement.body)
    lead, trail = text[statement.start : inner.start], text[inner.end : statement.end]
    words = _without_comments(a, statement.start, inner.start)
    around = replace(
        split,
        kind="explain" if inner.around == "explain" else "other",
        around=inner.around,
        lead=words,
        effects=a.answer.effects,
        plain_select=inner.around != "cursor",
    )
    if inner.around == "explain":
        check_shown(a)
        around = replace(around, explained_as=explained_as(statement.body))
        if is_analyzed(statement.body):
            written = split.write is None and split.kind != "select"
            return analyzed(a, around, written=written, before=_blank(text[: statement.start]))
    if inner.around == "cursor" and "LockingClause" in a.keys and not statement.body.get("options", 0) & (_SCROLLS | _SCROLLS_NOT):
        lead = _forward_only(a, statement.start, lead)
    rest = split.rest
    parts = [lead + rest.parts[0], *rest.parts[1:]]
    parts[-1] += trail
    spans = tuple((start + len(lead), end + len(lead), at) for start, end, at in rest.spans)
    length = sum(map(len, parts))
    spans += ((length - len(trail), length, inner.end),)
    return replace(around, rest=Rest(tuple(parts), rest.parameters, spans), write=None)


def _forward_only(a: Analysis, start: int, lead: bytes) -> bytes:
    """Return ``DECLARE c NO SCROLL CURSOR FOR``: where rows are locked PostgreSQL only goes forward, the rest locks none."""
    _, _, *behind_name = (token for token in a.tokens() if token.start >= start)
    at = next(token.start for token in behind_name if token.name == "CURSOR") - start
    return lead[:at] + b"NO SCROLL " + lead[at:]


def _without_comments(a: Analysis, start: int, end: int) -> bytes:
    """Return a part of the text with blanks for its comments, which may say anything: the server is sent it."""
    out, at = b"", start
    for token in a.tokens():
        if start <= token.start < end:
            out += _blank(a.text[at : token.start]) + a.text[token.start : token.end]
            at = token.end
    return out + _blank(a.text[at:end])


def _blank(text: bytes) -> bytes:
    return b" " * len(text.decode("utf-8", "replace"))
