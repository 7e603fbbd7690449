"""INSERT of a query with ON CONFLICT DO UPDATE to what is computed of the row that is there.

The rows that the query gives are joined to those that they are in conflict with, which are locked, by one source (``conflicts``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.clauses import from_clause
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.tables_and_columns import mentioned
from phiproxy.sql.split.writes.assigned_values import ALIAS, Given, Written, reads_ctes
from phiproxy.sql.split.writes.clear_values import clear_outputs
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composed_select import types_of
from phiproxy.sql.split.writes.composition import Parts, Stored, composition_or_apart, given_rows, given_value
from phiproxy.sql.split.writes.conflict_target import (
    GIVEN,
    HIDDEN,
    MERGE,
    add_updates,
    column_type,
    computed_of_row,
    conflict_keys,
    excluded_columns,
    fires_before,
    in_one_row,
)  # fmt: skip
from phiproxy.sql.split.writes.described import described
from phiproxy.sql.split.writes.inserted_rows import add_query
from phiproxy.sql.split.writes.merge_source import with_columns
from phiproxy.sql.split.writes.merged_rows import calls_volatile
from phiproxy.sql.split.writes.row_keys import RowKey, row_keys, sets_key, shows_all
from phiproxy.sql.split.writes.targets import cast_as, check_assigned
from phiproxy.sql.split.writes.values_in_with import is_settled
from phiproxy.sql.text.parse import location, messages, only, strings
from phiproxy.sql.text.token_spans import Spans

_PLAIN = frozenset({"targetList", "fromClause", "whereClause", "withClause", "limitOption", "op"})
_KEY, _ROW = "phi_key_", "phi_row"


@dataclass(frozen=True, slots=True)
class _Proposed:
    """An INSERT of a query: ``names`` are the columns that it gives, ``keys`` those that may be in conflict."""

    a: Analysis
    spans: Spans
    write: Written
    names: Sequence[str]
    keys: Sequence[str]
    computed: Sequence[Given]
    """What is set, and computed of the row."""
    fires: bool
    """Whether triggers see what is proposed before."""
    told: Sequence[RowKey]
    """What tells the row that is there."""

    @property
    def label(self) -> str:
        return quote_ident(self.write.target.label, always=True)

    @property
    def listed(self) -> str:
        return ", ".join(quote_ident(name, always=True) for name in self.names)

    @property
    def same(self) -> str:
        names = [quote_ident(key, always=True) for key in self.keys]
        return " AND ".join(f"{self.label}.{name} = excluded.{name}" for name in names)


def computed_query_conflicts(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an INSERT of a query whose ON CONFLICT DO UPDATE computes of the row that is there; Impossible for any other.

    INSERT INTO patients AS p (id, notes) SELECT id, room FROM visits ON CONFLICT (id) DO UPDATE SET notes = p.notes || 'x'
    → write: INSERT INTO patients AS p (id, notes) SELECT phi_write.phi_4, phi_write.phi_5
      FROM ROWS FROM (pg_catalog.unnest($1::int4[]), pg_catalog.unnest($2::text[])) AS phi_write (phi_4, phi_5)
      ON CONFLICT (id) DO UPDATE SET notes = (SELECT phi_write.phi_3
      FROM ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]))
      AS phi_write (phi_1, phi_2, phi_3) WHERE p.ctid = phi_write.phi_1::tid AND p.tableoid = phi_write.phi_2::oid LIMIT 1)
      WHERE (p.ctid, p.tableoid) IN (SELECT phi_write.phi_1::tid, phi_write.phi_2::oid
      FROM ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) AS phi_write (phi_1, phi_2))
    """
    proposed = _proposed(a, spans, write)
    catalog, target = a.context.catalog, write.target
    stored = [Stored(key.type, computed=False) for key in proposed.told]
    stored += [Stored(target.type(catalog, one.column)) for one in proposed.computed]
    values = [Stored(target.type(catalog, name), computed=name in target.protected) for name in proposed.names]
    if any(not one.computed and by_oid(one.type.oid) is None for one in values):
        raise Impossible("a value of a type of the database's own")
    select = _select(proposed)
    clear = [len(stored) + n for n, one in enumerate(values) if not one.computed]
    parts = Parts(
        select,
        [*stored, *values],
        _write(proposed, stored, values),
        described(a.text, spans, write),
        [target],
        many=True,
        returns=write.clauses.returning is not None,
        clear=clear_outputs(a, select, clear) if clear else (),
        in_one_row=lambda rest, types: in_one_row(rest, len(proposed.told), stored, values, types),
    )
    result = composition_or_apart(a, parts, refusal)
    assert result.write is not None
    counted = dataclasses.replace(result.write, expected=len(parts.stored) + 1, again=not proposed.fires)
    return dataclasses.replace(result, locks=True, write=counted)


