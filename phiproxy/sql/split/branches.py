"""Calls in branches of CASE and COALESCE: the server makes one where PostgreSQL would, and only there.

So a source has the conditions of the branch around the call, where the server can decide them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from phiproxy.errors import StatementRefused
from phiproxy.policy.signatures import Signatures
from phiproxy.sql.split.remaining import bodies
from phiproxy.sql.text.parse import Node, location, only, strings
from phiproxy.sql.text.token_spans import OPEN, Spans


class Condition(NamedTuple):
    """A condition under which a branch is reached: ``CASE WHEN (`` the client's text ``) IS NULL THEN``."""

    before: bytes
    span: tuple[int, int] | None
    behind: bytes


Conditions = tuple[Condition, ...]
_NEVER = Condition(b"CASE WHEN false", None, b" THEN ")
"""Behind a constant in COALESCE nothing is reached."""
END = b" END"
"""What closes each of them."""
_NUMBERS = frozenset({"ival", "fval"})
_ALL_BUT_TEXTS = _NUMBERS | {"boolval"}


def calls_reached(
    spans: Spans, signatures: Signatures, node: Node, conditions: Conditions = ()
) -> Iterator[tuple[Node, Conditions]]:
    """Yield the calls in an expression that are made once where the conditions of their branches hold, and else not at all.

    Those are left out whose conditions would do something themselves, or hold a query.

    UPDATE patients SET mrn = coalesce(mrn, $1, 'M' || nextval('numbers'))
    → source: SELECT patients.mrn, patients.ctid, patients.tableoid, CASE WHEN (mrn) IS NULL
      THEN CASE WHEN ($1::pg_catalog.text) IS NULL THEN nextval('numbers') END END FROM patients FOR NO KEY UPDATE OF patients

    UPDATE patients SET mrn = CASE WHEN mrn IS NULL THEN 'M' || nextval('numbers') ELSE lower(mrn) END
    → source: SELECT patients.mrn, patients.ctid, patients.tableoid, CASE WHEN (mrn IS NULL) THEN nextval('numbers') END
      FROM patients FOR NO KEY UPDATE OF patients
    """
    kind, body = only(node)
    inner: Sequence[Node] = ()
    if kind == "FuncCall":
        yield node, conditions
        inner = body.get("args", ())
    elif kind == "TypeCast":
        inner = (body["arg"],)
    elif kind == "A_Expr" and body["kind"] == "AEXPR_OP":
        inner = [body[side] for side in ("lexpr", "rexpr") if side in body]
    elif kind in ("CaseExpr", "CoalesceExpr"):
        for branch, more in (_of_case if kind == "CaseExpr" else _of_coalesce)(spans, signatures, body):
            yield from calls_reached(spans, signatures, branch, (*conditions, *more))
    for part in inner:
        yield from calls_reached(spans, signatures, part, conditions)


def _of_coalesce(spans: Spans, signatures: Signatures, body: Node) -> Iterator[tuple[Node, Conditions]]:
    """Yield what COALESCE may come to: each where all before it are NULL."""
    before: Conditions = ()
    try:
        opening = spans.next(spans.at(location(body)), OPEN)
        places = spans.items(spans.tokens[opening].start)
    except StatementRefused:
        return
    for node, span in zip(body["args"], places, strict=True):
        yield node, before
        constant = _constant(node)
        if constant is None:
            # What stands here is no condition, but may be what is stored.
            if not _may_be_asked(signatures, node, _ALL_BUT_TEXTS):
                return
            typed = b"::pg_catalog.text" if "ParamRef" in node else b""
            before = (*before, Condition(b"CASE WHEN (", span, typed + b") IS NULL THEN "))
        elif "isnull" not in constant:
            before = (*before, _NEVER)


def _of_case(spans: Spans, signatures: Signatures, body: Node) -> Iterator[tuple[Node, Conditions]]:
    """Yield the results of a CASE of conditions, each with those that are false before it, and its own."""
    before: Conditions = ()
    if "arg" in body:
        return
    for when in (only(node)[1] for node in body["args"]):
        try:
            span = condition_span(spans, spans.at(location(when)))
        except StatementRefused:
            return
        if not _may_be_asked(signatures, when["expr"], _NUMBERS):
            return
        yield when["result"], (*before, Condition(b"CASE WHEN (", span, b") THEN "))
        before = (*before, Condition(b"CASE WHEN (", span, b") THEN NULL ELSE "))
    if "defresult" in body:
        yield body["defresult"], before


def _constant(node: Node) -> Node | None:
    """Return a constant that is one whatever it is read as; None for anything else."""
    constant: Node | None = node.get("A_Const") or node.get("TypeCast", {}).get("arg", {}).get("A_Const")
    cast_number = "TypeCast" in node and constant is not None and not {"sval", "isnull"} & constant.keys()
    return None if cast_number else constant


def _may_be_asked(signatures: Signatures, node: Node, kept: frozenset[str]) -> bool:
    """Tell whether it makes no difference that a condition is evaluated once more, and that the server reads it.

    Constants of the kinds that are ``kept`` may stand in no place where they are looked for (``parts_seen_together.check_apart``):

    INSERT INTO patients (mrn) VALUES (coalesce(4711::text, 'M' || nextval('numbers')))
    → refused 0A000
    """
    lengths = {id(message["typmods"]) for message in bodies({"": node}, ()) if "typmods" in message}
    for message in bodies({"": node}, lengths):
        if not kept.isdisjoint(message.get("A_Const", ())):
            return False
        called = strings(message["funcname"])[-1] if "funcname" in message else ""
        if "subselect" in message or (called and signatures.own_functions(called)):
            return False
        if called and any(f.volatile == "v" for f in signatures.functions(called)):
            return False
    return True


def condition_span(spans: Spans, when: int) -> tuple[int, int]:
    """Return the span of the condition behind a WHEN, in which other CASEs may stand; StatementRefused."""
    i, depth = when + 1, 0
    while i < len(spans.tokens):
        name = spans.name(i)
        if name == "THEN" and not depth:
            break
        depth += (name == "CASE") - (name == "END_P")
        i = spans.partner(i) + 1 if name in (OPEN, "ASCII_91") else i + 1
    return spans.tokens[when + 1].start, spans.tokens[i - 1].end
