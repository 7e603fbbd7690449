"""What is drawn for the rows that a MERGE writes: the engine has decided which these are, and the server draws for them.

So each number is drawn for a row that is written so, clause by clause, and for no other; and the engine computes with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.result import Rest, SourceColumn, Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.pieces import Replaced, rest_of
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.rest_nodes import check_rest
from phiproxy.sql.split.same_answers import AT_EACH_CALL
from phiproxy.sql.split.statement import Calls, Whole
from phiproxy.sql.split.tables_and_columns import mentioned
from phiproxy.sql.split.values import ServerValue, server_values
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composed_select import declared_types, noted, of_client, settled_types, types_of
from phiproxy.sql.split.writes.composition import Parts, Stored, as_arrays, assembled
from phiproxy.sql.split.writes.described_merge import described_merge
from phiproxy.sql.split.writes.drawn import called_by_server, calls_in, is_drawn, name_of, result_of
from phiproxy.sql.split.writes.drawn_order import ASKED_FIRST, place_of
from phiproxy.sql.split.writes.merge_clauses import Merge, When, merge_of
from phiproxy.sql.split.writes.parts_seen_together import answered, names_sequences, sequence_name
from phiproxy.sql.split.writes.targets import carried_as, target_of
from phiproxy.sql.text.parse import location, messages, parse, strings
from phiproxy.sql.text.token_spans import OPEN, Spans
from phiproxy.types.declared import DeclaredType

_ROW, _DRAWN = "phi_row", "phi_drawn"
_BRANCHES = frozenset({"CaseExpr", "CoalesceExpr"})
_NUMBER = SourceColumn(DeclaredType.builtin("int8"))


class _Value(NamedTuple):
    """What is given to the write for the rows of a clause: a value that is computed, or what is drawn for one that is not."""

    when: When
    span: Span
    asked: tuple[str | Span, ...]
    stored: Stored


@dataclasses.dataclass(frozen=True, slots=True)
class _Drawing:
    a: Analysis
    spans: Spans
    merge: Merge
    names: list[str]
    """The columns of the given rows, and where their values stand."""
    items: list[Span]
    values: list[_Value]

    def kept(self, asked: Sequence[object]) -> list[tuple[str, Span]]:
        """Return the columns of the given rows that stand in these nodes."""
        needed = mentioned(bodies(asked, ())).names
        return [(name, item) for name, item in zip(self.names, self.items, strict=True) if name in needed]

    def rows(self, asked: Sequence[object]) -> list[str | Span]:
        """Return the given rows with these columns, and their numbers."""
        kept = self.kept(asked)
        return [*_listed(kept), f") WITH ORDINALITY AS {ALIAS} ({', '.join([*(name for name, _ in kept), _ROW])})"]


def drawn_merge(a: Analysis, spans: Spans, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a MERGE of given rows, of which each says what becomes of it, and that draws for some; Impossible for any other.

    MERGE INTO members m USING ROWS FROM (unnest($1::text[]), unnest($2::text[]), unnest($3::bool[]), unnest($4::text[]))
      AS phi_write (phi_1, phi_2, phi_3, phi_4) ON m.ctid = phi_write.phi_1::tid AND m.tableoid = phi_write.phi_2::oid
      WHEN NOT MATCHED AND phi_write.phi_3 THEN INSERT (mrn) VALUES (phi_write.phi_4 || nextval('numbers'))
    → source: SELECT phi_write.phi_row, CASE WHEN phi_write.phi_3 THEN nextval('numbers') END
      FROM ROWS FROM (unnest($1::bool[])) WITH ORDINALITY AS phi_write (phi_3, phi_row)
    → rest: SELECT pg_catalog.array_agg(CAST(q.q1 AS varchar)) FROM (SELECT CASE WHEN phi_write.phi_3 THEN
      (phi_write.phi_4 || phi_drawn.c2) END FROM ROWS FROM (unnest($1::bool[]), unnest($2::text[])) WITH ORDINALITY AS phi_write
      (phi_3, phi_4, phi_row), (SELECT s.c1, s.c2 FROM {} AS s) AS phi_drawn (phi_row, c2)
      WHERE phi_drawn.phi_row = phi_write.phi_row ORDER BY phi_write.phi_row) AS q (q1)
    → write: MERGE INTO members m USING ROWS FROM (unnest($1::text[]), unnest($2::text[]), unnest($3::bool[]),
      pg_catalog.unnest($4::varchar[])) AS phi_write (phi_1, phi_2, phi_3, phi_5) ON m.ctid = phi_write.phi_1::tid
      AND m.tableoid = phi_write.phi_2::oid WHEN NOT MATCHED AND phi_write.phi_3 THEN INSERT (mrn) VALUES (phi_write.phi_5)
    """
    drawing = _drawing(a, spans)
    merge, stored = drawing.merge, [one.stored for one in drawing.values]
    select = _select(drawing)
    rest, asked = _rest(drawing, select)
    source = _source(drawing, select, asked)
    part = answered(a, source.text, source.parameters, of_source=True)
    flags = [item for name, item in zip(drawing.names, drawing.items, strict=True) if name in _flags(merge)]
    given = types_of(a, select)
    parts = Parts(
        select,
        stored,
        _write(drawing),
        described_merge(a, spans, merge),
        [merge.target],
        many=True,
        returns=merge.returning is not None,
        clear={int(a.text[t.start + 1 : t.end]) for item in flags for t in spans.parameters(*item)},
    )
    row = as_arrays(rest, parts, settled_types(a, select, given))
    columns = (_NUMBER, *(value.type for value in asked))
    split = Split(
        kind="write",
        start=a.statement.start,
        end=a.statement.end,
        source=source.text,
        source_parameters=tuple(source.parameters),
        columns=columns,
        rest=row,
        described=row,
        described_columns=(),
        source_spans=tuple(source.origins),
        refusal=refusal,
        own=True,
    )
    return assembled(a, parts, split, row, given, [part])


