"""Whether the engine can compute the expression of a DEFAULT as PostgreSQL would: asked once, when the default is made."""

from __future__ import annotations

import dataclasses

from phiproxy.errors import DatatypeMismatch, StatementRefused
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.pg_errors.verdict import rejection
from phiproxy.sql.result import Answered, Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.same_answers import VOLATILE
from phiproxy.sql.split.source_and_rest import split
from phiproxy.sql.split.statement import Calls
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.composed_select import types_of
from phiproxy.sql.split.writes.targets import check_assigned
from phiproxy.sql.text.parse import parse, tokens
from phiproxy.sql.text.token_spans import Spans
from phiproxy.sql.values.uses import Define
from phiproxy.types.names import sql_name

_HINT = (
    "Built-in functions and operators over constants, and the server's clock, user and database, can be computed. Let the"
    " application give any other value."
)
_CONSTANTS = frozenset({"SCONST", "ICONST", "FCONST", "USCONST", "BCONST", "XCONST"})


def check_defaults(answer: Answered, text: bytes, context: Context) -> Split | None:
    """Go on where the engine can compute all DEFAULTs that a DDL statement makes; StatementRefused, CatalogNeeded, PathNeeded.

    Returns how one of them is split; None where it makes none.
    """
    made = None
    for occurrence in answer.occurrences:
        use = occurrence.use
        if isinstance(use, Define) and use.default and occurrence.literal is not None:
            at = Analysis(text, context, parse(b"SELECT 1")[0], RULES).at(occurrence.start)
            made = _checked(occurrence.literal, use.column, context, at)
    return made


def _checked(expression: bytes, column: ProtectedColumn, context: Context, position: int) -> Split:
    """Return how the value of an expression is asked for: of ``current_date - 30`` the source is ``SELECT current_date``."""
    text = b"SELECT (" + expression + b")"
    context = dataclasses.replace(context, declared=())
    why = f"the server would compute a default for {column.label}, which is protected"
    refusal = StatementRefused(why, hint="Give a literal, or let the application give the value.", position=position)
    unlike = StatementRefused(
        f"the default of {column.label} may be another one where it is computed beside the proxy", hint=_HINT, position=position
    )
    (statement,) = parse(text)
    a = Analysis(text, context, statement, RULES)
    said = rejection(statement, text, context)
    if said is not None:
        said.position = position
        raise said
    parts = split(statement, text, context, refusal, always=True, calls=Calls(once=VOLATILE))
    if parts is None:
        raise unlike
    if any(token.name in _CONSTANTS for token in tokens(parts.source)):
        raise StatementRefused(
            f"the server would see a constant of the default of {column.label}",
            hint="What only the server knows is asked of it without a constant: current_user, current_date, now(). " + _HINT,
            position=position,
        )
    spans = Spans(tokens(text))
    try:
        (given,) = types_of(a, Composed(text, spans).add((0, len(text))))
        wanted = column.type.underlying.unlimited
        try:
            check_assigned(context.catalog, wanted, given)
        except Impossible:
            row = context.catalog.signatures.row(given) if context.catalog.signatures is not None else None
            if row is None:
                raise
            text_of = f'column "{column.name}" is of type {sql_name(column.type)} but default expression is of type {row.name}'
            raise DatatypeMismatch(text_of, hint="You will need to rewrite or cast the expression.", position=position) from None
    except Impossible:
        raise unlike from None
    return parts
