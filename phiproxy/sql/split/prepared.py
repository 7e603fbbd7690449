"""PREPARE of a query that is split, of which the server is told the name only, and EXECUTE: the query with values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from phiproxy.effects import Effects
from phiproxy.policy.column_types import by_oid
from phiproxy.policy.identifiers import quote_ident
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.pg_errors.verdict import check_executed
from phiproxy.sql.result import Span, Split
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.statements.prepare_and_cursors import inner_statement
from phiproxy.sql.text.parse import Node, Statement, messages, only, parse, tokens
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


class Executed(NamedTuple):
    """A prepared query with the values of an EXECUTE; ``values`` are these, where they stand in it and in the EXECUTE."""

    text: bytes
    values: tuple[Span, ...]


def executed_query(a: Analysis, lead: bytes, query: bytes, types: Sequence[int]) -> Executed:
    """Return a prepared query, behind ``lead``, with the values of an EXECUTE; Impossible where these are no constants.

    For ``ssn LIKE $1`` and ``EXECUTE q ('9%')`` it has ``ssn LIKE CAST('9%' AS text)``. DatatypeMismatch, as PostgreSQL's.
    """
    statement, text = a.statement, a.text
    values = statement.body.get("params", [])
    if len(values) != len(types) or not all(map(_is_constant, values)):
        raise Impossible("the values of an EXECUTE are no constants")
    spelled = _spelled(statement, text) if values else []
    check_executed(a, values, types, [start for start, _ in spelled])
    named = {n: by_oid(oid) for n, oid in enumerate(types, start=1)}
    unnamed = _unnamed(query) if values else frozenset()
    written, at, spans, before = lead, 0, [], ""
    for token in tokens(query):
        if token.name == "PARAM":
            declared = named.get(int(query[token.start + 1 : token.end]))
            if declared is None:
                raise Impossible("a parameter of a type that has no built-in name")
            start, end = spelled[int(query[token.start + 1 : token.end]) - 1]
            written += query[at : token.start] + b"CAST("
            spans.append((len(written), len(written) + end - start, start))
            written += text[start:end] + b" AS " + declared.name.encode() + b")"
            if token.start in unnamed:
                if before == OPEN:
                    raise Impossible("a parameter in parentheses, as a column without a name")
                written += b' AS "?column?"'
            at = token.end
        before = token.name
    return Executed(written + query[at:], tuple(spans))


def _unnamed(query: bytes) -> frozenset[int]:
    """Return where parameters begin that are columns without a name, which a cast would have; Impossible for parts of them.

    Of ``SELECT $1, coalesce($2, 'x') FROM patients`` it is 7, where ``$1`` begins.
    """
    found = set[int]()
    for message in messages(parse(query)[0].body):
        for target in (*message.get("targetList", ()), *message.get("returningList", ())):
            body = only(target)[1]
            parameter = _named_by(body["val"]) if "val" in body and "name" not in body else None
            if parameter is not None and "ParamRef" not in body["val"]:
                raise Impossible("a part of a parameter is a column without a name")
            if parameter is not None:
                found.add(parameter.get("location", 0))
    return frozenset(found)


def _named_by(node: Node) -> Node | None:
    """Return the parameter from which a column of a result has its name, which is none."""
    kind, body = only(node)
    if kind == "CollateClause" or (kind == "A_Indirection" and not any("String" in one for one in body["indirection"])):
        return _named_by(body["arg"])
    return body if kind == "ParamRef" else None


def placed_in_execute(split: Split, values: Sequence[Span]) -> Split:
    """Return the split of an executed query with places in the EXECUTE, of which only its values stand in both."""
    rest, described = (replace(r, spans=_through(r.spans, values)) for r in (split.rest, split.described))
    write = replace(split.write, spans=_through(split.write.spans, values)) if split.write is not None else None
    return replace(split, rest=rest, described=described, source_spans=_through(split.source_spans, values), write=write)


def _through(spans: Sequence[Span], values: Sequence[Span]) -> tuple[Span, ...]:
    """Return where the values stand of which spans are known in a query that has them."""
    found = []
    for start, end, at in spans:
        for first, last, given in values:
            begin, until = max(at, first), min(at + end - start, last)
            if begin < until:
                found.append((start + begin - at, start + until - at, given + begin - first))
    return tuple(found)


def _is_constant(node: Node) -> bool:
    kind, body = only(node)
    if kind == "TypeCast":
        return _is_constant(body["arg"])
    if kind == "A_Expr" and "lexpr" not in body and body.get("name") == [{"String": {"sval": "-"}}]:
        return _is_constant(body["rexpr"])
    return kind == "A_Const"


def _spelled(statement: Statement, text: bytes) -> list[tuple[int, int]]:
    """Return where the values of an EXECUTE begin and end."""
    own = [t for t in tokens(text) if statement.start <= t.start < statement.end]
    first = next(i for i, token in enumerate(own) if token.name == OPEN)
    spelled, depth, start, before = [], 0, own[first + 1].start, own[first]
    for token, behind in pairwise(own[first + 1 :] + own[-1:]):
        if depth == 0 and token.name in ("ASCII_44", CLOSE):
            spelled.append((start, before.end))
            start = behind.start
            if token.name == CLOSE:
                break
        depth += (token.name in (OPEN, "ASCII_91")) - (token.name in (CLOSE, "ASCII_93"))
        before = token
    return spelled
