"""The positions of PostgreSQL's errors about missing operators and functions: those of the operator, not of an operand."""

from collections.abc import Callable, Sequence

from phiproxy.errors import StatementRefused, UndefinedOperator
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Occurrence
from phiproxy.sql.text.corrected_refusals import Corrected
from phiproxy.sql.text.parse import Node, char_position, location, messages, only, parse


class AmbiguousFunction(StatementRefused, sqlstate="42725"):
    """The type of an argument does not tell which function is meant (42725)."""


def at_operator(a: Analysis, node: Node, operand: Node | None = None) -> Corrected:
    """Give UndefinedOperator, raised inside, the position of the comparison; in a CASE, that of the operand's WHEN.

    SELECT id FROM patients WHERE ssn = 5
    → refused 42883
    """

    def correct(refusal: StatementRefused) -> None:
        if not isinstance(refusal, UndefinedOperator):
            return
        kind, body = only(node)
        if kind == "CaseExpr":
            whens = [only(when)[1] for when in body["args"]]
            body = next((when for when in whens if when["expr"] is operand), whens[0])
        if body.get("location", -1) > 0:  # USING has none
            refusal.position = a.position(body)

    return Corrected(correct)


def at_parameter(text: bytes, occurrences: Sequence[Occurrence], number: int) -> Corrected:
    """Give a refusal, raised inside, the position of a parameter's first occurrence; UndefinedOperator, that of its operator."""

    def correct(refusal: StatementRefused) -> None:
        offset = next(o.start for o in occurrences if number in o.numbers)
        if isinstance(refusal, UndefinedOperator):
            offset = _around(text, offset, lambda m: str(m.get("kind", "")).startswith("AEXPR") or "subLinkType" in m)
        refusal.position = char_position(text, offset)

    return Corrected(correct)


def ambiguous_unnest(text: bytes, offset: int) -> AmbiguousFunction:
    """Return the refusal of ``unnest($1)`` with a parameter without a type, which occurs at ``offset``.

    INSERT INTO patients (ssn) SELECT unnest($1)
    → refused 42725
    """
    return AmbiguousFunction(
        "function unnest(unknown) is not unique",
        hint="Could not choose a best candidate function. You might need to add explicit type casts.",
        position=char_position(text, _around(text, offset, lambda m: "funcname" in m)),
    )


def _around(text: bytes, offset: int, is_it: Callable[[Node], bool]) -> int:
    """Return the offset of the innermost node of a kind around the parameter at ``offset``, or ``offset`` itself."""
    innermost = offset
    for message in (m for statement in parse(text) for m in messages(statement.body)):
        if is_it(message) and any(location(m) == offset and "number" in m for m in messages(message)):
            innermost = location(message)
    return innermost
