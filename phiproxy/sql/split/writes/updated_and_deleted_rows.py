"""UPDATE and DELETE of rows that only the engine can choose, or to values that differ by row: the source locks the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import accumulate

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.impossible import Impossible, RefusedWithHint
from phiproxy.sql.split.statement import Calls
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN, Given, Written, others_of, reads_ctes
from phiproxy.sql.split.writes.carried import carried
from phiproxy.sql.split.writes.clear_values import clear_outputs
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composed_select import outputs_of, read_of
from phiproxy.sql.split.writes.composition import Parts, Stored, composition, composition_or_apart, given_rows, given_value
from phiproxy.sql.split.writes.described import described
from phiproxy.sql.split.writes.drawn_order import changing_of, check_drawn
from phiproxy.sql.split.writes.merge_source import derived_values, equalities, with_columns
from phiproxy.sql.split.writes.parts_seen_together import Value
from phiproxy.sql.split.writes.returned_beside import Beside, kept_beside, returned_beside, stored_beside
from phiproxy.sql.split.writes.row_keys import row_keys, sets_key, table_of
from phiproxy.sql.split.writes.targets import BY_COMMAND
from phiproxy.sql.text.parse import location, only, strings
from phiproxy.sql.text.token_spans import Spans

_CURSOR = "Let the cursor show the row's primary key, and write WHERE it is that one."


def computed_rows(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an UPDATE or DELETE; Impossible for any other.

    UPDATE patients SET notes = upper(notes), city = $1
    → source: SELECT patients.notes, patients.ctid, patients.tableoid FROM patients FOR NO KEY UPDATE OF patients
    → write: UPDATE patients SET notes = phi_write.phi_3, city = $4
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]))
      AS phi_write (phi_1, phi_2, phi_3)
      WHERE patients.ctid = phi_write.phi_1::tid AND patients.tableoid = phi_write.phi_2::oid
    """
    given_to = values_of_rows(a, write)
    if any(given.computed for given in given_to):
        check_drawn(a, write, given_to)
    try:
        return _split(a, spans, write, given_to, refusal, kept=False)
    except (Impossible, StatementRefused):
        if write.clauses.others is None or write.clauses.returning is None:
            raise
    return _split(a, spans, write, given_to, refusal, kept=True)


def _split(
    a: Analysis, spans: Spans, write: Written, given_to: list[Given], refusal: StatementRefused | ValueRefused, *, kept: bool
) -> Split:
    """``kept``: what RETURNING shows of other tables is given to the engine alone."""
    beside = returned_beside(a, spans, write, kept=kept)
    stored, select = stored_of(a, write, given_to), add_chosen(a, Composed(a.text, spans), write, given_to, shown=beside)
    clear = [n for n, one in enumerate(given_to, start=len(stored) - len(given_to)) if not one.computed]
    if beside and kept:
        whole, outputs = read_of(a, select)
        stored += kept_beside(whole, outputs[len(stored) :])
    elif beside:
        clear += range(len(stored), len(stored) + len(beside))
        stored += stored_beside(beside, outputs_of(a, select)[len(stored) :])
    parts = Parts(
        select,
        stored,
        add_write(a, Composed(a.text, spans), spans, write, stored, given_to, shown=beside),
        described(a.text, spans, write),
        [write.target],
        many=True,
        returns=write.clauses.returning is not None,
        waiting=write.waiting,
        clear=clear_outputs(a, select, clear) if clear else (),
        calls=Calls(each=changing_of([given.node for given in given_to])),
    )
    if not _is_of_given_rows(write):
        return composition_or_apart(a, parts, refusal)
    try:
        narrow = add_chosen(a, Composed(a.text, spans), write, given_to, matched=spans, shown=beside)
        met = clear_outputs(a, narrow, clear)
        return composition(a, dataclasses.replace(parts, select=narrow, clear=met, apart=True), refusal)
    except Impossible:
        return composition_or_apart(a, parts, refusal)


def _is_of_given_rows(write: Written) -> bool:
    """Tell whether the target is joined with given rows only: ``FROM (VALUES ($1, $2)) AS v (id, note)``."""
    items = others_of(write)
    return len(items) == 1 and write.clauses.where is not None and derived_values(items[0]) is not None


def values_of_rows(a: Analysis, write: Written) -> list[Given]:
    """Return the values that the rest gives for each row; Impossible where its rows cannot be locked, and then be told."""
    if write.kind not in ("DeleteStmt", "UpdateStmt") or write.target.relation.kind not in "rpv":
        raise Impossible("no rows of a table are chosen")
    if "CurrentOfExpr" in write.body.get("whereClause", {}):
        raise RefusedWithHint("the row of a cursor is read by no SELECT", _CURSOR)
    if ALIAS.encode() in a.text:
        raise Impossible("a name that is taken")
    table = table_of(a, write.target.relation)
    if write.kind == "DeleteStmt" and table.row_security and table.policies_by_command:
        raise RefusedWithHint("rows that may be deleted, and not be locked", BY_COMMAND)
    taken = {id(given) for given in carried(a, write)}
    if reads_ctes(write, (write.body.get("returningClause"),)):
        raise Impossible("a name that the write does not have")
    return [given for given in write.values if given.computed or id(given) in taken]


def stored_of(a: Analysis, write: Written, given_to: list[Given]) -> list[Stored]:
    """Return the columns of the rest: those that tell the row, and each value."""
    catalog = a.context.catalog
    values = [Stored(write.target.type(catalog, given.column), computed=given.computed) for given in given_to]
    return [*(Stored(key.type, computed=False) for key in row_keys(a, write.target)), *values]


