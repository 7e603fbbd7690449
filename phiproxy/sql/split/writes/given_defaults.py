"""Computed DEFAULTs of protected columns in a write: its text is taken as if the client had written their expressions.

So whatever is done about a computed value is done about a default: ``computed_values``, ``updated_and_deleted_rows`` and the others
see none.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from phiproxy.errors import StatementRefused
from phiproxy.policy.catalog import Relation
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.result import Edit, Rest, Span, Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.clauses import clauses_of
from phiproxy.sql.split.writes.composed import Composed, client_spans
from phiproxy.sql.split.writes.composed_select import types_of
from phiproxy.sql.table_names import meant_relation
from phiproxy.sql.text.parse import Node, Statement, location, messages, only, parse, tokens
from phiproxy.sql.text.token_spans import Spans
from phiproxy.sql.writes.assignment import columns_of
from phiproxy.sql.writes.column_defaults import without

_CONSTANTS = frozenset({"SCONST", "ICONST", "FCONST", "USCONST", "BCONST", "XCONST"})
_ROWS = "phi_query"


class WithDefaults(NamedTuple):
    """A statement with the expressions of its defaults, and where spans of its text are from in the client's."""

    statement: Statement
    text: bytes
    context: Context
    original: Statement
    pieces: tuple[Span, ...]
    columns: tuple[ProtectedColumn, ...]
    """Those of ``context.default_spans``."""

    def placed(self, split: Split) -> Split | None:
        """Return how the client's statement is split; None where the server would see something of a default."""
        own = self.context.default_spans
        if _shows(split.source, split.source_spans, own, constants=True):
            return None
        write = split.write
        if write is not None and _shows(write.text, write.spans, own, constants=False):
            return None
        return dataclasses.replace(
            split,
            start=self.original.start,
            end=self.original.end,
            source_spans=client_spans(split.source_spans, self.pieces),
            rest=self._rest(split.rest),
            described=self._rest(split.described),
            write=dataclasses.replace(write, spans=client_spans(write.spans, self.pieces)) if write is not None else None,
        )

    def _rest(self, rest: Rest) -> Rest:
        return dataclasses.replace(rest, spans=client_spans(rest.spans, self.pieces))


def with_defaults(statement: Statement, text: bytes, context: Context) -> WithDefaults | None:
    """Return a statement with the expressions of its computed defaults; None where it has none, or one that cannot be given.

    INSERT INTO tasks (id, task_text) VALUES (1, 'x'), (2, 'y')
    → source: SELECT current_date
    → rest: SELECT q.q1 FROM (SELECT ((SELECT s.c1 AS current_date FROM {} AS s) + 30)) AS q (q1)
    → write: INSERT INTO tasks (id, task_text, task_due) VALUES (1, 'x', $1), (2, 'y', $1)
    """
    if context.default_text is None or not any(c.computed_default for t in context.protection.tables for c in t.columns.values()):
        return None
    a = Analysis(text, context, statement, RULES)
    edits = _Edits(a, Spans(a.tokens()))
    try:
        for kind, body in _writes(statement):
            edits.of(kind, body)
    except (Impossible, StatementRefused, StopIteration):
        return None
    if not edits.edits:
        return None
    given, pieces, own = _applied(text, edits.edits)
    again = next((s for s in parse(given) if s.start == statement.start), None)
    if again is None or again.kind != statement.kind:
        return None
    spans = tuple((start, end) for start, end, _ in own)
    context = dataclasses.replace(context, default_spans=spans, default_text=None)
    return WithDefaults(again, given, context, statement, pieces, tuple(column for _, _, column in own))


def _writes(statement: Statement) -> Iterator[tuple[str, Node]]:
    yield statement.kind, statement.body
    for message in messages(statement.body):
        for kind in ("InsertStmt", "UpdateStmt", "MergeStmt"):
            if isinstance(message.get(kind), dict):
                yield kind, message[kind]


def _applied(
    text: bytes, edits: Iterable[tuple[Edit, ProtectedColumn | None]]
) -> tuple[bytes, tuple[Span, ...], list[tuple[int, int, ProtectedColumn]]]:
    """Return a text with edits, where its spans are from, and where it has expressions of defaults."""
    parts, pieces, spans, at, length = list[bytes](), list[Span](), list[tuple[int, int, ProtectedColumn]](), 0, 0
    for edit, column in sorted(edits, key=lambda one: (one[0].start, one[0].end)):
        if at < edit.start:
            pieces.append((length, length + edit.start - at, at))
        parts += [text[at : edit.start], edit.text]
        length += edit.start - at
        if column is not None:
            spans.append((length, length + len(edit.text), column))
        length += len(edit.text)
        at = edit.end
    pieces.append((length, length + len(text) - at, at))
    return b"".join([*parts, text[at:]]), tuple(pieces), spans


