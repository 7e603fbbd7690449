"""That what is drawn by a statement with writes in WITH is drawn in PostgreSQL's order, though the source draws it before.

PostgreSQL runs a write in WITH when something reads what it returns, row by row, or at the end. So one write draws alone, or the
others draw of other sequences, and behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.sql.context import Analysis
from phiproxy.sql.split.impossible import RefusedWithHint
from phiproxy.sql.split.same_answers import AT_EACH_CALL, DRAWN
from phiproxy.sql.split.writes.assigned_values import Given, Written
from phiproxy.sql.split.writes.drawn import calls_in, is_drawn, name_of
from phiproxy.sql.split.writes.drawn_order import ASKED_FIRST, draws_of_another, fires_for_rows, may_default
from phiproxy.sql.split.writes.inner_write import writes_in_with
from phiproxy.sql.text.parse import Node, only


def check_drawn_in_with(a: Analysis, drawing: Sequence[Written], others: Sequence[Written]) -> None:
    """Go on where it makes no difference that the values of one write are drawn before the others are run; RefusedWithHint.

    WITH p AS (INSERT INTO patients (mrn) VALUES ('M' || nextval('numbers')) RETURNING id) INSERT INTO visits (id) SELECT id FROM p
    → source: SELECT pg_catalog.nextval('public.patients_id_seq'), nextval('numbers')
    """
    if not drawing:
        return
    (write, *more) = drawing
    given = [one for one in write.values if is_drawn(one.node)]
    if more or write.kind != "InsertStmt":
        raise RefusedWithHint("several writes that draw, or one of chosen rows", ASKED_FIRST)
    _check_calls(a, given)
    for other in others:
        if other.target.relation.kind not in "rp" or other.target.relation.statement_triggers or fires_for_rows(a, other):
            raise RefusedWithHint("a trigger of another table may draw before", ASKED_FIRST)
        defaults = may_default(a, other)
        if defaults and not _runs_behind(a, write, other):
            raise RefusedWithHint("a default that may be drawn before", ASKED_FIRST)
        if not all(draws_of_another(column, given) for column in defaults):
            raise RefusedWithHint("a default that may be of the same sequence", ASKED_FIRST)


def _check_calls(a: Analysis, given: Sequence[Given]) -> None:
    """Go on where nothing else of the whole statement draws, nor calls a volatile function that may; RefusedWithHint."""
    signatures = a.context.catalog.signatures
    assert signatures is not None
    called = [name_of(call) for call in calls_in(a.statement.body)]
    own = [name_of(call) for one in given for call in calls_in(one.node)]
    if sum(name in DRAWN for name in called) > sum(name in DRAWN for name in own):
        raise RefusedWithHint("something that is drawn elsewhere in the statement", ASKED_FIRST)
    if any(f.volatile == "v" for name in called if name not in AT_EACH_CALL for f in signatures.functions(name)):
        raise RefusedWithHint("a volatile function beside something that is drawn", ASKED_FIRST)


def _runs_behind(a: Analysis, write: Written, other: Written) -> bool:
    """Tell whether a write has no row before another one has all of its own: it reads in FROM the one row which that returns."""
    body = a.statement.body
    if other.body is not body or a.statement.kind != "InsertStmt" or len(write.clauses.rows) != 1:
        return False
    own = [cte["ctename"] for cte in writes_in_with(a) if _is(cte, write)]
    return any(name in own for item in only(body["selectStmt"])[1].get("fromClause", ()) for name in _tables(item))


def _is(cte: Node, write: Written) -> bool:
    """Tell whether a query of WITH is a write, whose tree is another one with the same positions."""
    kind, body = only(cte["ctequery"])
    return kind == write.kind and body["relation"].get("location") == write.body["relation"].get("location")


def _tables(item: Node) -> list[str]:
    """Return the names of what stands in an item of FROM, joins among them, but for what may be read only in part."""
    kind, body = only(item)
    if kind == "JoinExpr" and body["jointype"] == "JOIN_INNER":
        return [*_tables(body["larg"]), *_tables(body["rarg"])]
    return [body["relname"]] if kind == "RangeVar" and "schemaname" not in body else []
