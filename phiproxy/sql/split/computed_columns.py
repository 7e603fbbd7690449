"""Columns of a source that the server computes from unprotected ones: what the engine would answer otherwise, or does not have.

Only of a query whose rows are those of its source one for one, so that each is computed as often as PostgreSQL computes it, and for
no row for which it does not: it may fail, or do something.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from phiproxy.errors import StatementRefused
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.signatures import Function, Type
from phiproxy.sql.pg_errors.calls import is_aggregate
from phiproxy.sql.pg_errors.names_and_signatures import Column as Known
from phiproxy.sql.resolve.outputs_without_as import output_name
from phiproxy.sql.result import SourceColumn
from phiproxy.sql.split.blocks import Block, references
from phiproxy.sql.split.branches import Conditions, calls_reached
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.order_and_limit import changes_rows
from phiproxy.sql.split.pieces import Replaced
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.split.rest_nodes import check_rest, row_references, unnoticed
from phiproxy.sql.split.same_answers import UNORDERED
from phiproxy.sql.split.sources import Column, Source
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.values import server_values
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.text.token_spans import OPEN

_GROUPING = ("groupClause", "havingClause")


class ComputedColumn(NamedTuple):
    """An expression of the client's that a column of a source has; ``shown`` is its name where it is an output without AS."""

    node: Node
    column: Column
    shown: str

    @property
    def span(self) -> tuple[int, int]:
        """Where it stands in the client's text."""
        assert self.column.span is not None
        return self.column.span

    def replaced(self) -> Replaced:
        """Return what stands in the rest for it."""
        behind = f" AS {quote_ident(self.shown, always=True)}" if self.shown else ""
        return Replaced(*self.span, (self.column.sql + behind.encode(),))


def computed_columns(whole: Whole, read: Block, source: Source, label: str, gone: Collection[int]) -> list[ComputedColumn]:
    """Return what the source of a query computes: in its outputs, or in their aggregates, where each is evaluated for every row.

    SELECT severity(room), upper(diagnosis) FROM visits WHERE id = 1
    → source: SELECT visits.diagnosis, severity(room) FROM visits WHERE id = 1
    → rest: SELECT visits."phi.c1" AS severity, upper(diagnosis)
      FROM (SELECT s.c1, s.c2 FROM {} AS s) AS visits (diagnosis, "phi.c1") WHERE true

    What may be called in vain (``unnoticed``) is, for rows that the rest leaves out, and in CASE:

    SELECT id, CASE WHEN full_name IS NULL THEN gen_random_uuid() END FROM patients WHERE notes ILIKE 'x%'
    → source: SELECT patients.id, patients.full_name, patients.notes, gen_random_uuid() FROM patients

    Where rows are written, so is what is drawn in a branch, for the rows that come to it:

    UPDATE patients SET mrn = coalesce(mrn, 'M' || nextval('numbers'))
    → source: SELECT patients.mrn, patients.ctid, patients.tableoid, CASE WHEN (mrn) IS NULL THEN nextval('numbers') END
      FROM patients FOR NO KEY UPDATE OF patients
    """
    outputs = read.body.get("targetList", [])
    calls = [message for message in bodies(outputs, ()) if "funcname" in message]
    grouped = any(key in read.body for key in _GROUPING) or any(is_aggregate(whole.verdict, call) for call in calls)
    if not (whole.shows or whole.calls.each) or (whole.calls.each and grouped):
        return []
    if read.body is not whole.body or not _one_at_most(whole, read, grouped=grouped):
        return []
    exactly = _one_for_one(read, source, gone, locks=bool(whole.calls.each))
    if grouped and not exactly:
        return []
    found: list[ComputedColumn] = []
    try:
        _, taken = server_values(whole, ())
    except Impossible:
        taken = set()
    for target in (only(node)[1] for node in outputs):
        in_vain = [] if grouped else list(unnoticed(whole.verdict, target["val"]))
        candidates = _candidates(whole, target["val"], taken, per_row=not grouped) if exactly else ()
        wanted: list[tuple[Node, Conditions]] = [(one, ()) for one in (*candidates, *in_vain)]
        for node, conditions in (*wanted, *(_in_branches(whole, target["val"]) if exactly else ())):
            column = _column(whole, read, source, node, grouped=grouped)
            if column is None or any(one.span[0] <= column[0][0] < one.span[1] for one in found):
                continue  # or it is a part of one
            at, type_ = column
            shown = output_name(node) if node is target["val"] and "name" not in target else ""
            if shown is not None:
                found.append(ComputedColumn(node, Column(label, "", type_, span=at, conditions=conditions), shown))
    # The server computes them in the order in which PostgreSQL does.
    found.sort(key=lambda one: one.span)
    return [one._replace(column=replace(one.column, name=f"phi.c{n}")) for n, one in enumerate(found, start=1)]


def _one_for_one(read: Block, source: Source, gone: Collection[int], *, locks: bool) -> bool:
    """Tell whether a query evaluates its outputs for each row of its source, if it does so for none more than once.

    ``locks``: rows may be locked.
    """
    body = read.body
    if source.waiting or ("lockingClause" in body and not locks):
        return False
    if not all(id(node) in gone for part in read.parts for node in part.nodes):
        return False
    return bool(source.behind) or not {"limitCount", "limitOffset"} & body.keys()


