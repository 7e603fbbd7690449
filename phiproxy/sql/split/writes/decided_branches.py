"""Branches of which given values decide whether something is drawn: the engine decides, and then the server draws.

``coalesce(nullif(trim($1), ''), 'M' || nextval('numbers'))``: the server may not have $1, and only it draws. So what decides is
computed first, as one text that is NULL or not, and the write with that in its place is split once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.signatures import Signatures
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Split
from phiproxy.sql.split.branches import condition_span
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.assigned_values import Written
from phiproxy.sql.split.writes.composed import Composed, Span
from phiproxy.sql.split.writes.composed_select import types_of
from phiproxy.sql.split.writes.composition import Parts, Stored, composition
from phiproxy.sql.split.writes.computed_values import computed_values
from phiproxy.sql.split.writes.derived_columns import with_derived
from phiproxy.sql.split.writes.described import described
from phiproxy.sql.split.writes.drawn import is_called_where_reached, is_drawn
from phiproxy.sql.split.writes.split_again import of_write, split_again
from phiproxy.sql.split.writes.updated_and_deleted_rows import computed_rows
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.text.token_spans import OPEN, Spans
from phiproxy.types.declared import DeclaredType
from phiproxy.wire.oids import TEXT_OID, VARCHAR_OID

_TEXT = DeclaredType.builtin("text")
_TEXTS = frozenset({"text", "varchar"})
_OPERATORS = frozenset({"=", "<>", "||", "~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*"})
_COMPARED = frozenset(f"AEXPR_{kind}" for kind in ("OP", "NULLIF", "IN", "LIKE", "ILIKE", "DISTINCT", "NOT_DISTINCT"))
_CALLED = frozenset({"funcname", "args", "funcformat", "location"})


class Decided(NamedTuple):
    """What given values decide: where it stands, how it is asked for, and what stands behind its value in the write."""

    span: Span
    asked: tuple[str | Span, ...]
    behind: str = ""


def decided_branches(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split a write that draws in branches that are decided by immutable functions of given values; Impossible for any other.

    INSERT INTO patients (id, mrn) VALUES ($1, coalesce(nullif(trim($2), ''), 'M' || nextval('numbers')))
    → rest: SELECT q.q1 FROM (SELECT coalesce(nullif(trim($1), ''))) AS q (q1)
    → write: INSERT INTO patients (id, mrn) VALUES ($2, coalesce( $1 , 'M' || nextval('numbers')))

    UPDATE patients SET mrn = CASE WHEN starts_with($1, 'x') THEN 'M' || nextval('numbers') ELSE $1 END
    → rest: SELECT CAST(q.q1 AS text) FROM (SELECT CASE WHEN (starts_with($1, 'x')) THEN CAST(true AS text) END) AS q (q1)
    → write: UPDATE patients SET mrn = CASE WHEN  $1 IS NOT NULL  THEN 'M' || nextval('numbers') ELSE $2 END
    """
    signatures, drawing = a.context.catalog.signatures, [one for one in write.values if is_drawn(one.node)]
    # What is a constant before is a parameter behind, of which is not known that it may be NULL before it is evaluated.
    if signatures is None or not all(
        is_called_where_reached(with_derived(a, write, one.node), signatures) for one in drawing
    ):
        raise Impossible("something that is not drawn wherever it is reached")
    decided = [one for given in drawing for one in _decided(spans, signatures, given.node)]
    if not decided:
        raise Impossible("nothing is drawn as given values decide")
    select, changed, at = Composed(a.text, spans), Composed(a.text, spans), a.statement.start
    for n, one in enumerate(sorted(decided), start=1):
        select.add("SELECT " if n == 1 else ", ", *one.asked)
        changed.add((at, one.span[0]), f" {changed.parameter(-n)}{one.behind} ")
        at = one.span[1]
    changed.add((at, a.statement.end))
    if not set(types_of(a, select)) <= {TEXT_OID, VARCHAR_OID}:
        raise Impossible("something else than texts")
    parts = Parts(
        select,
        [Stored(_TEXT) for _ in decided],
        changed,
        described(a.text, spans, write),
        [write.target],
        returns=write.clauses.returning is not None,
        waiting=write.waiting,
        split_again=partial(split_again, of_write(_values_or_rows), refusal, a, changed),
    )
    return composition(a, parts, refusal)


