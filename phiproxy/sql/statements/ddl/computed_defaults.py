"""Computed DEFAULTs: the text of the expression is sealed, and stands in the catalogue where the server cannot evaluate it.

Whether an engine computes it as PostgreSQL would is looked at when the statement is planned (``sql.split.default_expressions``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phiproxy.errors import StatementRefused
from phiproxy.policy.physical_columns import COMPUTED_DEFAULT
from phiproxy.policy.protection import ProtectedColumn
from phiproxy.sql.context import Analysis
from phiproxy.sql.statements.ddl.physical_form import Definition, Span
from phiproxy.sql.text.parse import Node, Token, messages, only, strings

_GIVE = "Let the application give the value."
_STORED = r"\xf55001"
_OF_TEXTS = frozenset({"||", "~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*"})
_TEXTS = frozenset({"text", "varchar", "bpchar"})
# What may be read as a date, a time or an interval whose reading depends on settings, and what of that does not.
_MOMENT = re.compile(
    r"\s*[-+@]?\s*\d.*[-/.:\s]|(?=.*\d).*\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat)",
    re.IGNORECASE | re.DOTALL,
)
_ALIKE = re.compile(
    r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d(\.\d+)?)?([-+]\d\d(:?\d\d)?|Z)|)|[-+]?\d{1,4}|\d+(\.\d+)?"
    r"|(\d+ ?[a-z]+ ?)+|[-+]?\d+ ?[a-z]+|\d+(\.\d+){3}(/\d+)?|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Computed:
    """A DEFAULT that is computed: where its expression stands, and its text without comments."""

    span: Span
    text: bytes
    constants: tuple[bytes, ...]


def computed_default(definition: Definition, column: ProtectedColumn, node: Node, span: Span) -> Computed:
    """Return the expression of a DEFAULT, which stands in ``span``; StatementRefused for one that cannot be sealed.

    ALTER TABLE patients ALTER ssn SET DEFAULT 'M' || to_char(now(), 'YYYY')
    → ALTER TABLE public.patients ALTER COLUMN ssn SET DEFAULT
      pg_catalog.decode(pg_catalog.encode(…, 'base64'), 'hex')
    """
    a = definition.a
    _check_nodes(a, column, node)
    _check_constants(a, node)
    constants = (str(m["sval"].get("sval", "")) for m in messages(node) if isinstance(m.get("sval"), dict))
    return Computed(span, _without_comments(definition, span), tuple(text.encode() for text in constants if text))


def seal_computed(definition: Definition, column: ProtectedColumn, computed: Computed) -> None:
    """Replace the expression by what stands in the catalogue."""
    definition.define(computed.span, computed.text, column, COMPUTED_DEFAULT, default=True)
    definition.sealed += computed.constants


def expression_span(tokens: Sequence[Token], start: int, end: int) -> Span:
    """Return the span of the expression behind the word DEFAULT that stands first at or behind ``start``."""
    at = next((i for i, token in enumerate(tokens) if token.name == "DEFAULT" and token.start >= start), None)
    behind = [token for token in tokens[at + 1 :] if token.end <= end] if at is not None else []
    if not behind:
        raise StatementRefused("the default could not be located in the statement", hint="Write it in parentheses.")
    return behind[0].start, behind[-1].end


def _check_nodes(a: Analysis, column: ProtectedColumn, node: Node) -> None:
    for message in messages(node):
        if "ColumnRef" in message:
            raise a.refuse("cannot use column reference in DEFAULT expression", message["ColumnRef"], hint=_GIVE)
        if "SubLink" in message:
            raise a.refuse("cannot use subquery in DEFAULT expression", message["SubLink"], hint=_GIVE)
    if column.document is not None:
        raise a.refuse(
            f"a default for {column.label}, a document with sealed fields, is not in this version", _located(node), hint=_GIVE
        )
    if column.tenant:
        raise a.refuse(f"a default for {column.label} would be sealed for one tenant only", _located(node), hint=_GIVE)


def _located(node: Node) -> Node:
    body: Node = only(node)[1]
    return body if "location" in body else {}


def _check_constants(a: Analysis, node: Node) -> None:
    """Refuse constants that PostgreSQL reads once, when the default is made, and that may be read otherwise when it is computed."""
    texts = {id(constant) for constant in _known_texts(node)}
    for message in messages(node):
        said = message.get("A_Const", {}).get("sval")
        if not isinstance(said, dict):
            continue
        value = said.get("sval", "")
        if value.startswith(_STORED):
            raise a.refuse(
                "the default is the spelling of a stored one",
                message["A_Const"],
                hint="Load a dump past the proxy the way it was made.",
            )
        if id(message["A_Const"]) not in texts and _MOMENT.match(value) and not _ALIKE.fullmatch(value):
            raise a.refuse(
                "a constant of this default may be a date or time that is read as the session's settings say",
                message["A_Const"],
                hint="Write a date as 'YYYY-MM-DD', a moment with its offset and an interval in words; say of a text: '…'::text.",
            )


def _known_texts(node: Node) -> Iterator[Node]:
    """Yield the constants of which it is sure that they are texts, and nothing else."""
    for message in messages(node):
        cast, operation = message.get("TypeCast"), message.get("A_Expr")
        if cast is not None and "A_Const" in cast["arg"] and strings(cast["typeName"].get("names"))[-1] in _TEXTS:
            yield cast["arg"]["A_Const"]
        if operation is not None and strings(operation.get("name"))[-1:] != [] and strings(operation["name"])[-1] in _OF_TEXTS:
            sides = (operation[side] for side in ("lexpr", "rexpr") if side in operation)
            yield from (side["A_Const"] for side in sides if "A_Const" in side)
        call = message.get("FuncCall")
        if call is not None and strings(call["funcname"])[-1] == "to_char" and len(call.get("args", ())) == 2:
            yield from (argument["A_Const"] for argument in call["args"][1:] if "A_Const" in argument)


def _without_comments(definition: Definition, span: Span) -> bytes:
    text = definition.a.text
    pieces, at = list[bytes](), span[0]
    for token in definition.tokens:
        if span[0] <= token.start and token.end <= span[1]:
            between = text[at : token.start]
            pieces += [between if not between.strip() else b"\n" if b"\n" in between else b" ", text[token.start : token.end]]
            at = token.end
    return b"".join(pieces)
