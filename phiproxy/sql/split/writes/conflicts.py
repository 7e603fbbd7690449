"""ON CONFLICT DO UPDATE to what is computed of the row that is there and of EXCLUDED: the source locks the rows that are there.

No row can be locked that another session is about to insert. So the write changes the rows only that were locked, and the session
compares how many it has written with how many there were to write (``SplitWrite.expected``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.result import Rest, SourceColumn, Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.clock_constants import MOMENTS
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.pieces import Replaced, from_item, rest_of, table_span, unqualified
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.rest_nodes import check_rest, check_rows, row_references
from phiproxy.sql.split.same_answers import AT_EACH_CALL, VOLATILE
from phiproxy.sql.split.statement import Calls, Whole
from phiproxy.sql.split.tables_and_columns import TableColumn, mentioned, needed, tables
from phiproxy.sql.split.values import Key, ServerValue, server_values
from phiproxy.sql.split.writes.assigned_values import ALIAS, Given, Written, assigned_rows
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composed_select import of_client, settled_types, types_of
from phiproxy.sql.split.writes.composition import Parts, Stored, assembled
from phiproxy.sql.split.writes.conflict_target import (
    GIVEN,
    HIDDEN,
    add_updates,
    column_type,
    computed_of_row,
    conflict_keys,
    excluded_columns,
    fires_before,
    in_one_row,
)
from phiproxy.sql.split.writes.described import described
from phiproxy.sql.split.writes.drawn import is_drawn
from phiproxy.sql.split.writes.drawn_order import ASKED_FIRST, check_drawn_of_conflict, draws_before_conflict
from phiproxy.sql.split.writes.parts_seen_together import answered
from phiproxy.sql.split.writes.row_keys import RowKey, row_keys, sets_key, shows_all
from phiproxy.sql.split.writes.targets import cast_as
from phiproxy.sql.text.parse import parse
from phiproxy.sql.text.token_spans import Spans
from phiproxy.types.declared import DeclaredType

_WITH_ARGUMENTS = re.compile(rb"\(\s*[^\s)]")
_INTEGER = DeclaredType.builtin("int4")
_LOCKED = "phi_locked"
"""What these are called when they are locked."""
_AROUND = 2
"""The conditions around what is set: that there is a row, and that of DO UPDATE."""
_ROWS, _ROW = "phi_rows", "phi_row"
"""What the proposed rows are called in the source, and their number."""


@dataclass(frozen=True, slots=True)
class _Upsert:
    """An INSERT … VALUES … ON CONFLICT DO UPDATE. ``rows`` are the given values by column, ``keys`` what may be in conflict."""

    a: Analysis
    spans: Spans
    write: Written
    rows: Sequence[dict[str, Given]]
    keys: Sequence[str]
    computed: Sequence[Given]
    """What is set, and computed of the row."""
    excluded: frozenset[str]
    """The columns of EXCLUDED that it is computed of."""
    given: Sequence[Given]
    """The values of VALUES that are computed."""
    fires: bool
    """Whether triggers see what is proposed before."""
    told: Sequence[RowKey]
    """What tells the row that is there."""

    @property
    def label(self) -> str:
        return quote_ident(self.write.target.label, always=True)

    @property
    def condition(self) -> Span | None:
        return self.write.clauses.updated_where


def computed_conflicts(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an INSERT … VALUES whose ON CONFLICT DO UPDATE computes of the row that is there; Impossible for any other.

    INSERT INTO members AS m (mrn, email) VALUES ($1, $2) ON CONFLICT (mrn) DO UPDATE SET email = m.email || EXCLUDED.email
    → source: SELECT phi_rows.phi_row, m.email, m.ctid, m.tableoid
      FROM (VALUES (1::int4, CAST($1 AS varchar))) AS phi_rows (phi_row, mrn), members AS m
      WHERE m.mrn = phi_rows.mrn FOR NO KEY UPDATE OF m
    → write: INSERT INTO members AS m (mrn, email) VALUES ($1, $2) ON CONFLICT (mrn) DO UPDATE SET email = (SELECT phi_write.phi_3
      FROM ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]))
      AS phi_write (phi_1, phi_2, phi_3) WHERE m.ctid = phi_write.phi_1::tid AND m.tableoid = phi_write.phi_2::oid LIMIT 1)
      WHERE (m.ctid, m.tableoid) IN (SELECT phi_write.phi_1::tid, phi_write.phi_2::oid
      FROM ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) AS phi_write (phi_1, phi_2))

    Values of the server's (``email || now()``) are columns of the source, so that only rows that are there ask for them, each for
    its own (``email || gen_random_uuid()``).
    """
    upsert = _upsert(a, spans, write)
    catalog, target = a.context.catalog, write.target
    stored = [Stored(key.type, computed=False) for key in upsert.told]
    stored += [Stored(target.type(catalog, one.column)) for one in upsert.computed]
    values = [Stored(target.type(catalog, one.column), array=False) for one in upsert.given]
    computed = _rest(upsert, stored, values)
    source = _source(upsert, computed)
    part = answered(a, source.text, source.parameters)
    parts = Parts(
        computed.select,
        [*stored, *values],
        _write(upsert, stored),
        described(a.text, spans, write),
        [write.target],
        many=True,
        returns=write.clauses.returning is not None,
    )
    given = Split(
        kind="write",
        start=a.statement.start,
        end=a.statement.end,
        source=source.text,
        source_parameters=tuple(source.parameters),
        source_spans=tuple(source.origins),
        columns=(SourceColumn(_INTEGER), *(c.type for c in computed.columns), *(v.type for v in computed.of_server.values())),
        rest=computed.rest,
        described=computed.rest,
        described_columns=(),
        locks=True,
        refusal=refusal,
    )
    result = assembled(a, parts, given, computed.rest, computed.types, [part])
    assert result.write is not None
    counted = dataclasses.replace(result.write, expected=len(parts.stored) + 1, again=not upsert.fires)
    return dataclasses.replace(result, write=counted)