def _drawing(a: Analysis, spans: Spans) -> _Drawing:
    given = a.statement.body["sourceRelation"].get("RangeFunction", {})
    names = strings(given.get("alias", {}).get("colnames", ()))
    named = given.get("alias", {}).get("aliasname") == ALIAS and names and all(name.startswith(COLUMN) for name in names)
    if not named or given.get("ordinality") or not names_sequences(a):
        raise Impossible("no MERGE of given rows")
    merge = merge_of(a.statement, spans, target_of(a, a.statement.body["relation"]))
    items = spans.items(spans.tokens[spans.next(spans.at(merge.source[0]), OPEN)].start)
    if len(items) != len(names) or any("ColumnRef" not in when.node.get("condition", {}) for when in merge.whens):
        raise Impossible("no MERGE of given rows")
    return _Drawing(a, spans, merge, names, items, list(_values(a, spans, merge)))


def _flags(merge: Merge) -> list[str]:
    """Return the columns that say what becomes of a row."""
    return [strings(when.node["condition"]["ColumnRef"]["fields"])[-1] for when in merge.whens]


def _values(a: Analysis, spans: Spans, merge: Merge) -> list[_Value]:
    """Return what is computed behind what is drawn, in the order in which PostgreSQL draws: of a row by its columns."""
    target, calls = merge.target, {start: (start, end) for start, end, _ in called_by_server(a, spans, merge.body)}
    found = list[_Value]()
    for when in merge.whens:
        for value in sorted(when.values, key=lambda one: place_of(target.relation, one.column)):
            changing = [call for call in calls_in(value.node) if name_of(call) in AT_EACH_CALL]
            if any(location(call) not in calls or ("args" in call and sequence_name(call) is None) for call in changing):
                raise RefusedWithHint("a call that is not known", ASKED_FIRST)
            if value.computed and "ColumnRef" not in value.node:
                found.append(_Value(when, value.span, value.as_select, Stored(target.type(a.context.catalog, value.column))))
            elif not value.protected:
                if any(is_drawn(m) for m in messages(value.node) if not _BRANCHES.isdisjoint(m)):
                    raise RefusedWithHint("what is drawn in a branch, for an unprotected column", ASKED_FIRST)
                for span, call in sorted((calls[location(call)], name_of(call)) for call in changing):
                    found.append(_Value(when, span, (span,), Stored(DeclaredType.builtin(result_of(call)), computed=False)))
    if not any(one.stored.computed for one in found):
        raise Impossible("nothing is computed behind what is drawn")
    return found


def _select(drawing: _Drawing) -> Composed:
    """Return what is computed of each row, in the terms of the statement."""
    select = Composed(drawing.a.text, drawing.spans)
    for position, one in enumerate(drawing.values):
        assert one.when.condition is not None
        select.add(", " if position else "SELECT ", "CASE WHEN ", one.when.condition, " THEN (", *one.asked, ") END")
    computed = {one.span for one in drawing.values}
    values = [value.node for when in drawing.merge.whens for value in when.values if value.span in computed]
    nodes = [*values, *(when.node["condition"] for when in drawing.merge.whens)]
    return select.add(" FROM ", *drawing.rows(nodes), f" ORDER BY {ALIAS}.{_ROW}")