def _shows(text: bytes, spans: Sequence[Span], own: Sequence[tuple[int, int]], *, constants: bool) -> bool:
    """Tell whether a text for the server has something of a default, or (``constants``) a constant of one: clocks it may have."""
    lasts, shown = [last for _, last in own], list[tuple[int, int]]()
    for start, end, at in spans:
        for i in range(bisect_right(lasts, at), len(own)):
            first, last = own[i]
            if first >= at + end - start:
                break
            shown.append((start + max(first - at, 0), start + min(last - at, end - start)))
    named = [token for token in tokens(text) if token.name in _CONSTANTS] if constants and shown else []
    return bool(shown) and (not constants or any(a <= token.start < b for token in named for a, b in shown))


class _Edits:
    """The edits that give a statement the expressions of its defaults: with the column of those that are one."""

    def __init__(self, a: Analysis, spans: Spans) -> None:
        self._a, self._spans = a, spans
        self.edits: list[tuple[Edit, ProtectedColumn | None]] = []

    def of(self, kind: str, body: Node) -> None:
        """Note the edits of one write."""
        if kind not in ("InsertStmt", "UpdateStmt", "MergeStmt"):
            return
        relation = meant_relation(self._a, body["relation"])
        columns = {n: c for n, c in columns_of(self._a, relation).items() if c.computed_default is not None}
        if not columns:
            return
        if kind == "InsertStmt":
            self._insert(body, relation, columns)
            self._assigned(body.get("onConflictClause", {}).get("targetList", ()), columns)
        elif kind == "UpdateStmt":
            self._assigned(body.get("targetList", ()), columns)
        else:
            self._merge(body, relation, columns)

    def _expression(self, column: ProtectedColumn) -> bytes:
        text = self._a.context.default_text
        assert text is not None
        return b"(" + text(column) + b")"

    def _in_place(self, node: Node, column: ProtectedColumn | None) -> None:
        """Put the expression of a column in the place of the word DEFAULT."""
        if column is not None and "SetToDefault" in node:
            at = location(node["SetToDefault"])
            self._give(at, self._spans.tokens[self._spans.at(at)].end, column)

    def _put(self, at: int, text: bytes) -> None:
        self.edits.append((Edit(at, at, text), None))

    def _give(self, start: int, end: int, column: ProtectedColumn) -> None:
        self.edits.append((Edit(start, end, self._expression(column)), column))

    def _added(self, at: int, columns: Iterable[ProtectedColumn]) -> None:
        """Put the expressions of columns behind a list of values."""
        for column in columns:
            self._put(at, b", ")
            self._give(at, at, column)

    def _assigned(self, nodes: Sequence[Node], columns: dict[str, ProtectedColumn]) -> None:
        for node in nodes:
            entry = only(node)[1]
            value, column = entry["val"], columns.get(entry["name"])
            many = value.get("MultiAssignRef")
            if many is None:
                self._in_place(value, column)
            elif "RowExpr" in many["source"]:
                self._in_place(many["source"]["RowExpr"]["args"][many["colno"] - 1], column)

    def _left_out(
        self, relation: Relation, names: Sequence[str], columns: dict[str, ProtectedColumn]
    ) -> dict[str, ProtectedColumn]:
        return {name: column for name, column in without(self._a, relation, names) if name in columns}

    def _insert(self, body: Node, relation: Relation, columns: dict[str, ProtectedColumn]) -> None:
        target = body["relation"]
        end = self._spans.relation_end(location(target), aliased="alias" in target)
        listed = [only(node)[1]["name"] for node in body.get("cols", ())]
        visible = [c.name for c in visible_columns(relation)]
        if "selectStmt" not in body:
            self._default_values(end, self._left_out(relation, (), columns))
            return
        query = only(body["selectStmt"])[1]
        rows = [only(row)[1]["items"] for row in query.get("valuesLists", ())]
        if rows:
            names = listed or visible[: len(rows[0])]
            left = self._left_out(relation, names, columns)
            opening = self._spans.select(_first(rows[0])) + 1
            for items in rows:
                for name, item in zip(names, items, strict=False):
                    self._in_place(item, columns.get(name))
                closing = self._spans.partner(opening)
                self._added(self._spans.tokens[closing].start, left.values())
                opening = closing + 2
        else:
            count = self._outputs(query, listed)
            names = listed or visible[:count]
            left = self._left_out(relation, names, columns)
            if left:
                self._query(query, body, count, left)
        if left:
            self._list(end, listed, names, left)

    def _list(self, end: int, listed: Sequence[str], names: Sequence[str], left: Iterable[str]) -> None:
        """Add columns to the list behind a target, or make one."""
        if listed:
            opening = next(i for i, token in enumerate(self._spans.tokens) if token.start >= end)
            self._put(self._spans.tokens[self._spans.partner(opening)].start, b", " + _spelled(left))
        else:
            self._put(end, b" (" + _spelled([*names, *left]) + b")")

    def _default_values(self, end: int, left: dict[str, ProtectedColumn]) -> None:
        word = next(i for i, token in enumerate(self._spans.tokens) if token.start >= end and self._spans.name(i) == "DEFAULT")
        if not left:
            return
        first, *others = left.values()
        tokens_ = self._spans.tokens
        self._put(tokens_[word].start, b"(" + _spelled(left) + b") VALUES (")
        self._give(tokens_[word].start, tokens_[word + 1].end, first)
        self._added(tokens_[word + 1].end, others)
        self._put(tokens_[word + 1].end, b")")

    def _outputs(self, query: Node, listed: Sequence[str]) -> int:
        """Return how many columns the query of an INSERT gives; Impossible where that is not known."""
        if listed:
            return len(listed)
        while query.get("op", "SETOP_NONE") != "SETOP_NONE":
            query = query["larg"]
        outputs = [only(node)[1]["val"] for node in query.get("targetList", ())]
        if not outputs or any("A_Star" in m for output in outputs for m in messages(output)):
            raise Impossible("it is not known how many columns a query gives")
        return len(outputs)

    def _query(self, query: Node, body: Node, count: int, left: dict[str, ProtectedColumn]) -> None:
        """Add columns to the query of an INSERT: to its list, or around it.

        INSERT INTO tasks (id, task_text) SELECT id, NULL FROM patients UNION SELECT id, NULL FROM visits
        → rest: SELECT pg_catalog.array_agg(q.q1), pg_catalog.array_agg(q.q2), pg_catalog.array_agg(q.q3) FROM (SELECT phi_query_1,
          phi_query_2, ((SELECT s.c6 AS current_date FROM {} AS s WHERE s.c5) + 30) FROM …
        """
        outputs = query.get("targetList", ())
        located = any(m.get("location", -1) > 0 for m in messages(outputs[:1]))
        if query.get("op", "SETOP_NONE") == "SETOP_NONE" and located:
            last = self._spans.targets_end(self._spans.select(_first(outputs[:1])))
            self._added(self._spans.tokens[last].end, left.values())
            return
        source = clauses_of(self._a.statement, self._spans).source if body is self._a.statement.body else None
        if source is None or _ROWS.encode() in self._a.text:
            raise Impossible("the query of an INSERT could not be located")
        if len(types_of(self._a, Composed(self._a.text, self._spans).add(source))) != count:
            raise Impossible("a query that gives another number of columns")  # an alias would drop some
        names = [f"{_ROWS}_{n}" for n in range(1, count + 1)]
        self._put(source[0], f"SELECT {', '.join(names)}".encode())
        self._added(source[0], left.values())
        self._put(source[0], b" FROM (")
        self._put(source[1], f") AS {_ROWS} ({', '.join(names)})".encode())

    def _merge(self, body: Node, relation: Relation, columns: dict[str, ProtectedColumn]) -> None:
        spans = self._spans
        start = spans.at(location(body["relation"]))
        words = (i for i in range(start, len(spans.tokens)) if spans.name(i) == "INSERT" and spans.name(i - 1) == "THEN")
        visible = [c.name for c in visible_columns(relation)]
        for node in body["mergeWhenClauses"]:
            clause = only(node)[1]
            if clause["commandType"] == "CMD_UPDATE":
                self._assigned(clause["targetList"], columns)
            elif clause["commandType"] == "CMD_INSERT":
                end, values = spans.tokens[next(words)].end, clause.get("values")
                if values is None:
                    self._default_values(end, self._left_out(relation, (), columns))
                    continue
                listed = [only(entry)[1]["name"] for entry in clause.get("targetList", ())]
                names = listed or visible[: len(values)]
                for name, value in zip(names, values, strict=False):
                    self._in_place(value, columns.get(name))
                left = self._left_out(relation, names, columns)
                if left:
                    opening = spans.select(_first(values)) + 1
                    self._added(spans.tokens[spans.partner(opening)].start, left.values())
                    self._list(end, listed, names, left)


def _first(nodes: Sequence[Node]) -> int:
    return min(int(m["location"]) for m in messages(list(nodes)) if m.get("location", -1) > 0)


def _spelled(names: Iterable[str]) -> bytes:
    return ", ".join(quote_ident(name, always=True) for name in names).encode()