def _values_or_rows(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    return (computed_rows if write.kind == "UpdateStmt" else computed_values)(a, spans, write, refusal)


def _decided(spans: Spans, signatures: Signatures, node: Node) -> Iterator[Decided]:
    """Yield what given values decide in an expression that draws, of branches that are not in branches."""
    kind, body = only(node)
    inner: Sequence[Node] = ()
    match kind:
        case "CoalesceExpr":
            yield from _of_coalesce(spans, signatures, body)
        case "CaseExpr" if "arg" not in body and is_drawn(body):
            yield from _of_case(spans, signatures, body)
        case "FuncCall":
            inner = body.get("args", ())
        case "TypeCast":
            inner = (body["arg"],)
        case "A_Expr" if body["kind"] == "AEXPR_OP":
            inner = [body[side] for side in ("lexpr", "rexpr") if side in body]
    for one in inner:
        yield from _decided(spans, signatures, one)


def _of_coalesce(spans: Spans, signatures: Signatures, body: Node) -> Iterator[Decided]:
    """Yield what stands before all that is drawn, as one value: so nothing of it is computed that PostgreSQL does not."""
    places = spans.items(spans.tokens[spans.next(spans.at(location(body)), OPEN)].start)
    first = last = None
    for node, place in zip(body["args"], places, strict=True):
        if not _is_settled(signatures, node):
            break
        first, last = first or place, place
    if first is not None and last is not None and any(is_drawn(node) for node in body["args"]):
        span = (first[0], last[1])
        yield Decided(span, ("coalesce(", span, ")"))


def _of_case(spans: Spans, signatures: Signatures, body: Node) -> Iterator[Decided]:
    """Yield its conditions, each asked for behind those before it."""
    before: tuple[str | Span, ...] = ("CASE",)
    for when in (only(node)[1] for node in body["args"]):
        if not _is_settled(signatures, when["expr"]):
            return
        span = condition_span(spans, spans.at(location(when)))
        yield Decided(span, (*before, " WHEN (", span, ") THEN CAST(true AS text) END"), " IS NOT NULL")
        before = (*before, " WHEN (", span, ") THEN NULL")


def _is_settled(signatures: Signatures, node: Node) -> bool:
    """Tell whether something is of given values alone, and evaluated before anything is drawn, as PostgreSQL's planner does."""
    kind, body = only(node)
    match kind:
        case "A_Const" | "ParamRef":
            return True
        case "TypeCast":
            names = strings(body["typeName"].get("names"))
            plain = names[-1] in _TEXTS and names[:-1] in ([], ["pg_catalog"]) and not body["typeName"].get("arrayBounds")
            inner = [body["arg"]] if plain else []
        case "A_Expr" if body["kind"] in _COMPARED and strings(body["name"])[-1] in _OPERATORS:
            inner = [body[side] for side in ("lexpr", "rexpr") if side in body]
        case "List":
            inner = body["items"]
        case "BoolExpr" | "CoalesceExpr":
            inner = body["args"]
        case "NullTest":
            inner = [body["arg"]]
        case "FuncCall" if body.keys() <= _CALLED and not signatures.own_functions(strings(body["funcname"])[-1]):
            functions = signatures.functions(strings(body["funcname"])[-1])
            plain = bool(functions) and all(f.volatile == "i" and f.kind == "f" and not f.rows for f in functions)
            inner = body.get("args", []) if plain else []
        case _:
            return False
    return bool(inner) and all(_is_settled(signatures, one) for one in inner)
