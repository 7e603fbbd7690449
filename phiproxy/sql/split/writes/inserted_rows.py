"""INSERT of a query that the engine computes: its rows are given to an INSERT as arrays."""

from __future__ import annotations

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.statement import Calls
from phiproxy.sql.split.writes.assigned_values import ALIAS, Written, reads_ctes
from phiproxy.sql.split.writes.clear_values import clear_outputs
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composed_select import types_of
from phiproxy.sql.split.writes.composition import Parts, Stored, composition_or_apart, given_rows, given_value
from phiproxy.sql.split.writes.described import described
from phiproxy.sql.split.writes.drawn_order import changing_of, check_drawn
from phiproxy.sql.split.writes.targets import cast_as
from phiproxy.sql.text.parse import only
from phiproxy.sql.text.token_spans import Spans


def inserted_rows(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an INSERT of a query; Impossible where what goes to an unprotected column may be computed of something protected.

    INSERT INTO patients (ssn, city) SELECT upper(full_name), city FROM patients
    → write: INSERT INTO patients (ssn, city) SELECT phi_write.phi_1, phi_write.phi_2
      FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS phi_write (phi_1, phi_2)
    """
    clauses, target = write.clauses, write.target
    if write.kind != "InsertStmt" or write.values or clauses.source is None or "selectStmt" not in write.body:
        raise Impossible("no query is inserted")
    if ALIAS.encode() in a.text or reads_ctes(write, (write.body.get("onConflictClause"), write.body.get("returningClause"))):
        raise Impossible("a name that is taken, or that the write does not have")
    check_drawn(a, write, write.query)
    select = Composed(a.text, spans)
    if clauses.before is not None:
        select.add(clauses.before, " ")
    add_query(select, a, write)
    count = len(types_of(a, select))
    listed = [only(node)[1]["name"] for node in write.body.get("cols", ())]
    names = listed[:count] or target.names(count)
    if len(names) != count:
        raise Impossible("more values than columns")
    clear = [position for position, name in enumerate(names) if name not in target.protected]
    catalog = a.context.catalog
    changing = changing_of([given.node for given in write.query])
    stored = [Stored(target.type(catalog, name), computed=name in target.protected) for name in names]
    if any(not one.computed and by_oid(one.type.oid) is None for one in stored):
        raise Impossible("a value of a type of the database's own")
    changed = Composed(a.text, spans).add("INSERT INTO ", clauses.relation, " ")
    if not listed:
        changed.add(f"({', '.join(quote_ident(name, always=True) for name in names)}) ")
    if clauses.into is not None:
        changed.add(clauses.into, " ")
    values = ", ".join(given_value(stored, n) for n in range(1, count + 1))
    changed.add(f"SELECT {values} FROM {given_rows(changed, stored)}")
    if clauses.conflict is not None:
        changed.add(" ", clauses.conflict)
    if clauses.returning is not None:
        changed.add(" RETURNING ", clauses.returning)
    parts = Parts(
        select,
        stored,
        changed,
        described(a.text, spans, write),
        [write.target],
        many=True,
        returns=clauses.returning is not None,
        waiting=write.waiting,
        clear=clear_outputs(a, select, clear) if clear else (),
        calls=Calls(once=changing if _is_one_row(write) else (), each=changing),
    )
    return composition_or_apart(a, parts, refusal)


def _is_one_row(write: Written) -> bool:
    """Tell whether a query is the list of its outputs, and no more."""
    return set(only(write.body["selectStmt"])[1]) <= {"targetList", "limitOption", "op"} and "withClause" not in write.body


def add_query(select: Composed, a: Analysis, write: Written) -> Composed:
    """Add the query, in which parameters that are outputs have the types of their columns, as in PostgreSQL, to a text."""
    assert write.clauses.source is not None
    at, end = write.clauses.source
    for given in write.query:
        if given.bare:
            select.add((at, given.span[0]), "CAST(", given.span)
            select.add(f" AS {cast_as(write.target.type(a.context.catalog, given.column))})")
            at = given.span[1]
    return select.add((at, end))