def _upsert(a: Analysis, spans: Spans, write: Written) -> _Upsert:
    clauses, target = write.clauses, write.target
    computed, asked = computed_of_row(write)
    if not clauses.rows:
        raise Impossible("the proposed rows are of a query")
    fires = fires_before(a, write, asked)
    taken = {ALIAS, _ROWS, "excluded"} & {target.label}
    if taken or ALIAS.encode() in a.text or _ROW.encode() in a.text or clauses.before is not None:
        raise Impossible("a name that is taken, or that a part of it does not have")
    rows = assigned_rows(write)
    if len(rows) > 1 and not shows_all(a, target.relation):
        raise RefusedWithHint("rows in conflict that a view may not show", HIDDEN)
    if len({tuple(row) for row in rows}) > 1:
        raise Impossible("rows of different columns")
    keys = list(conflict_keys(write.body["onConflictClause"], target))
    if check_drawn_of_conflict(a, write, keys) and draws_before_conflict(write):
        raise RefusedWithHint("what is drawn before is computed first", ASKED_FIRST)
    excluded = frozenset(excluded_columns(asked))
    for row in rows:
        if any(key not in row or row[key].computed or "SetToDefault" in row[key].node for key in keys):
            raise RefusedWithHint("a value that may be in conflict is not given as it is", GIVEN)
        if any(name not in row or "SetToDefault" in row[name].node for name in excluded):
            raise RefusedWithHint("a proposed value that is a default", GIVEN)
    given = [one for row in rows for one in row.values() if one.computed]
    return _Upsert(a, spans, write, rows, keys, computed, excluded, given, fires, row_keys(a, target))


