"""Splits a SELECT that the server cannot answer: a source that it can, in the client's terms, and the rest around it.

The source goes through the analysis like any statement of a client. So whatever is decided here, nothing can be in it that the
server may not see: a mistake here leads to a refusal or to a needless row, not to a leak.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import NamedTuple

from phiproxy.effects import Effects
from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.result import Origin, Rest, RowType, SourceColumn, Split, Waiting
from phiproxy.sql.rules import RULES
from phiproxy.sql.split import ctes
from phiproxy.sql.split.division import Division, divide
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import named_row_types
from phiproxy.sql.split.rest_nodes import check_rest, rows_named
from phiproxy.sql.split.rest_text import described_text, rest_text, typed_tables
from phiproxy.sql.split.shown_table_rows import origin_of, shown_rows
from phiproxy.sql.split.sources import Written, together
from phiproxy.sql.split.statement import NO_CALLS, Calls, Whole
from phiproxy.sql.split.tables_and_columns import row_type, row_type_of, tables
from phiproxy.sql.split.values import server_values
from phiproxy.sql.split.waiting import places
from phiproxy.sql.statements.utility import effects
from phiproxy.sql.text.parse import Node, Statement, strings
from phiproxy.sql.text.token_spans import Spans


def split(
    statement: Statement,
    text: bytes,
    context: Context,
    refusal: StatementRefused | ValueRefused,
    waiting: Waiting | None = None,
    *,
    always: bool = False,
    calls: Calls = NO_CALLS,
    apart: bool = False,
) -> Split | None:
    """Return how a refused statement is split, or None where that is not possible; PathNeeded, CatalogNeeded.

    ``waiting``: the values for which an index does not answer what it may answer for others. ``always``: also where it reads
    nothing protected. ``calls``, ``apart``: of ``Whole``.

    SELECT id FROM patients WHERE full_name LIKE '%son' AND city = 'Springfield'
    → source: SELECT patients.id, patients.full_name FROM patients WHERE city = 'Springfield'
    → rest: SELECT id FROM (SELECT s.c1, s.c2 FROM {} AS s) AS patients (id, full_name) WHERE full_name LIKE '%son' AND true
    """
    a = Analysis(text, context, statement, RULES)
    if statement.kind != "SelectStmt" or context.catalog.signatures is None or not _WRITES.isdisjoint(a.keys):
        return None
    try:
        told = _OF_WRITE if calls.each else None
        return _split(a, refusal, waiting, {}, always=always, calls=calls, apart=apart, told=told)
    except (Impossible, StatementRefused, RecursionError):
        return None


_WRITES = frozenset({"intoClause", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


def split_over_writes(a: Analysis, kept: Mapping[str, Node], told: Described, refusal: StatementRefused | ValueRefused) -> Split:
    """Return how a SELECT over writes in its WITH is split; Impossible, StatementRefused, PathNeeded, CatalogNeeded.

    ``kept`` are these writes, and the queries of WITH that they read; ``told`` is what is described of the statement.

    WITH x AS (DELETE FROM visits RETURNING patient_id) SELECT upper(p.full_name) FROM x JOIN patients p ON p.id = x.patient_id
    → source: WITH x AS (DELETE FROM visits RETURNING patient_id) SELECT p.full_name FROM x JOIN patients p ON p.id = x.patient_id
    """
    parts = _split(a, refusal, None, kept, always=True, calls=NO_CALLS, apart=False, told=told)
    assert parts is not None
    if not parts.source:
        raise Impossible("a source without anything that is read")
    return dataclasses.replace(parts, kind="other", locks=True, plain_select=False)


def _split(
    a: Analysis,
    refusal: StatementRefused | ValueRefused,
    waiting: Waiting | None,
    kept: Mapping[str, Node],
    *,
    always: bool,
    calls: Calls,
    apart: bool,
    told: Described | None = None,
) -> Split | None:
    statement, body = a.statement, a.statement.body
    read = tables(a, body)
    if not (always or any(table.protected for table in read)):
        return None
    changed = effects(statement.kind, body, a.whole(), a.context.catalog.setters)
    if changed != Effects() or any(strings(message.get("funcname"))[-1:] == ["set_config"] for message in a.whole()):
        raise Impossible("it may change the settings under which the rest is computed")
    verdict, outputs = types(a, body)
    waits = places(statement, waiting) if waiting is not None else frozenset[int]()
    spans, shows = Spans(a.tokens()), not always
    whole = Whole(a, body, read, verdict, spans, waits, calls=calls, apart=apart, shows=shows, kept=kept)
    division = divide(whole)
    written = Written(a.text, whole.spans.tokens)
    if division.sources:
        together(written, division.distinct, ctes.kept(whole))
    rest = rest_text(whole, division)
    said, said_columns, said_rows = _described(whole, division) if told is None else (told.rest, told.columns, told.row_types)
    rows = shown_rows(whole)
    if rows and outputs is None:
        raise Impossible("outputs of which it is not known how many there are")
    return Split(
        kind="select",
        start=statement.start,
        end=statement.end,
        source=written.result(),
        source_parameters=tuple(written.numbers),
        source_spans=written.spans(),
        columns=division.columns(),
        rest=rest,
        described=said,
        described_columns=said_columns,
        origins=tuple(origin_of(o, rows) for o in outputs or ()),
        locks=any(source.locking for source in division.sources),
        row_types=row_types(whole, division.gone) | said_rows,
        orders=whole.orders(),
        doubtful=any(value.doubtful for value in division.values),
        narrowing=division.narrowing(),
        effects=changed,
        numbers=whole.numbers,
        refusal=refusal,
        waiting=waiting,
        unread=division.unread,
    )


def row_types(whole: Whole, gone: Collection[int]) -> frozenset[RowType]:
    """Return the types of rows that the engine must have, but for what is ``gone`` of a statement; Impossible."""
    typed = typed_tables(whole, frozenset(gone))
    found = {row_type(table) for table in whole.tables if table.label in typed}
    found |= {row_type_of(whole.a, relation) for _, relation in rows_named(whole.verdict, whole.body, gone)}
    for name in (name for t in whole.tables if t.rest is not None for part in t.rest.parts for name in named_row_types(part)):
        relation = whole.a.context.catalog.find(*name)
        if relation is None:
            raise Impossible("rows of a table that is not there")
        found.add(row_type_of(whole.a, relation))
    return frozenset(found)


class Described(NamedTuple):
    """What is described of a SELECT: as the fields of ``Split`` that are called so."""

    rest: Rest
    columns: tuple[SourceColumn, ...]
    origins: tuple[Origin | None, ...]
    orders: frozenset[str]
    row_types: frozenset[RowType] = frozenset()


# What the client is told of a write is told by its RETURNING.
_OF_WRITE = Described(Rest((b"",)), (), (), frozenset())


def described(statement: Statement, text: bytes, context: Context) -> Described:
    """Return what is described of a SELECT, whether or not it can be split; Impossible."""
    a = Analysis(text, context, statement, RULES)
    read = tables(a, statement.body)
    verdict, outputs = types(a, statement.body)
    whole = Whole(a, statement.body, read, verdict, Spans(a.tokens()), shows=True)
    rest, columns, types_ = _described(whole, None)
    rows = shown_rows(whole)
    origins = tuple(origin_of(o, rows) for o in outputs or ())
    return Described(rest, columns, origins, whole.orders(), types_)


def _described(whole: Whole, division: Division | None) -> tuple[Rest, tuple[SourceColumn, ...], frozenset[RowType]]:
    try:
        check_rest(whole.verdict, whole.body, server_values(whole, ())[1], rows=True)
    except Impossible:
        # Something of it only the server has: what is described is the rest, which must say all that there is to say of parameters.
        division = division or divide(whole)
        if division.unread:
            raise Impossible("a query of WITH that only the whole statement has") from None
        return *described_text(whole, division), row_types(whole, division.gone)
    return *described_text(whole, None), row_types(whole, ())
