"""The verdict on a statement that was refused: PostgreSQL's own error, or None where it might take it, or that is not seen."""

from __future__ import annotations

from phiproxy.errors import PhiproxyError, StatementRefused
from phiproxy.policy.signatures import UNKNOWN
from phiproxy.sql.analysis import Analysis, Context
from phiproxy.sql.declared import note_declared
from phiproxy.sql.meaning import Meaning
from phiproxy.sql.parse import Node, Statement, char_position, messages, only
from phiproxy.sql.verdict import calls, operators, queries  # noqa: F401 - they fill the tables of rules
from phiproxy.sql.verdict.expressions import QUERIES
from phiproxy.sql.verdict.state import Outputs, Verdict, first
from phiproxy.types.names import sql_name

# What may stand around a query, and the field that holds it.
_AROUND = ("ExplainStmt", "DeclareCursorStmt", "CopyStmt", "CreateTableAsStmt", "PrepareStmt", "ViewStmt")


def rejection(statement: Statement, text: bytes, context: Context) -> StatementRefused | None:
    """Return what PostgreSQL would say of one statement of a text, whose tree is as it was parsed; nothing of it was sent."""
    try:
        _judge(statement, text, context)
    except StatementRefused as said:
        said.confirmed = said.sqlstate != StatementRefused.sqlstate
        return said if said.confirmed else None
    except (PhiproxyError, RecursionError):
        return None  # the refusal stands, whatever this is
    return None


def confirm(meaning: Meaning, statement: Statement, text: bytes, context: Context) -> None:
    """Let a statement that was understood be one that PostgreSQL takes, and its results be of the types that PostgreSQL gives them.

    Its tree is as it was parsed.

    ``SELECT coalesce(age, 2.5)`` is a numeric, which a protected integer is not shown as. Raises what PostgreSQL would say of it;
    StatementRefused where a result is of another type.
    """
    try:
        outputs = _judge(statement, text, context)
    except StatementRefused as said:
        said.confirmed = said.sqlstate != StatementRefused.sqlstate
        if said.confirmed:
            raise
        return
    except (PhiproxyError, RecursionError):
        return
    signatures = context.catalog.signatures
    reveals = meaning.outputs
    if outputs is None or reveals is None or signatures is None or len(outputs) != len(reveals):
        return
    for output, reveal in zip(outputs, reveals, strict=True):
        found = signatures.base(output.type) if reveal is not None else None
        if reveal is not None and found not in (None, UNKNOWN, signatures.base(reveal.type.oid)):
            raise StatementRefused(
                f"{reveal.column.label} would be shown as {signatures.shown(found)}, together with values of that type",
                hint=f"Give them as {sql_name(reveal.column.type)}.",
                position=char_position(text, first(output.node)),
            )


def _judge(statement: Statement, text: bytes, context: Context) -> Outputs:
    """Look at the types of a statement; return its results', None where they are not known."""
    signatures = context.catalog.signatures
    kind, body = _query_of(statement.kind, statement.body)
    if signatures is None or kind not in QUERIES:
        return None
    note_declared(messages(body), context.catalog, context.declared)
    a = Analysis(text, context, Meaning("other", statement.start, statement.end))
    return QUERIES[kind](Verdict(a, signatures), body, None)


def _query_of(kind: str, body: Node) -> tuple[str, Node]:
    while kind in _AROUND:
        inner = body.get("query")
        if inner is None:
            return kind, body
        kind, body = only(inner)
    return kind, body