def _source(upsert: _Upsert, computed: _Computed) -> Composed:
    """Return what locks the rows that are there: each with the number of the proposed row that it is in conflict with."""
    source, label = Composed(upsert.a.text, upsert.spans), upsert.label
    names = [quote_ident(key, always=True) for key in upsert.keys]
    columns = [f"{label}.{quote_ident(c.name, always=True)}" for c in computed.columns]
    asked = [value.written.decode() for value in computed.of_server.values()]
    drawn = any(value.each for value in computed.of_server.values())
    if drawn:  # when the row is locked, and not for one that another session deletes meanwhile
        locked = [f"{_LOCKED}.{quote_ident(c.name, always=True)}" for c in computed.columns]
        source.add(f"SELECT {', '.join([f'{_LOCKED}.{_ROW}', *locked, *asked])} FROM (")
    shown = [f"{_ROWS}.{_ROW}", *columns, *([] if drawn else asked)]
    source.add(f"SELECT {', '.join(shown)} FROM (VALUES ")
    for number, row in enumerate(upsert.rows, start=1):
        source.add(", " if number > 1 else "", f"({number}::int4")
        for key in upsert.keys:
            kind = cast_as(upsert.write.target.type(upsert.a.context.catalog, key))
            source.add(", CAST(", row[key].span, f" AS {kind})")
        source.add(")")
    equal = " AND ".join(f"{label}.{name} = {_ROWS}.{name}" for name in names)
    source.add(f") AS {_ROWS} ({', '.join([_ROW, *names])}), ", upsert.write.clauses.relation, f" WHERE {equal}")
    changed = {one.column for one in upsert.write.conflict}
    lock = "FOR UPDATE" if sets_key(upsert.a, upsert.write.target, changed) else "FOR NO KEY UPDATE"
    if drawn and len(upsert.rows) > 1:  # they are locked, and draw, in the order in which they are proposed
        source.add(f" ORDER BY {_ROWS}.{_ROW}")
    return source.add(f" {lock} OF {label}{f') AS {_LOCKED}' if drawn else ''}")


def _select(upsert: _Upsert) -> Composed:
    """Return what is computed of each proposed row: where no row is there, nothing of one."""
    select = Composed(upsert.a.text, upsert.spans)
    changes = f"CASE WHEN {upsert.told[0].column} IS NOT NULL THEN "

    def condition() -> None:
        if upsert.condition is None:
            select.add("true")
        else:
            select.add("coalesce((", upsert.condition, "), false)")

    select.add(f"SELECT {', '.join(key.given for key in upsert.told)}")
    for one in upsert.computed:
        select.add(f", {changes}CASE WHEN ")
        condition()
        select.add(" THEN (", *(one.as_select if one.clock else (one.span,)), ") END END")
    for one in upsert.given:
        select.add(", ", *one.as_select)
    select.add(f", {changes}")
    condition()
    select.add(f" ELSE false END, excluded.{_ROW} FROM (VALUES ")
    names = [column.name for column in visible_columns(upsert.write.target.relation)]
    for number, row in enumerate(upsert.rows, start=1):
        select.add(", " if number > 1 else "", f"({number}::int4")
        for name in names:
            if name in upsert.excluded:
                raw = column_type(upsert.a.context.catalog, upsert.write.target, name)
                inner = cast_as(upsert.write.target.type(upsert.a.context.catalog, name))
                select.add(", CAST(CAST(", row[name].span, f" AS {inner}) AS {raw.name})")
            else:
                select.add(", NULL")
        select.add(")")
    listed = ", ".join([_ROW, *(quote_ident(name, always=True) for name in names)])
    return select.add(f") AS excluded ({listed}) LEFT JOIN ", upsert.write.clauses.relation, " ON true")


class _Computed(NamedTuple):
    """What the engine computes, and of what."""

    select: Composed
    rest: Rest
    columns: list[TableColumn]
    """Those of the rows that are there, those that tell a row among them."""
    of_server: dict[Key, ServerValue]
    """Values of the server's, which each of these rows has: where none is there, nothing is set to them."""
    types: list[int | None]


