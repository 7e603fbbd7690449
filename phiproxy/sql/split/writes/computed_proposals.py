"""ON CONFLICT DO UPDATE to what is computed of the row, with proposed values that are computed: these are computed before.

So which rows are in conflict is asked by tags of computed values, and nothing is computed twice where it is executed again.
"""

from __future__ import annotations

import dataclasses
from functools import partial

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Rest, Split, SplitWrite
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.writes.checks import Part, answered, check_searched, check_stored
from phiproxy.sql.split.writes.composed import Composed, client_spans
from phiproxy.sql.split.writes.composed_select import declared_types
from phiproxy.sql.split.writes.computed_values import computed_values
from phiproxy.sql.split.writes.conflict_target import computed_of_row
from phiproxy.sql.split.writes.conflicts import computed_conflicts
from phiproxy.sql.split.writes.written import Written, written
from phiproxy.sql.text.parse import parse
from phiproxy.sql.text.token_spans import Spans

_OF_UPSERT = -10_000
"""Columns of the rest of the write are told from those of the first by it."""


def computed_proposals(a: Analysis, spans: Spans, write: Written, refusal: StatementRefused | ValueRefused) -> Split:
    """Split an INSERT … VALUES of computed values whose ON CONFLICT DO UPDATE computes of the row; Impossible for any other.

    INSERT INTO members AS m (mrn, note) VALUES (lower($1), $2) ON CONFLICT (mrn) DO UPDATE SET email = m.email || 'x'
    → rest: SELECT CAST(q.q1 AS varchar) FROM (SELECT lower($1)) AS q (q1)
    → write: INSERT INTO members AS m (mrn, note) VALUES ($1, $2) ON CONFLICT (mrn) DO UPDATE SET email = m.email || 'x'
    """
    computed_of_row(write)
    return computed_values(a, spans, write, refusal, partial(_split_again, refusal))


def _split_again(
    refusal: StatementRefused | ValueRefused, a: Analysis, changed: Composed, write: SplitWrite
) -> tuple[list[Part], list[Rest]]:
    """Return what the server sees of the write, which is split as well, and what the engine computes of it; Impossible."""
    of_client = declared_types(a, write.parameters)
    types = tuple(own or declared for own, declared in zip(write.types, of_client, strict=True))
    (statement,) = parse(write.text)
    context = dataclasses.replace(a.context, declared=types, default_spans=(), default_text=None, inside=None)
    inner = Analysis(write.text, context, statement, RULES)
    spans = Spans(inner.tokens())
    upsert = computed_conflicts(inner, spans, written(inner, spans), refusal)
    assert upsert.write is not None

    def keys(numbers: tuple[int, ...]) -> list[int]:
        return [changed.parameters[n - 1] if n > 0 else _OF_UPSERT + n for n in numbers]

    def computed(numbers: tuple[int, ...]) -> frozenset[int]:
        return frozenset(k for k, n in enumerate(numbers, start=1) if n in write.computed)

    stored = upsert.write
    source = answered(a, upsert.source, keys(upsert.source_parameters), [types[n - 1] for n in upsert.source_parameters])
    check_searched(source, computed(upsert.source_parameters))
    of_rest = tuple(own or (types[n - 1] if n > 0 else 0) for own, n in zip(stored.types, stored.parameters, strict=True))
    stores = answered(a, stored.text, keys(stored.parameters), of_rest)
    check_stored(stores, stored.computed | computed(stored.parameters))
    rest = dataclasses.replace(
        upsert.rest, parameters=tuple(keys(upsert.rest.parameters)), spans=client_spans(upsert.rest.spans, changed.origins)
    )
    return [source, stores], [rest]