def _proposed(a: Analysis, spans: Spans, write: Written) -> _Proposed:
    clauses, target = write.clauses, write.target
    computed, asked = computed_of_row(write)
    if clauses.rows or clauses.source is None or "selectStmt" not in write.body:
        raise Impossible("no query is inserted")
    _check_names(a, write)
    fires = fires_before(a, write, asked)
    if not shows_all(a, target.relation):
        raise RefusedWithHint("rows in conflict that a view may not show", HIDDEN)
    if calls_volatile(a, [write.body["selectStmt"], write.body.get("withClause", {})]):
        raise RefusedWithHint("a query that may give other rows when it is asked again", MERGE)
    query = Composed(a.text, spans)
    if clauses.before is not None:
        query.add(clauses.before, " ")
    types = types_of(a, add_query(query, a, write))
    listed = [only(node)[1]["name"] for node in write.body.get("cols", ())]
    names = listed[: len(types)] or target.names(len(types))
    if len(names) != len(types):
        raise Impossible("more values than columns")
    for name, given in zip(names, types, strict=True):
        check_assigned(a.context.catalog, target.type(a.context.catalog, name), given)
    keys = list(conflict_keys(write.body["onConflictClause"], target))
    if not keys or not set(names).issuperset({*keys, *excluded_columns(asked)}):
        raise RefusedWithHint("a proposed value that is a default, or a unique index that is not named", GIVEN)
    return _Proposed(a, spans, write, names, keys, computed, fires, row_keys(a, target))


def _check_names(a: Analysis, write: Written) -> None:
    if {ALIAS, "excluded"} & {write.target.label} or b"phi_" in a.text:
        raise Impossible("a name that is taken")
    if reads_ctes(write, (write.body["onConflictClause"], write.body.get("returningClause"))):
        raise Impossible("a query of WITH that the write does not have")


def _select(proposed: _Proposed) -> Composed:
    """Return what is computed of each proposed row, with the row that it is in conflict with."""
    a, write, label = proposed.a, proposed.write, proposed.label
    select = Composed(a.text, proposed.spans)
    if write.clauses.before is not None:
        select.add(write.clauses.before, " ")
    changes = f"CASE WHEN {label}.{_KEY}1 IS NOT NULL THEN "

    def condition() -> None:
        if write.clauses.updated_where is None:
            select.add("true")
        else:
            select.add("coalesce((", write.clauses.updated_where, "), false)")

    select.add(f"SELECT {', '.join(f'{label}.{_KEY}{n}' for n in range(1, len(proposed.told) + 1))}")
    for one in proposed.computed:
        select.add(f", {changes}CASE WHEN ")
        condition()
        select.add(" THEN (", one.span, ") END END")
    select.add("".join(f", excluded.{quote_ident(name, always=True)}" for name in proposed.names), f", {changes}")
    condition()
    select.add(f" ELSE false END, excluded.{_ROW} FROM (SELECT pg_catalog.row_number() OVER () AS {_ROW}")
    for column in visible_columns(write.target.relation):
        name = quote_ident(column.name, always=True)
        if column.name in proposed.names:
            raw = column_type(a.context.catalog, write.target, column.name)
            inner = cast_as(write.target.type(a.context.catalog, column.name))
            select.add(f", CAST(CAST(phi_query.{name} AS {inner}) AS {raw.name}) AS {name}")
        else:
            select.add(f", NULL AS {name}")
    select.add(" FROM (")
    add_query(select, a, write)
    select.add(f") AS phi_query ({proposed.listed})) AS excluded LEFT JOIN ")
    _add_locked(select, proposed)
    return select.add(f" ON {proposed.same}")