def _rest(upsert: _Upsert, stored: Sequence[Stored], values: Sequence[Stored]) -> _Computed:
    a, select = upsert.a, _select(upsert)
    (statement,) = parse(select.text)
    inner = Analysis(select.text, dataclasses.replace(a.context, declared=()), statement, RULES)
    verdict, outputs = types(inner, statement.body)
    (table, *others) = tables(inner, statement.body)
    if others or outputs is None:
        raise Impossible("another table is read")
    own = Spans(inner.tokens())
    drawn = any(is_drawn(one.node) for one in upsert.computed)
    calls = Calls(once=AT_EACH_CALL if drawn else VOLATILE)
    asked, taken = server_values(Whole(inner, statement.body, [table], verdict, own, calls=calls), ())
    _check_of_conflict(upsert, select, asked)
    check_rest(verdict, statement.body, taken)
    check_rows(verdict, statement.body, (), {table.label})
    if asked and any(row_references(verdict, statement.body, {table.label})):
        raise Impossible("a row as a whole, which would have what is the server's too")
    columns = needed(table, mentioned(bodies(statement.body, ())))
    of_server = {value.key: value for value in asked}
    called = {key: f"phi.v{n}" for n, key in enumerate(of_server, start=1)}
    items = [*columns, *(TableColumn(called[key], called[key], 0, value.type) for key, value in of_server.items())]
    start, _, _, end = table_span(own, table)
    before, behind = from_item(table, items, [f"c{n + 2}" for n in range(len(items))], f"s.c1 = excluded.{_ROW}")
    replaced = [Replaced(start, end, (b"LATERAL " + before, behind))]
    for value in asked:
        column = f'{upsert.label}."{called[value.key]}"{", " * value.inserted}'
        replaced.append(Replaced(value.start, value.end, (column.encode(),)))
    replaced += [Replaced(*span, (b"",)) for span, path in unqualified(own, statement.body) if path[-2] == table.label]
    rest = rest_of(select.text, statement.start, statement.end, replaced, tuple(range(1, len(select.parameters) + 1)))
    given = types_of(a, select)[: len(stored) + len(values)]
    known = settled_types(a, select, given)
    row = in_one_row(of_client(rest, select), len(upsert.told), stored, values, known, proposed=len(upsert.rows))
    return _Computed(select, row, columns, of_server, given)


def _check_of_conflict(upsert: _Upsert, select: Composed, asked: Sequence[ServerValue]) -> None:
    """Go on where values of the server's are in what is set, or in its condition: not in what is proposed; Impossible.

    INSERT INTO members AS m (mrn, email) VALUES ($1, $2) ON CONFLICT (mrn) DO UPDATE SET email = EXCLUDED.email || now()
    → source: SELECT phi_rows.phi_row, m.email, m.ctid, m.tableoid, now() FROM (VALUES (1::int4, CAST($1 AS varchar))) AS phi_rows
      (phi_row, mrn), members AS m WHERE m.mrn = phi_rows.mrn FOR NO KEY UPDATE OF m
    """
    computed = [one.span for one in upsert.computed]
    condition = [upsert.condition] if upsert.condition is not None else []
    for value in asked:
        if len(value.conditions) > _AROUND:
            raise Impossible("a call in a branch, which the source would make in vain")
        spans = computed if value.each else [*computed, *condition]
        if not value.each and value.name not in MOMENTS and _WITH_ARGUMENTS.search(value.written) is not None:
            raise Impossible("a call that may fail, as of current_setting('x'), where PostgreSQL may not make it")
        places = [select.origin(at) for at in range(value.start, max(value.end, value.start + 1))]
        if not any(start <= at < end for at in places for start, end in spans):
            raise Impossible("a value of the server's in what is proposed")


def _write(upsert: _Upsert, stored: Sequence[Stored]) -> Composed:
    clauses = upsert.write.clauses
    changed, at = Composed(upsert.a.text, upsert.spans), upsert.a.statement.start
    for number, one in enumerate(upsert.given, start=len(stored) + 1):
        changed.add((at, one.span[0]), changed.parameter(-number))
        at = one.span[1]
    changed.add((at, clauses.updates[0].names[0]))
    add_updates(changed, upsert.write, upsert.told, stored)
    if clauses.returning is not None:
        changed.add(" RETURNING ", clauses.returning)
    return changed