def _rest(drawing: _Drawing, select: Composed) -> tuple[Rest, list[ServerValue]]:
    """Return that over what the server draws, and what this is, in its order; Impossible."""
    a, numbers = drawing.a, tuple(range(1, len(select.parameters) + 1))
    (statement,) = parse(select.text)
    context = dataclasses.replace(a.context, declared=declared_types(a, select.parameters), default_spans=())
    inner = noted(Analysis(select.text, context, statement, RULES))
    verdict, _ = types(inner, statement.body)
    own = Spans(inner.tokens())
    whole = Whole(inner, statement.body, [], verdict, own, calls=Calls(once=AT_EACH_CALL))
    asked, taken = server_values(whole, ())
    check_rest(verdict, statement.body, taken)
    asked.sort(key=lambda value: value.start)
    for value in asked:
        if len(value.conditions) > 1 or value.otherwise:
            raise RefusedWithHint("what is drawn in a branch that the engine decides", ASKED_FIRST)
    listed = [f"c{n + 1}" for n in range(1, len(asked) + 1)]
    replaced = [
        Replaced(value.start, value.end, (f"{_DRAWN}.{name}{', ' * value.inserted}".encode(),))
        for value, name in zip(asked, listed, strict=True)
    ]
    end = statement.end - len(f" ORDER BY {ALIAS}.{_ROW}")
    item = f", (SELECT {', '.join(f's.{name}' for name in ('c1', *listed))} FROM ".encode()
    same = f" AS s) AS {_DRAWN} ({', '.join([_ROW, *listed])}) WHERE {_DRAWN}.{_ROW} = {ALIAS}.{_ROW}".encode()
    replaced.append(Replaced(end, end, (item, same)))
    return of_client(rest_of(select.text, statement.start, statement.end, replaced, numbers), select), asked


def _source(drawing: _Drawing, select: Composed, asked: Sequence[ServerValue]) -> Composed:
    """Return what is drawn for each row: where its clause is the one that stores it."""
    source = Composed(drawing.a.text, drawing.spans)
    source.add(f"SELECT {ALIAS}.{_ROW}")
    for value in asked:
        at = select.origin(value.start)
        when = next((one.when for one in drawing.values if one.span[0] <= at < one.span[1]), None)
        if when is None or when.condition is None:
            raise Impossible("a value of the server's that is in no clause")
        source.add(", CASE WHEN ", when.condition, f" THEN {value.written.decode()} END")
    return source.add(" FROM ", *drawing.rows([when.node["condition"] for when in drawing.merge.whens]))


def _listed(kept: Sequence[tuple[str, Span]]) -> list[str | Span]:
    pieces: list[str | Span] = ["ROWS FROM ("]
    for position, (_, item) in enumerate(kept):
        pieces += [", " if position else "", item]
    return pieces


def _write(drawing: _Drawing) -> Composed:
    """Return the statement with what is computed and drawn as columns of the given rows, behind those that it still needs."""
    a, merge, first = drawing.a, drawing.merge, len(drawing.names) + 1
    changed, computed = Composed(a.text, drawing.spans), [one.span for one in drawing.values if one.stored.computed]
    values = [value.node for when in merge.whens for value in when.values if value.span not in computed]
    conditions = [when.node["condition"] for when in merge.whens]
    kept = drawing.kept([merge.body["joinCondition"], merge.body.get("returningClause"), *conditions, *values])
    changed.add((a.statement.start, merge.source[0]), *_listed(kept))
    for number, one in enumerate(drawing.values, start=1):
        changed.add(f", pg_catalog.unnest({changed.parameter(-number)}::{carried_as(one.stored.type)}[])")
    names = [*(name for name, _ in kept), *(f"{COLUMN}{first + n}" for n in range(len(drawing.values)))]
    changed.add(f") AS {ALIAS} ({', '.join(names)})")
    at = merge.source[1]
    for span, number in sorted((one.span, number) for number, one in enumerate(drawing.values)):
        changed.add((at, span[0]), f"{ALIAS}.{COLUMN}{first + number}")
        at = span[1]
    return changed.add((at, a.statement.end))
