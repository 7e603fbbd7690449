"""The verdict on a statement that was refused: PostgreSQL's own error, or None where it might take it, or that is not seen."""

from __future__ import annotations

from phiproxy.errors import PhiproxyError, StatementRefused
from phiproxy.sql.analysis import Analysis, Context
from phiproxy.sql.meaning import Meaning
from phiproxy.sql.parse import Node, Statement, only, parse
from phiproxy.sql.verdict import calls, operators, queries  # noqa: F401 - they fill the tables of rules
from phiproxy.sql.verdict.expressions import QUERIES
from phiproxy.sql.verdict.state import Verdict

# What may stand around a query, and the field that holds it.
_AROUND = ("ExplainStmt", "DeclareCursorStmt", "CopyStmt", "CreateTableAsStmt", "PrepareStmt", "ViewStmt")


def rejection(statement: Statement, text: bytes, context: Context) -> StatementRefused | None:
    """Return what PostgreSQL would say of one statement of a text; nothing of it was changed or sent."""
    signatures = context.catalog.signatures
    found = next((s for s in parse(text) if s.start == statement.start), None)
    if signatures is None or found is None:
        return None
    kind, body = _query_of(found.kind, found.body)
    if kind not in QUERIES:
        return None
    verdict = Verdict(Analysis(text, context, Meaning("other", found.start, found.end)), signatures)
    try:
        QUERIES[kind](verdict, body, None)
    except StatementRefused as said:
        return said if said.sqlstate != StatementRefused.sqlstate else None
    except (PhiproxyError, RecursionError):
        return None  # the refusal stands, whatever this is
    return None


def _query_of(kind: str, body: Node) -> tuple[str, Node]:
    while kind in _AROUND:
        inner = body.get("query")
        if inner is None:
            return kind, body
        kind, body = only(inner)
    return kind, body
