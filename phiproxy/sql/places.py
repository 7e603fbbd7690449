"""Where PostgreSQL points when it has no operator for two types: at the operator, not at one of the operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from phiproxy.errors import StatementRefused, UndefinedOperator
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.meaning import Occurrence
from phiproxy.sql.parse import Node, char_position, location, messages, only, parse


@contextmanager
def at_operator(a: Analysis, node: Node, operand: Node | None = None) -> Iterator[None]:
    """Let a refusal from inside, that there is no such operator, point at that of a comparison; of a CASE at an operand's WHEN."""
    try:
        yield
    except UndefinedOperator as refusal:
        kind, body = only(node)
        if kind == "CaseExpr":
            whens = [only(when)[1] for when in body["args"]]
            body = next((when for when in whens if when["expr"] is operand), whens[0])
        if body.get("location", -1) > 0:  # USING has none
            refusal.position = a.position(body)
        raise


@contextmanager
def at_parameter(text: bytes, occurrences: Sequence[Occurrence], number: int) -> Iterator[None]:
    """Give a refusal the position of a parameter's first occurrence, or of its operator where it is that which does not exist."""
    try:
        yield
    except StatementRefused as refusal:
        start = next(o.start for o in occurrences if number in o.numbers)
        place = _operator_around(text, start) if isinstance(refusal, UndefinedOperator) else start
        refusal.position = char_position(text, place)
        raise


def _operator_around(text: bytes, offset: int) -> int:
    """Return where the innermost operator is that has the parameter at an offset as an operand; the offset where there is none."""
    found = offset
    for message in (m for statement in parse(text) for m in messages(statement.body)):
        compares = str(message.get("kind", "")).startswith("AEXPR") or "subLinkType" in message
        if compares and any(location(m) == offset and "number" in m for m in messages(message)):
            found = location(message)
    return found
