"""A write that stores computed values, and is split once more: what the server sees of it, and what the engine computes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Rest, Split, SplitWrite
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.writes.assigned_values import Written, written
from phiproxy.sql.split.writes.composed import Composed, client_spans
from phiproxy.sql.split.writes.composed_select import declared_types
from phiproxy.sql.split.writes.parts_seen_together import Part, answered, check_searched, check_stored
from phiproxy.sql.text.parse import parse
from phiproxy.sql.text.token_spans import Spans

_OF_INNER = -10_000
"""Columns of the rest of the write are told from those of the first by it."""
_Refusal = StatementRefused | ValueRefused
Way = Callable[[Analysis, Spans, _Refusal], Split]


def of_write(way: Callable[[Analysis, Spans, Written, _Refusal], Split]) -> Way:
    """Return a way of an INSERT, UPDATE or DELETE that reads it itself."""
    return lambda a, spans, refusal: way(a, spans, written(a, spans), refusal)


def split_again(
    way: Way, refusal: _Refusal, a: Analysis, changed: Composed, write: SplitWrite
) -> tuple[list[Part], list[Rest]]:
    """Return the parts for the server of the write, which is split this ``way``, and its rest; Impossible.

    The values that were computed before are looked for by tags there, tested for NULL, or stored in protected columns.
    """
    of_client = declared_types(a, write.parameters)
    types = tuple(own or declared for own, declared in zip(write.types, of_client, strict=True))
    (statement,) = parse(write.text)
    context = dataclasses.replace(a.context, declared=types, default_spans=(), default_text=None, inside=None)
    inner = Analysis(write.text, context, statement, RULES)
    spans = Spans(inner.tokens())
    again = way(inner, spans, refusal)
    assert again.write is not None

    def keys(numbers: tuple[int, ...]) -> list[int]:
        return [changed.parameters[n - 1] if n > 0 else _OF_INNER + n for n in numbers]

    def computed(numbers: tuple[int, ...]) -> frozenset[int]:
        return frozenset(k for k, n in enumerate(numbers, start=1) if n in write.computed)

    stored = again.write
    source = answered(
        a, again.source, keys(again.source_parameters), [types[n - 1] for n in again.source_parameters], of_source=True
    )
    check_searched(source, computed(again.source_parameters))
    of_rest = tuple(own or (types[n - 1] if n > 0 else 0) for own, n in zip(stored.types, stored.parameters, strict=True))
    stores = answered(a, stored.text, keys(stored.parameters), of_rest)
    check_stored(stores, stored.computed | computed(stored.parameters))
    rest = dataclasses.replace(
        again.rest, parameters=tuple(keys(again.rest.parameters)), spans=client_spans(again.rest.spans, changed.origins)
    )
    return [source, stores], [rest]