def clear_of(a: Analysis, select: Composed, outputs: Sequence[Given | None]) -> set[Value]:
    """Return the given values that may stand in clear, of what is given to unprotected columns; Impossible (``clear_outputs``)."""
    clear = [position for position, given in enumerate(outputs) if given is not None and not given.computed]
    return clear_outputs(a, select, clear) if clear else set()


def add_chosen(
    a: Analysis,
    select: Composed,
    write: Written,
    given_to: list[Given],
    before: Sequence[str] = (),
    behind: Sequence[str] = (),
    *,
    matched: Spans | None = None,
    shown: Sequence[Beside] = (),
) -> Composed:
    """Add the SELECT that chooses and locks the rows of a write, and computes its values; return the text.

    ``shown`` are columns of other tables that RETURNING shows.

    ``matched`` (the tokens of the statement): with a condition on the target alone that given rows match it, of which the server
    sees what is compared only.

    UPDATE patients p SET notes = p.notes || v.n FROM (VALUES (1, $1)) AS v (id, n) WHERE p.id = v.id
    → source: SELECT p.id, p.notes, p.ctid, p.tableoid FROM patients p
      WHERE EXISTS (SELECT true FROM (VALUES (1)) AS v (id) WHERE p.id = v.id) FOR NO KEY UPDATE
    """
    clauses, label = write.clauses, quote_ident(write.target.label, always=True)
    if clauses.before is not None:
        select.add(clauses.before, " ")
    select.add(f"SELECT {', '.join([*before, *(key.given for key in row_keys(a, write.target))])}")
    for given in given_to:
        select.add(", ", *given.as_select)
    for column in (column for one in shown for column in one.columns):
        select.add(", ", column)
    select.add("".join(f", {one}" for one in behind), " FROM ", clauses.relation)
    if clauses.others is not None:
        select.add(", ", clauses.others)
    if clauses.where is not None:
        select.add(" WHERE ", *((clauses.where,) if matched is None else ("(", clauses.where, ")")))
        if matched is not None and clauses.others is not None:
            (item,) = others_of(write)
            equal = equalities(matched, write.body["whereClause"], clauses.where[1])
            rows = with_columns(matched, clauses.others, item, [node for _, node in equal] or [write.body["whereClause"]])
            select.add(" AND EXISTS (SELECT true FROM ", *rows, " WHERE ", *([] if equal else [clauses.where]))
            for number, (span, _) in enumerate(equal):
                select.add(" AND " if number else "", span)
            select.add(")")
    strong = write.kind == "DeleteStmt" or sets_key(a, write.target, {given.column for given in write.values})
    lock = "FOR UPDATE" if strong else "FOR NO KEY UPDATE"
    return select.add(f" {lock} OF {label}")


def add_write(
    a: Analysis,
    changed: Composed,
    spans: Spans,
    write: Written,
    stored: list[Stored],
    given_to: list[Given],
    *,
    one_of: range | None = None,
    shown: Sequence[Beside] = (),
) -> Composed:
    """Add the write of the chosen rows to a text, and return it.

    ``one_of``: in WITH, where all columns of the target are listed in RETURNING; the numbers of the columns of the rest that it is
    given, in the order of its keys and values. ``shown`` are the columns of the rest behind its values.
    """
    first = one_of.start if one_of is not None else 1
    clauses, label, keys = write.clauses, quote_ident(write.target.label, always=True), row_keys(a, write.target)
    at = first + len(keys) + len(given_to)
    rows = given_rows(changed, stored, one_of or range(first, at + sum(len(one.columns) for one in shown)))
    if write.kind == "DeleteStmt":
        changed.add("DELETE FROM ", clauses.relation, f" USING {rows}")
    else:
        changed.add("UPDATE ", clauses.relation, " SET ")
        number = first + len(keys) - 1
        for position, given in enumerate(write.values):
            changed.add(", " if position else "", f"{quote_ident(given.column, always=True)} = ")
            is_given = any(given is one for one in given_to)
            number += is_given
            changed.add(*([given_value(stored, number)] if is_given else given.as_select))
        changed.add(f" FROM {rows}")
    same = (f"{key.column} = {ALIAS}.{COLUMN}{number}{key.cast}" for number, key in enumerate(keys, start=first))
    changed.add(f" WHERE {' AND '.join(same)}")
    if clauses.returning is not None:
        names = (f"{label}.{quote_ident(c.name, always=True)}" for c in visible_columns(write.target.relation))
        columns = ", ".join(names) if one_of is not None else f"{label}.*"
        instead = [(one.span, one.written(changed, stored, n)) for n, one in zip(_numbers(shown, at), shown, strict=True)]
        taken = {span for span, _ in instead}
        _returning(changed, write, [*instead, *((span, columns) for span in _stars(spans, write) if span not in taken)])
    return changed


def _numbers(shown: Sequence[Beside], first: int) -> Iterator[int]:
    """Yield the numbers of the first column of each."""
    return accumulate((len(one.columns) for one in shown[:-1]), initial=first) if shown else iter(())


def _returning(changed: Composed, write: Written, instead: Sequence[tuple[Span, str]]) -> None:
    """Add RETURNING, with something else instead of some of it."""
    assert write.clauses.returning is not None
    at, end = write.clauses.returning
    changed.add(" RETURNING ")
    for (start, behind), text in sorted(instead):
        changed.add((at, start), text)
        at = behind
    changed.add((at, end))


def _stars(spans: Spans, write: Written) -> Iterator[Span]:
    """Yield where ``*`` stands in RETURNING: it is all columns of the target, and not those of the given rows."""
    for node in write.body["returningClause"]["exprs"]:
        value = only(node)[1]["val"]
        if strings(value.get("ColumnRef", {}).get("fields")) == ["*"]:
            start = location(value["ColumnRef"])
            yield start, spans.tokens[spans.at(start)].end
