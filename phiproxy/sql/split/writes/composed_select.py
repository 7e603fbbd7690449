"""A composed SELECT as a statement of its own: its split, the types of its columns, and its rest in terms of the client's text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.signatures import Type
from phiproxy.sql.context import Analysis, Context
from phiproxy.sql.expressions.user_types import find_types, note_declared
from phiproxy.sql.pg_errors.names_and_signatures import Output, Verdict
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.result import Rest, Split, Waiting
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.source_and_rest import Described, described, split
from phiproxy.sql.split.statement import NO_CALLS, Calls, Whole
from phiproxy.sql.split.tables_and_columns import tables
from phiproxy.sql.split.writes.composed import Composed, client_spans
from phiproxy.sql.text.parse import Statement, messages, parse, tokens
from phiproxy.sql.text.token_spans import Spans


def split_of(
    a: Analysis,
    composed: Composed,
    refusal: StatementRefused | ValueRefused,
    waiting: Waiting | None,
    *,
    calls: Calls = NO_CALLS,
    apart: bool = False,
) -> Split:
    """Return how a SELECT is split, with parameters and positions of its own; Impossible. ``waiting`` are the client's.

    ``calls``, ``apart``: of ``Whole``.
    """
    statement, context = _parsed(a, composed)
    waits = composed.waiting(waiting)
    given = split(statement, composed.text, context, refusal, waits, always=True, calls=calls, apart=apart)
    if given is None:
        raise Impossible("the values cannot be computed")
    return given


def described_of(a: Analysis, composed: Composed) -> Described:
    """Return what is described of a SELECT, with parameters and positions of the client's; Impossible."""
    statement, context = _parsed(a, composed)
    told = described(statement, composed.text, context)
    return told._replace(rest=of_client(told.rest, composed))


def types_of(a: Analysis, composed: Composed) -> list[Type]:
    """Return the types of its columns; Impossible. A parameter without a type is one as a NULL is: ``text || $1`` is text."""
    return [output.type for output in outputs_of(a, composed)]


def settled_types(a: Analysis, composed: Composed, given: Sequence[Type]) -> list[Type]:
    """Return types of ``types_of``; None where one may turn out to be another.

    A parameter that Parse declares no type of has that of the first place where it stands. So where it stands in several,
    ``bed % $1`` may be a numeric, though ``bed % NULL`` is none:

    UPDATE stays SET bed = bed % $1 WHERE bed::numeric > $1
    → rest: SELECT … pg_catalog.array_agg(CAST(q.q3 AS int4)) FROM …
    """
    places = Counter(int(a.text[t.start + 1 : t.end]) for t in a.tokens() if t.name == "PARAM")
    said = zip(composed.parameters, declared_types(a, composed.parameters), strict=True)
    numbers = {k for k, (n, declared) in enumerate(said, start=1) if not declared and places[n] > 1}
    if not numbers:
        return list(given)
    (statement,) = parse(composed.text)
    body = statement.body
    within = [_has(node, numbers) for node in body.get("targetList", ())[: len(given)]]
    if len(within) < len(given) or any(_has(body[key], numbers) for key in ("fromClause", "withClause") if key in body):
        return [None] * len(given)
    return [None if has else one for has, one in zip(within, given, strict=True)]


def _has(tree: Any, numbers: Collection[int]) -> bool:
    return any(m["ParamRef"].get("number", 0) in numbers for m in messages(tree) if "ParamRef" in m)


def outputs_of(a: Analysis, composed: Composed) -> list[Output]:
    """Return what is known of its columns; Impossible."""
    return _outputs(_inner(a, composed))[1]


def read_of(a: Analysis, composed: Composed) -> tuple[Whole, list[Output]]:
    """Return the same, with what is known of its tables; Impossible."""
    inner = _inner(a, composed)
    verdict, outputs = _outputs(inner)
    body = inner.statement.body
    return Whole(inner, body, tables(inner, body), verdict, Spans(inner.tokens())), outputs


def _outputs(inner: Analysis) -> tuple[Verdict, list[Output]]:
    verdict, outputs = types(inner, inner.statement.body)
    if outputs is None:
        raise Impossible("the types of the values are not known")
    return verdict, outputs


def _inner(a: Analysis, composed: Composed) -> Analysis:
    text, declared = composed.text, declared_types(a, composed.parameters)
    untyped = [t for t in tokens(text) if t.name == "PARAM" and not declared[int(text[t.start + 1 : t.end]) - 1]]
    for token in reversed(untyped):
        text = text[: token.start] + b"NULL" + text[token.end :]
    (statement,) = parse(text)
    context = dataclasses.replace(a.context, declared=declared)
    return noted(Analysis(text, context, statement, RULES))


def of_client(rest: Rest, composed: Composed) -> Rest:
    """Return a rest of such a SELECT with parameters and positions of the client's."""
    parameters = tuple(composed.parameters[n - 1] for n in rest.parameters)
    return Rest(rest.parts, parameters, client_spans(rest.spans, composed.origins))


def declared_types(a: Analysis, numbers: list[int] | tuple[int, ...]) -> tuple[int, ...]:
    """Return what the client has declared of these parameters; 0 for what is none of its own."""
    declared = a.context.declared
    return tuple(declared[n - 1] if 0 < n <= len(declared) else 0 for n in numbers)


def _parsed(a: Analysis, composed: Composed) -> tuple[Statement, Context]:
    statements = parse(composed.text)
    if len(statements) != 1:
        raise Impossible("a part of the statement is none by itself")
    context = dataclasses.replace(a.context, declared=declared_types(a, composed.parameters), default_spans=())
    noted(Analysis(composed.text, context, statements[0], RULES))
    return statements[0], context


def noted(a: Analysis) -> Analysis:
    """Note the declared types of parameters in a tree, and the types of the database's own."""
    note_declared(a.whole(), a.context.catalog, a.context.declared)
    find_types(a, a.whole())
    return a