def _one_at_most(whole: Whole, read: Block, *, grouped: bool) -> bool:
    """Tell whether the outputs of a query, or the arguments of its aggregates, see each row of its source once at most."""
    body = read.body
    outputs = body.get("targetList", [])
    if "windowClause" in body:
        return False
    if any(name.startswith("phi.") for name in whole.identifiers) or any("A_Star" in message for message in bodies(outputs, ())):
        return False  # it would have the column too
    if any(row_references(whole.verdict, body, {table.label for table in whole.tables})):
        return False  # and so would a row
    calls = [message for message in bodies([outputs, body.get("sortClause", [])], ()) if "funcname" in message]
    return not any(changes_rows(whole, call) for call in calls if not (grouped and _is_plain_aggregate(whole, call)))


def _is_plain_aggregate(whole: Whole, call: Node) -> bool:
    """Tell whether a call is one of an aggregate over all rows of a group."""
    return is_aggregate(whole.verdict, call) and not any(key in call for key in ("over", "agg_filter", "agg_within_group"))


def _candidates(whole: Whole, node: Node, taken: set[int], *, per_row: bool) -> Iterator[Node]:
    """Yield the largest expressions that the engine does not compute, of those that are evaluated whatever the values are.

    ``taken`` are values of the server's. In a grouped query these are ``per_row`` in the arguments of aggregates only. Where rows
    are written, they are calls of volatile functions alone: a constant beside may meet what is protected.
    """
    kind, body = only(node)
    inner: list[Node] = []
    if kind == "FuncCall":
        inner = body.get("args", [])
        per_row_inside = per_row or _is_plain_aggregate(whole, body)
    else:
        per_row_inside = per_row
        if kind == "TypeCast":
            inner = [body["arg"]]
        elif kind == "A_Expr" and body["kind"] == "AEXPR_OP":
            inner = [body[side] for side in ("lexpr", "rexpr") if side in body]
    wanted = kind in ("FuncCall", "TypeCast")
    if whole.calls.each:
        wanted = kind == "FuncCall" and strings(body["funcname"])[-1] in whole.calls.each
    if wanted and per_row:
        if _may_stand(whole, node, taken):
            return
        yield node
    for part in inner:
        yield from _candidates(whole, part, taken, per_row=per_row_inside)


def _in_branches(whole: Whole, node: Node) -> Iterator[tuple[Node, Conditions]]:
    """Yield the calls of volatile functions in branches, of values that are written for each row."""
    for call, conditions in calls_reached(whole.spans, whole.verdict.signatures, node) if whole.calls.each else ():
        if conditions and strings(only(call)[1]["funcname"])[-1] in whole.calls.each:
            yield call, conditions


def _may_stand(whole: Whole, node: Node, taken: set[int]) -> bool:
    try:
        check_rest(whole.verdict, node, taken)
    except Impossible:
        return False
    return True


def _column(whole: Whole, read: Block, source: Source, node: Node, *, grouped: bool) -> tuple[tuple[int, int], SourceColumn] | None:
    """Return where an expression stands and of which type it is; None where it cannot be a column of the source."""
    kind, body = only(node)
    if any("SubLink" in message or "over" in message for message in bodies(node, ())):
        return None
    meant = references(whole.verdict, [node], read.level, whole.protected)
    if meant.secret or meant.beyond:
        return None
    names = [strings(message["funcname"])[-1] for message in bodies(node, ()) if "funcname" in message]
    functions = [function for name in names for function in whole.verdict.signatures.functions(name)]
    sorted_later = "sortClause" in read.body and not source.behind and not grouped
    unordered = set(names) <= UNORDERED and not any(whole.verdict.signatures.own_functions(name) for name in names)
    if sorted_later and any(function.volatile == "v" for function in functions) and not unordered:
        return None  # which is computed of rows that are sorted
    carried = whole.carried(Known("", _type(whole, kind, body), typmod=-1))
    return None if carried is None else (_span(whole, kind, node), carried)


def _type(whole: Whole, kind: str, body: Node) -> Type:
    known = whole.verdict.types.get(id(body))
    if kind == "TypeCast":
        return None if body["typeName"].get("typmods") else known
    if known is not None:
        return known
    results = {f.result for f in _called(whole, body)}
    return results.pop() if len(results) == 1 else None


def _called(whole: Whole, body: Node) -> list[Function]:
    return [f for f in whole.verdict.signatures.functions(strings(body["funcname"])[-1]) if f.kind == "f"]


def _span(whole: Whole, kind: str, node: Node) -> tuple[int, int]:
    spans = whole.spans
    try:
        start, end = spans.expression(node)
        if kind == "FuncCall":
            opening = spans.next(spans.at(location(only(node)[1])), OPEN)
            end = max(end, spans.tokens[spans.partner(opening)].end)
    except StatementRefused:
        raise Impossible("an expression that is not found") from None
    return start, end
