"""What is described of a split write: a SELECT with the columns of RETURNING, and every parameter where the client has it."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.split.writes.assigned_values import Given, Written, tells_rows, written
from phiproxy.sql.split.writes.clauses import Clauses
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.inner_write import InnerWrite
from phiproxy.sql.split.writes.targets import Target, cast_to, is_text
from phiproxy.sql.text.token_spans import Spans


def described(text: bytes, spans: Spans, write: Written) -> Composed:
    """Return the SELECT, whose parameters have the types that they have in the write.

    UPDATE patients SET ssn = $1, notes = initcap($2) RETURNING id
    → described: SELECT id FROM (SELECT s.c1, s.c2 FROM {} AS s) AS patients (id, ssn) WHERE EXISTS (SELECT
      coalesce(patients.ssn, $1), initcap($2))
    """
    composed = Composed(text, spans, write.calls)
    if write.clauses.before is not None:
        composed.add(write.clauses.before, " ")
    return add_described(composed, spans, write)


def described_around(a: Analysis, spans: Spans, inner: Sequence[InnerWrite]) -> Composed:
    """Return what is described of a statement with writes in its WITH: these as SELECTs with the columns that they return."""
    calls = sorted(call for one in inner for call in one.write.calls)
    outer = written(a, spans) if a.statement.kind != "SelectStmt" else None
    composed, at = Composed(a.text, spans, outer.calls if outer is not None else calls), a.statement.start
    for one in inner:
        composed.add((at, one.span[0]))
        add_described(composed, one.spans, one.write).add(" ")
        at = one.span[1]
    if outer is None:
        return composed.add((at, a.statement.end))
    assert outer.clauses.before is not None
    composed.add((at, outer.clauses.before[1]), " ")
    return add_described(composed, spans, outer)


def add_described(composed: Composed, spans: Spans, write: Written) -> Composed:
    """Add the SELECT of a write, without its WITH, to a text, and return it."""
    clauses = write.clauses
    composed.add("SELECT ")
    if clauses.returning is not None:
        composed.add(clauses.returning)
    composed.add(" FROM ", clauses.relation)
    if clauses.others is not None:
        composed.add(", ", clauses.others)
    conditions = _Conditions(composed)
    if clauses.returning is not None and composed.shares_parameter(*clauses.returning):
        # What a parameter is compared with, or stored in, says its type before RETURNING does; SET says it behind that.
        conditions.begin(", LATERAL (SELECT WHERE ", ") AS phi_described")
        _add_where(write, conditions)
        if write.kind == "InsertStmt":
            _add_values(composed, spans, write, conditions)
            return conditions.end()
        conditions.end()
        conditions.begin(" WHERE ", "")
    else:
        conditions.begin(" WHERE ", "")
        _add_where(write, conditions)
    _add_values(composed, spans, write, conditions)
    return conditions.end()


class _Conditions:
    """Conditions one behind the other, if there are any."""

    def __init__(self, composed: Composed) -> None:
        self._composed = composed
        self._before = self._behind = ""
        self._count = 0

    def begin(self, before: str, behind: str) -> None:
        """Begin with those that stand between these texts."""
        self._before, self._behind, self._count = before, behind, 0

    def add(self, *pieces: str | Span) -> None:
        """Begin another one with these pieces."""
        self._composed.add(" AND " if self._count else self._before, *pieces)
        self._count += 1

    def end(self) -> Composed:
        """Write what stands behind them."""
        return self._composed.add(self._behind) if self._count else self._composed


def _add_where(write: Written, conditions: _Conditions) -> None:
    where = write.clauses.where
    if where is not None and not ("CurrentOfExpr" in write.body["whereClause"] or tells_rows(write)):
        conditions.add("(", where, ")")


def _add_values(composed: Composed, spans: Spans, write: Written, conditions: _Conditions) -> None:
    """Add what is given to columns, as far as parameters stand in it."""
    clauses, target = write.clauses, write.target
    for given, excluded in ((write.values, False), (write.conflict, True)):
        listed = [one for one in given if any(has_parameter(spans, span) for span in one.spans)]
        if _meets_itself(composed, write, listed) and not excluded:
            conditions.add("EXISTS (VALUES ")
            _add_together(composed, listed, target)
            composed.add(")")
        elif listed:
            conditions.add("EXISTS (SELECT ")
            for number, one in enumerate(listed):
                add_given(composed, ", " if number else "", one, target)
            if excluded:
                composed.add(" FROM ", _name(target), " AS excluded")
            composed.add(")")
    if clauses.source is not None and not clauses.rows and has_parameter(spans, clauses.source):
        conditions.add("EXISTS (")
        _add_query(composed, clauses, write.query, target)
        composed.add(")")


def _meets_itself(composed: Composed, write: Written, listed: Sequence[Given]) -> bool:
    """Tell whether a parameter is a value by itself, and stands in an expression that is another value of the same row."""
    rows = len(write.clauses.rows) if write.kind == "InsertStmt" else 1
    shared = [one.bare for one in listed if all(composed.shares_parameter(*span) for span in one.spans)]
    return rows == 1 and any(shared) and not all(shared)


def _add_together(composed: Composed, listed: Sequence[Given], target: Target) -> None:
    """Add the values of one row as PostgreSQL reads them: all of them, before any is given the type of its column.

    INSERT INTO stays (id, born, bed) VALUES (1, $1, $1 + 1)
    → described: … WHERE EXISTS (VALUES (stays.born, NULL), ($1, CAST($1 + 1 AS int4)))
    """
    for number, one in enumerate(listed):
        # To a text anything is assigned; and a parameter that has no type yet is one beside NULL.
        as_it_is = not one.bare or (composed.shares_parameter(*one.span) and is_text(target, one.column))
        composed.add(", " if number else "(", "NULL" if as_it_is else _column(target, one))
    for number, one in enumerate(listed):
        before = ", " if number else "), ("
        if one.bare:
            composed.add(before, one.span)
        else:
            add_given(composed, before, one, target)
    composed.add(")")


def _column(target: Target, given: Given) -> str:
    return f"{quote_ident(target.label, always=True)}.{quote_ident(given.column, always=True)}"


def add_given(composed: Composed, before: str, given: Given, target: Target) -> None:
    """Add a given value; a parameter that nothing else gives a type has that of the column.

    Where a parameter may make it one of a type that cannot be assigned, that is said when it is prepared:

    UPDATE stays SET bed = $1 - 1 WHERE born > $1 RETURNING id
    → described: SELECT id FROM (SELECT s.c1, s.c2 FROM {} AS s) AS stays (id, born) WHERE (born > $1) AND EXISTS (SELECT
      CAST($1 - 1 AS int4))
    """
    if given.bare:
        composed.add(before, f"coalesce({_column(target, given)}, ", given.span, ")")
        return
    kind = cast_to(target, given.column) if given.column and composed.shares_parameter(*given.span) else ""
    pieces = ("CAST(", *given.as_select, f" AS {kind})") if kind else given.as_select
    composed.add(before, *pieces)


def _add_query(composed: Composed, clauses: Clauses, outputs: list[Given], target: Target) -> None:
    """Add the query of an INSERT, in which the parameters that are its outputs have the types of the columns."""
    assert clauses.source is not None
    at, end = clauses.source
    for given in sorted((one for one in outputs if one.bare), key=lambda one: one.span):
        composed.add((at, given.span[0]))
        add_given(composed, "", given, target)
        at = given.span[1]
    composed.add((at, end))


def has_parameter(spans: Spans, span: Span) -> bool:
    """Tell whether a parameter stands there."""
    return bool(spans.parameters(*span))


def _name(target: Target) -> str:
    return f"{quote_ident(target.relation.schema, always=True)}.{quote_ident(target.relation.name, always=True)}"
