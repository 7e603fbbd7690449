"""PREPARE of a query that is split, of which the server is told the name only, and EXECUTE: the query with values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from phiproxy.effects import Effects
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.result import Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.statements.prepare_and_cursors import inner_statement
from phiproxy.sql.text.parse import Node, Statement, only, tokens
from phiproxy.sql.text.token_spans import CLOSE, OPEN


def prepared_query(statement: Statement, text: bytes, context: Context) -> tuple[int, tuple[int, ...], Effects]:
    """Return where the query of a PREPARE begins, the types that it declares, and what PREPARE does to the session.

    Impossible where it is not known here what these types are.
    """
    start, declared = inner_statement(Analysis(text, context, statement, RULES), statement.body)
    if any(oid and by_oid(oid) is None for oid in declared):
        raise Impossible("a parameter of a type that is not built in")
    return start, declared, Effects(prepares=statement.body["name"])


def placeholder(name: str) -> bytes:
    """Return what the server is told of ``PREPARE q AS …``, so that the name is taken: ``PREPARE "q" AS SELECT``."""
    return f"PREPARE {quote_ident(name, always=True)} AS SELECT".encode()


def explained(statement: Statement, text: bytes) -> tuple[bytes, Statement]:
    """Return an EXECUTE, and what stands before it where it is explained: ``EXPLAIN (COSTS OFF) EXECUTE q (1)``."""
    if statement.kind != "ExplainStmt":
        return b"", statement
    kind, body = only(statement.body["query"])
    own = [t for t in tokens(text) if statement.start <= t.start < statement.end]
    start = next(token.start for token in own if token.name == "EXECUTE")
    lead = text[statement.start : start]
    return lead, Statement(kind, body, start, statement.end, (start, statement.end))


def is_execute(statement: Statement) -> bool:
    """Tell whether it is an EXECUTE, or EXPLAIN of one."""
    body = statement.body.get("query", {}) if statement.kind == "ExplainStmt" else {}
    return statement.kind == "ExecuteStmt" or "ExecuteStmt" in body


def executed_query(statement: Statement, text: bytes, query: bytes, types: Sequence[int]) -> bytes:
    """Return a prepared query with the values of an EXECUTE; Impossible where these are no constants.

    For ``ssn LIKE $1`` and ``EXECUTE q ('9%')`` it has ``ssn LIKE CAST('9%' AS text)``.
    """
    values = statement.body.get("params", [])
    if len(values) != len(types) or not all(map(_is_constant, values)):
        raise Impossible("the values of an EXECUTE are no constants")
    spelled = dict(enumerate(_spelled(statement, text), start=1)) if values else {}
    named = {n: by_oid(oid) for n, oid in enumerate(types, start=1)}
    written, at = [], 0
    for token in tokens(query):
        if token.name == "PARAM":
            declared = named.get(int(query[token.start + 1 : token.end]))
            if declared is None:
                raise Impossible("a parameter of a type that has no built-in name")
            value = spelled[int(query[token.start + 1 : token.end])]
            written += [query[at : token.start], b"CAST(", value, b" AS ", declared.name.encode(), b")"]
            at = token.end
    return b"".join((*written, query[at:]))


def unplaced(split: Split) -> Split:
    """Return a split without places in the client's text, which is another one."""
    return replace(split, rest=replace(split.rest, spans=()), described=replace(split.described, spans=()))


def _is_constant(node: Node) -> bool:
    kind, body = only(node)
    if kind == "TypeCast":
        return _is_constant(body["arg"])
    if kind == "A_Expr" and "lexpr" not in body and body.get("name") == [{"String": {"sval": "-"}}]:
        return _is_constant(body["rexpr"])
    return kind == "A_Const"


def _spelled(statement: Statement, text: bytes) -> list[bytes]:
    """Return the values of an EXECUTE as they are written."""
    own = [t for t in tokens(text) if statement.start <= t.start < statement.end]
    first = next(i for i, token in enumerate(own) if token.name == OPEN)
    spelled, depth, start = [], 0, own[first].end
    for token in own[first + 1 :]:
        if depth == 0 and token.name in ("ASCII_44", CLOSE):
            spelled.append(text[start : token.start].strip())
            start = token.end
            if token.name == CLOSE:
                break
        depth += (token.name in (OPEN, "ASCII_91")) - (token.name in (CLOSE, "ASCII_93"))
    return spelled
