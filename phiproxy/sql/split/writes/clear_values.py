"""Values for unprotected columns that the rest gives: surely over nothing that is protected, or the statement is not split.

They are not sealed, so nothing else would keep a protected value from being stored in clear. Which rows are written is not looked
at: that is what the server sees of every write.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from phiproxy.sql.context import Analysis
from phiproxy.sql.pg_errors.verdict import types
from phiproxy.sql.rules import RULES
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.tables_and_columns import tables
from phiproxy.sql.split.writes.composed import Composed
from phiproxy.sql.split.writes.parts_seen_together import Value, given_at, names_sequences
from phiproxy.sql.split.writes.traces import Key, Traced, Traces, parts
from phiproxy.sql.split.writes.unnested import member_of
from phiproxy.sql.text.parse import Node, parse

Place = tuple[int, str]
"""Where a given value stands in the client's text, and which member of it is meant: "" for the value as a whole."""


def clear_outputs(a: Analysis, select: Composed, positions: Sequence[int]) -> set[Value]:
    """Return the given values that meet nothing protected; Impossible where one of these outputs does, or may.

    ``positions`` are the outputs of ``select`` for unprotected columns, from 0; all others are sealed, or tell rows. Given values,
    also those in derived tables (``FROM (VALUES ($1, $2)) AS s (id, city)``), are such where they stand in outputs that are only
    used where nothing is protected. They stand nowhere else.
    """
    traces = _traces(a, select)
    read = [traces.output(traces.body, position) for position in positions]
    others = [traces.output(traces.body, n) for n in range(traces.count(traces.body)) if n not in positions]
    return _checked(a, select, traces, read, others)


def clear_values(
    a: Analysis, select: Composed, clear: Sequence[Node], conditions: Sequence[Node], sealed: Sequence[Node]
) -> set[Value]:
    """Return the same where the outputs of ``select`` are composed of these expressions of the statement's.

    ``clear`` are the values for unprotected columns, ``sealed`` those for protected ones. All see what the FROM of ``select``
    shows.
    """
    traces = _traces(a, select)
    read = [traces.expression(node, traces.body) for node in clear]
    beside = [traces.expression(part, traces.body) for node in conditions for part in parts(node)]
    others = [traces.expression(node, traces.body) for node in sealed]
    own = {(at, ""): value for node in clear for at, value in given_at(node, names=names_sequences(a))}
    return _checked(a, select, traces, [*read, *beside], others, own, len(read))


def _traces(a: Analysis, select: Composed) -> Traces:
    (statement,) = parse(select.text)
    inner = Analysis(select.text, dataclasses.replace(a.context, declared=()), statement, RULES)
    query = statement.body
    protected = frozenset((t.relation.oid, c.number) for t in tables(inner, query) for c in t.columns if c.protected)
    verdict, _ = types(inner, query)
    return Traces(verdict, query, protected)


def _checked(
    a: Analysis,
    select: Composed,
    traces: Traces,
    read: Sequence[Traced],
    sealed: Iterable[Traced],
    own: dict[Place, Value] | None = None,
    count: int | None = None,
) -> set[Value]:
    """Go on where the first ``count`` that are read are not secret, and no given value in them meets something that is."""
    stored = read if count is None else read[:count]
    if any(one.secret for one in stored):
        raise Impossible("a value for an unprotected column that is, or may be, protected")
    if stored and any(traces.groups(body).secret for body in traces.queries):
        raise Impossible("how many rows there are may depend on what is protected")
    nested = [one for body in traces.queries if body is not traces.body for one in traces.each_output(body)]
    beside = [*read, *nested, *traces.conditions(), *(Traced(one.given, secret=True) for one in sealed)]
    met = _meeting(beside, traces.given)
    if any(not one.given.isdisjoint(met) for one in stored):
        raise Impossible("a given value for an unprotected column that meets something protected")
    at = _places(a, select, traces, traces.given.keys() - met) | (own or {})
    for place in _places(a, select, traces, met):
        at.pop(place, None)
    everywhere = _everywhere(a, _places(a, select, traces, traces.given))
    elsewhere = {part for place, part in everywhere if place not in at}
    once = {part for place, part in everywhere if place in at} - elsewhere
    needed = _places(a, select, traces, {key for one in stored for key in one.given}) | (own or {})
    if not once.issuperset((value, member) for (_, member), value in needed.items()):
        raise Impossible("a given value for an unprotected column that stands elsewhere too")
    return {value for value, member in once if not member}  # of documents as a whole it is not known


def _everywhere(a: Analysis, places: Mapping[Place, Value]) -> list[tuple[Place, tuple[Value, str]]]:
    """Return where given values stand in the client's text, with the member: of a document that stands once, each by itself."""
    given = given_at(a.statement.body, names=names_sequences(a))
    times = Counter(value for _, value in given)
    members = {offset: {m for at, m in places if at == offset and m} if times[value] == 1 else set() for offset, value in given}
    return [((offset, member), (value, member)) for offset, value in given for member in members[offset] or {""}]


def _places(a: Analysis, select: Composed, traces: Traces, keys: Iterable[Key]) -> dict[Place, Value]:
    """Return where the given values of these outputs stand in the client's text."""
    nodes = (node for key in keys for node in traces.given[key])
    given = ((member_of(node), given_at(node, select.parameters, names=names_sequences(a))) for node in nodes)
    return {(select.origin(at), member): value for member, found in given for at, value in found}


def _meeting(expressions: Sequence[Traced], every: Collection[Key]) -> set[Key]:
    """Return those of ``every`` output of given values that meet something protected, or one that does."""
    if any(one.unknown for one in expressions):
        return set(every)
    met: set[Key] = set()
    while True:
        more = {key for one in expressions if one.secret or not one.given.isdisjoint(met) for key in one.given}
        if more <= met:
            return met
        met |= more
