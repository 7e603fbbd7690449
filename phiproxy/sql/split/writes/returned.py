"""RETURNING of what is computed: the write returns the columns that it needs, and the engine computes over its rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.result import Rest, RowType, SourceColumn
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.blocks import block
from phiproxy.sql.split.clauses import from_clause, select_token
from phiproxy.sql.split.division import Joined
from phiproxy.sql.split.from_items import is_wanted, item_columns, views_of
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.pieces import Replaced, from_item, rest_of, table_span, unqualified
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.rest_nodes import check_rest
from phiproxy.sql.split.rest_text import joined_items, listed_stars, numbered, typed_tables
from phiproxy.sql.split.shown_values import shown_values
from phiproxy.sql.split.source_and_rest import Described, row_types, split_over_writes
from phiproxy.sql.split.sources import Source
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.tables_and_columns import TableColumn, mentioned, needed, tables
from phiproxy.sql.split.values import of_server, server_values
from phiproxy.sql.split.writes.assigned_values import ALIAS, KEPT, Written, keeps, reads_others, tells_rows, written
from phiproxy.sql.split.writes.clauses import Clauses
from phiproxy.sql.split.writes.composed import Composed, Span, client_spans
from phiproxy.sql.split.writes.composed_select import of_client
from phiproxy.sql.split.writes.inner_write import inner_write, kept_queries
from phiproxy.sql.split.writes.merge_clauses import Merge, merge_of
from phiproxy.sql.split.writes.merge_source import derived_values
from phiproxy.sql.split.writes.targets import target_of
from phiproxy.sql.text.parse import Node, Statement, location, messages, only, parse, strings
from phiproxy.sql.text.token_spans import OPEN, Spans
from phiproxy.sql.writes.insert_update_delete import OLD_AND_NEW

# 1, which is not written as a number: one that the client has in clear may not stand in a rest (parts_seen_together.check_apart).
_ONE_ROW = " LIMIT true::int"
_KEPT_ROWS = f", (SELECT NULL::int8 AS {KEPT}) AS {ALIAS}"
Piece = str | Span
ACTION_OF, MERGE_ACTION = "phi_merge", "merge_action()"
"""The item that stands for what a MERGE has done with a row, and how it is asked for."""
_UNDESCRIBED = Described(Rest((), ()), (), (), frozenset())
_FLAG = SourceColumn(DeclaredType.builtin("bool"))


@dataclasses.dataclass(frozen=True, slots=True)
class Returned:
    """A write that returns the columns that its RETURNING needs, and what is computed over them."""

    write: Composed
    columns: tuple[SourceColumn, ...]
    rest: Rest
    row_types: frozenset[RowType] = frozenset()


def returned(a: Analysis, spans: Spans, write: Written) -> Returned:
    """Return a write whose RETURNING is computed by the engine; Impossible where it needs more than the columns of the target.

    INSERT INTO patients (ssn) VALUES ('x') RETURNING id, upper(ssn)
    → source: INSERT INTO patients (ssn) VALUES ('x') RETURNING patients.id, patients.ssn
    → rest: SELECT id, upper(ssn) FROM (SELECT s.c1, s.c2 FROM {} AS s) AS patients (id, ssn)

    Where the engine has kept what it shows of other tables, the number of the chosen row is returned, ``phi_write.phi_kept``.

    Values of the server's are returned by the write too; each row has the same.

    INSERT INTO people (born) VALUES ('1980-01-01') RETURNING current_date - born
    → source: INSERT INTO people (born) VALUES ('1980-01-01') RETURNING people.born, current_date
    → rest: SELECT (SELECT s.c2 AS current_date FROM {} AS s LIMIT true::int) - born
      FROM (SELECT s.c1 FROM {} AS s) AS people (born)
    """
    clauses = write.clauses
    if clauses.returning is None:
        raise Impossible("nothing that is returned is computed")
    if keeps(a.text) and tells_rows(write):
        return of_joined_rows(a, spans, write, [clauses.relation, _KEPT_ROWS])
    if clauses.others is not None and _shows_others(write):
        return of_joined_rows(a, spans, write, [clauses.relation, ", ", clauses.others])
    return over_returned(a, spans, write, Composed(a.text, spans).add("SELECT ", clauses.returning, " FROM ", clauses.relation))


def over_returned(a: Analysis, spans: Spans, write: Written, select: Composed, *, one: bool = True) -> Returned:
    """Return the same of a SELECT over the rows that a write returns; it reads the target, once, and nothing else.

    ``one``: it gives one row for each of them, and nothing where there are none.
    """
    clauses = write.clauses
    assert clauses.returning is not None
    if clauses.others is not None and _shows_others(write):
        raise Impossible("columns of other tables")
    _check_versions(a, write)
    (statement,) = parse(select.text)
    inner = Analysis(select.text, dataclasses.replace(a.context, declared=()), statement, RULES)
    verdict, outputs = types(inner, statement.body)
    table, *others = read = tables(inner, statement.body)
    own = Spans(inner.tokens())
    whole = Whole(inner, statement.body, read, verdict, own, shows=True)
    values, gone = server_values(whole, ())
    check_rest(verdict, statement.body, gone, rows=True)
    if others or outputs is None or (values and not one):
        raise Impossible("it returns what is not in the rows")
    columns = needed(table, mentioned(bodies(statement.body, ())))
    asked = {value.written: value for value in values}
    listed = _listed(write, columns, [written.decode() for written in asked])
    changed = Composed(a.text, spans).add((a.statement.start, clauses.returning[0]), listed)
    changed.add((clauses.returning[1], a.statement.end))
    start, _, _, end = table_span(own, table)
    typed = table.label in typed_tables(whole, ())
    parts = from_item(table, columns, [f"c{n}" for n in range(1, len(columns) + 1)], "", typed=typed)
    replaced = [Replaced(start, end, parts)]
    called = {written: f"c{n}" for n, written in enumerate(asked, start=len(columns) + 1)}
    replaced += [of_server(value, called[value.written], _ONE_ROW) for value in values]
    replaced += [Replaced(*span, (b"",)) for span, path in unqualified(own, statement.body) if path[-2] == table.label]
    rest = rest_of(select.text, statement.start, statement.end, replaced, tuple(select.parameters))
    spans_of = client_spans(rest.spans, select.origins)
    types_ = (*(c.type for c in columns), *(value.type for value in asked.values()))
    return Returned(changed, types_ or (_FLAG,), Rest(rest.parts, rest.parameters, spans_of), row_types(whole, ()))


def of_joined_rows(a: Analysis, spans: Spans, write: Written, items: Sequence[Piece], shown: Sequence[Piece] = ()) -> Returned:
    """Return the same where RETURNING shows other tables than the target too: each row is one of the join of these items.

    ``shown`` is how RETURNING is written where it is not as it stands in the client's text.

    UPDATE visits v SET room = 'x' FROM patients p WHERE p.id = v.patient_id RETURNING v.room, upper(p.full_name)
    → source: UPDATE visits v SET room = 'x' FROM patients p WHERE p.id = v.patient_id RETURNING v.room, p.full_name
    → rest: SELECT v.room, upper(p.full_name) FROM (SELECT s.c1, s.c2 FROM {} AS s) AS "phi.s" ("phi.1", "phi.2"),
      LATERAL (SELECT "phi.1") AS v (room), LATERAL (SELECT "phi.2") AS p (full_name)
    """
    clauses, select = write.clauses, Composed(a.text, spans)
    assert clauses.returning is not None
    _check_versions(a, write)
    if clauses.before is not None:
        select.add(clauses.before, " ")
    select.add("SELECT ", *(shown or [clauses.returning]), " FROM ", *items)
    (statement,) = parse(select.text)
    inner, body = (
        Analysis(select.text, dataclasses.replace(a.context, declared=()), statement, RULES),
        statement.body,
    )
    if any("relname" in m for m in bodies(body["targetList"], ())):
        raise Impossible("a table is read in RETURNING")
    verdict, outputs = types(inner, body)
    whole = Whole(inner, body, tables(inner, body), verdict, Spans(inner.tokens()))
    answered = {id(body[clause]) for clause in ("fromClause", "withClause") if clause in body}
    values, gone = server_values(whole, answered)
    gone = answered | set(gone)
    check_rest(verdict, body, gone, rows=True)
    if shown_values(whole, gone):
        raise Impossible("given values of FROM or USING, which the write has in clear, would meet something protected")
    read, names = block(whole.spans, body, verdict.levels[id(body)]), mentioned(bodies(body, gone))
    given = [derived_values(node) for node in body["fromClause"] if not any("CollateClause" in m for m in messages(node))]
    known = item_columns(whole, read, names, plain={ACTION_OF, *(one[0] for one in given if one is not None)})
    if known is None or outputs is None or views_of(whole, read):
        raise Impossible("it returns what is not in the rows")
    labels = [(label, [c for c in columns if is_wanted(read, names, label, c.name)]) for label, columns in known]
    asked = {value.written: value for value in values}
    columns = [column for _, of_one in labels for column in of_one]
    own = (MERGE_ACTION.encode() if column.label == ACTION_OF else column.sql for column in columns)
    listed = b", ".join([*own, *asked]).decode() or "true"
    changed = Composed(a.text, spans).add((a.statement.start, clauses.returning[0]), listed)
    changed.add((clauses.returning[1], a.statement.end))
    select_at = select_token(whole.spans, body)
    first, end = from_clause(whole.spans, select_at)
    tokens = whole.spans.tokens
    joined = Joined(read, Source((tokens[first].start, tokens[end - 1].end), columns), labels)
    joined.source.names = [f"c{n}" for n in range(1, len(columns) + 1)]
    called = {written: f"c{n}" for n, written in enumerate(asked, start=len(columns) + 1)}
    replaced = [Replaced(statement.start, tokens[select_at].start, (b"",)), *joined_items(joined), *_stars(whole, joined)]
    replaced += [of_server(value, called[value.written], _ONE_ROW) for value in values]
    replaced += [Replaced(*span, (b"",)) for span, _ in unqualified(whole.spans, {"targetList": body["targetList"]})]
    types_ = (*(c.type for c in columns), *(value.type for value in asked.values()))
    return Returned(changed, types_ or (_FLAG,), of_client(numbered(whole, replaced), select), row_types(whole, gone))


class Plainer(NamedTuple):
    """The part of a statement that the server answers; ``order`` says of its $1, $2 … which ones of the statement they are."""

    text: bytes
    order: Sequence[int]


def _stars(whole: Whole, joined: Joined) -> Iterator[Replaced]:
    """Yield ``*`` as a list of columns, of what a client may name."""
    shown = [(label, columns) for label, columns in joined.labels if label != ACTION_OF]
    return listed_stars(whole, dataclasses.replace(joined, labels=shown))


def merge_returned(a: Analysis, spans: Spans, merge: Merge) -> Returned:
    """Return a MERGE whose RETURNING is computed by the engine, over the columns of its target and its source; Impossible.

    ``merge_action()`` is the column of an item of its own in the rest; ``*`` shows the source first.
    """
    body, returning = merge.body, merge.returning
    if returning is None or ACTION_OF.encode() in a.text:
        raise Impossible("nothing that is returned is computed, or a name that is taken")
    write = Written("MergeStmt", body, Clauses(merge.before, merge.relation, returning=returning), merge.target)
    shown, items, at = list[Piece](), list[Piece]([merge.relation]), returning[0]
    calls = (m["MergeSupportFunc"] for m in messages(body["returningClause"]) if "MergeSupportFunc" in m)
    for start in sorted(map(location, calls)):
        first = spans.at(start)
        shown += [(at, start), f"{ACTION_OF}.merge_action"]
        at = spans.tokens[spans.partner(spans.next(first, OPEN))].end
    if keeps(a.text) and tells_rows(write):
        items += [_KEPT_ROWS]
    elif _has_star(body) or reads_others(merge.target, [body["returningClause"]]):
        items = [merge.source, ", ", merge.relation]
    if shown:
        items += [f", (SELECT NULL::text AS merge_action) AS {ACTION_OF}"]
    if len(items) == 1:
        return over_returned(a, spans, write, Composed(a.text, spans).add("SELECT ", returning, " FROM ", merge.relation))
    shown.append((at, returning[1]))
    return of_joined_rows(a, spans, write, items, [piece for piece in shown if isinstance(piece, str) or piece[0] < piece[1]])


def without_computed(statement: Statement, text: bytes, context: Context, refusal: StatementRefused | ValueRefused) -> Plainer:
    """Return a write that returns the columns that its RETURNING needs, for its analysis; Impossible where it has none.

    Of a SELECT over what a write in its WITH returns, that write; over several, or with a table beside, the source of that.
    """
    a = Analysis(text, context, statement, RULES)
    spans = Spans(a.tokens())
    if statement.kind == "SelectStmt":
        try:
            inner = inner_write(a, spans)
            plainer = over_returned(inner.a, inner.spans, inner.write, inner.over_rows(a, spans), one=False).write
        except (Impossible, StatementRefused):
            over = split_over_writes(a, kept_queries(a), _UNDESCRIBED, refusal)
            return Plainer(over.source, over.source_parameters)
        return Plainer(plainer.text, plainer.parameters)
    if statement.kind == "MergeStmt":
        plainer = merge_returned(a, spans, merge_of(statement, spans, target_of(a, statement.body["relation"]))).write
        return Plainer(plainer.text, plainer.parameters)
    plainer = returned(a, spans, written(a, spans)).write
    return Plainer(plainer.text, plainer.parameters)


def _listed(write: Written, columns: list[TableColumn], values: list[str]) -> str:
    label = quote_ident(write.target.label, always=True)
    return ", ".join([*(f"{label}.{quote_ident(c.name, always=True)}" for c in columns), *values]) or "true"


def _check_versions(a: Analysis, write: Written) -> None:
    """See that RETURNING does not name rows as they were before or are after (PostgreSQL 18): the engine has one of them."""
    if a.context.catalog.server_version < OLD_AND_NEW or write.target.label in ("old", "new"):
        return
    references = (strings(m["fields"]) for m in messages(write.body["returningClause"]) if isinstance(m.get("fields"), list))
    if any(names[0] in ("old", "new") for names in references if names):
        raise Impossible("rows as they were before, or are after")


def _shows_others(write: Written) -> bool:
    """Tell whether RETURNING may show other tables than the target: of a write of chosen rows it shows that, and given columns.

    There ``*`` is a list of columns; where it stands all the same, a client calls something of its own like the chosen rows.
    """
    if tells_rows(write):
        named = (strings(m["fields"])[0] for m in messages(write.body["returningClause"]) if "fields" in m)
        return _has_star(write.body) or ALIAS in named
    return _has_star(write.body) or reads_others(write.target, [write.body["returningClause"]])


def _has_star(body: Node) -> bool:
    values = (only(node)[1]["val"] for node in body["returningClause"]["exprs"])
    return any(strings(value.get("ColumnRef", {}).get("fields")) == ["*"] for value in values)
