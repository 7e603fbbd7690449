"""Where PostgreSQL points when it has no operator or function for some types: there, and not at one of the operands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from phiproxy.errors import StatementRefused, UndefinedOperator
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.meaning import Occurrence
from phiproxy.sql.parse import Node, char_position, location, messages, only, parse


class AmbiguousFunction(StatementRefused):
    """The type of an argument does not say which function is meant (42725)."""

    sqlstate = "42725"


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
    return _around(text, offset, lambda m: str(m.get("kind", "")).startswith("AEXPR") or "subLinkType" in m)


def ambiguous_unnest(text: bytes, offset: int) -> AmbiguousFunction:
    """Return the refusal of ``unnest($1)`` whose parameter has no type; the offset is the parameter's."""
    return AmbiguousFunction(
        "function unnest(unknown) is not unique",
        hint="Could not choose a best candidate function. You might need to add explicit type casts.",
        position=char_position(text, _around(text, offset, lambda m: "funcname" in m)),
    )


def _around(text: bytes, offset: int, is_it: Callable[[Node], bool]) -> int:
    """Return where the innermost node of a kind is that has the parameter at an offset in it; the offset where there is none."""
    found = offset
    for message in (m for statement in parse(text) for m in messages(statement.body)):
        if is_it(message) and any(location(m) == offset and "number" in m for m in messages(message)):
            found = location(message)
    return found