def _add_locked(select: Composed, proposed: _Proposed) -> None:
    """Add the rows that are in conflict, locked."""
    write, label = proposed.write, proposed.label
    _, asked = computed_of_row(write)
    needed = mentioned(bodies(asked, ()))
    if write.target.label in needed.rows or write.target.label in needed.starred:
        raise Impossible("a whole row of the target")
    wanted = needed.names | set(proposed.keys)
    columns = [f"{label}.{quote_ident(c.name, always=True)}" for c in visible_columns(write.target.relation) if c.name in wanted]
    listed = ", ".join([*(f"{key.given} AS {_KEY}{n}" for n, key in enumerate(proposed.told, start=1)), *columns])
    select.add(f"(SELECT {listed} FROM ", write.clauses.relation, " WHERE EXISTS (SELECT true FROM (")
    names = _add_matching(select, proposed)
    strong = sets_key(proposed.a, write.target, {one.column for one in write.conflict})
    lock = "FOR UPDATE" if strong else "FOR NO KEY UPDATE"
    select.add(f") AS excluded ({names}) WHERE {proposed.same}) {lock} OF {label}) AS {label}")


def _add_matching(select: Composed, proposed: _Proposed) -> str:
    """Add the query with no more than the columns that may be in conflict, where it may do without the others; return its columns.

    The others may be computed, and then the server could not tell which rows are in conflict.
    """
    write, spans, signatures = proposed.write, proposed.spans, proposed.a.context.catalog.signatures
    body = only(write.body["selectStmt"])[1]
    called = [strings(m["funcname"])[-1] for node in body.get("targetList", ()) for m in messages(node) if "funcname" in m]
    plain = signatures is not None and all(is_settled(signatures.functions(name)) for name in called)
    stars = any("A_Star" in m for node in body.get("targetList", ()) for m in messages(node))
    if not plain or stars or set(body) - _PLAIN or len(write.query) != len(proposed.names):
        add_query(select, proposed.a, write)
        return proposed.listed
    assert write.clauses.source is not None
    start, end = write.clauses.source
    word = spans.select(location(only(body["targetList"][0])[1]))
    select.add((start, spans.tokens[word].end), " ")
    for number, key in enumerate(proposed.keys):
        given = write.query[proposed.names.index(key)]
        select.add(", " if number else "", given.span if not given.bare else "CAST(")
        if given.bare:
            select.add(given.span, f" AS {cast_as(write.target.type(proposed.a.context.catalog, key))})")
    behind = spans.tokens[spans.targets_end(word)].end
    if len(body.get("fromClause", ())) == 1:
        first, last = from_clause(spans, word)
        keys = [write.query[proposed.names.index(key)].node for key in proposed.keys]
        item = spans.tokens[first].start, min(spans.tokens[last - 1].end, end)  # ON CONFLICT is no word that ends a FROM
        asked = [*keys, *([body["whereClause"]] if "whereClause" in body else [])]
        select.add(" FROM ", *with_columns(spans, item, body["fromClause"][0], asked))
        behind = item[1]
    select.add(*([(behind, end)] if behind < end else []))
    return ", ".join(quote_ident(key, always=True) for key in proposed.keys)


def _write(proposed: _Proposed, stored: Sequence[Stored], values: Sequence[Stored]) -> Composed:
    clauses, changed = proposed.write.clauses, Composed(proposed.a.text, proposed.spans)
    assert clauses.conflict is not None
    changed.add("INSERT INTO ", clauses.relation, " ")
    if "cols" not in proposed.write.body:
        changed.add(f"({proposed.listed}) ")
    if clauses.into is not None:
        changed.add(clauses.into, " ")
    numbers = range(len(stored) + 1, len(stored) + len(values) + 1)
    shown = ", ".join(given_value([*stored, *values], n) for n in numbers)
    changed.add(f"SELECT {shown} FROM {given_rows(changed, [*stored, *values], numbers)} ")
    changed.add((clauses.conflict[0], clauses.updates[0].names[0]))
    add_updates(changed, proposed.write, proposed.told, stored)
    if clauses.returning is not None:
        changed.add(" RETURNING ", clauses.returning)
    return changed
