"""The write of a split statement as it is run: its parameters, of the client's and of what the engine has computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct

from phiproxy.errors import StatementRefused, WireError
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.sql.result import BoundPair, SplitWrite
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.uses import Nullness, Search, Store

_COUNT, _LENGTH = Struct("!H").unpack_from, Struct("!i").unpack_from
_BINARY = 1


@dataclass(frozen=True, slots=True)
class Parameters:
    """What Parse and Bind of the write say of its parameters."""

    oids: tuple[int, ...]
    formats: tuple[int, ...]
    values: list[bytes | None]


def parameters_of(
    write: SplitWrite, row: Sequence[bytes | None], oids: Sequence[int], values: Sequence[bytes | None], formats: Sequence[int]
) -> Parameters:
    """Return the parameters of a write: ``row`` is that of the rest, in binary form, and the others are the client's."""
    given = [(0, _BINARY, row[-n - 1]) if n < 0 else (_at(oids, n), formats[n - 1], values[n - 1]) for n in write.parameters]
    types = tuple(own or of_client for own, (of_client, _, _) in zip(write.types, given, strict=True))
    return Parameters(types, tuple(code for _, code, _ in given), [value for _, _, value in given])


def _at(oids: Sequence[int], number: int) -> int:
    return oids[number - 1] if number <= len(oids) else 0


def only_row(messages: bytes) -> list[bytes | None]:
    """Return the values of the one row of a result; WireError where it has another number of rows."""
    rows = [(start, end) for tag, start, end in whole_messages(messages) if tag == ord("D")]
    if len(rows) != 1:
        raise WireError("what is to be written was not computed as one row")
    pos, values = rows[0][0] + 7, list[bytes | None]()
    for _ in range(_COUNT(messages, rows[0][0] + 5)[0]):
        (size,) = _LENGTH(messages, pos)
        pos += 4
        values.append(None if size < 0 else messages[pos : pos + size])
        pos += max(size, 0)
    return values


def whole_messages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (tag, start, end) of messages."""
    start = 0
    while start < len(data):
        end = start + 1 + _LENGTH(data, start + 1)[0]
        yield data[start], start, end
        start = end


def check_stored(plan: StatementPlan, computed: frozenset[int], kept: frozenset[int] = frozenset()) -> None:
    """Go on where parameters with computed values are sealed and nothing else; StatementRefused where one would be seen in clear.

    The analysis has seen to it. The catalogue may have changed since, so it is looked at once more before the values are sent.
    ``kept`` are those that are for the engine alone.
    """
    if kept and not (isinstance(plan, SplitPlan) and kept.isdisjoint(plan.split.source_parameters)):
        raise StatementRefused("the server would be given a value that only the engine may have", hint="Try again.")
    if isinstance(plan, SplitPlan) and plan.split.write is not None:
        _check_searched(plan, computed)
        return
    if isinstance(plan, SplitPlan):
        placed = {number: at for at, number in enumerate(plan.split.source_parameters, start=1)}
        computed = frozenset(placed.get(number, 0) for number in computed)
        plan = plan.source
    for number in computed:
        uses = [use for use, n, source in plan.outputs if number - 1 == n and source is None]
        if not uses or not all(isinstance(use, Store) for use in uses) or any(number - 1 in _parts(s) for _, _, s in plan.outputs):
            raise StatementRefused("a computed value would be stored where nothing is protected", hint="Try again.")


def _check_searched(plan: SplitPlan, computed: frozenset[int]) -> None:
    """Go on where a source looks for computed values by tags, or asks if they are NULL; what the write does is looked at then."""
    for position in (at for at, number in enumerate(plan.split.source_parameters) if number in computed):
        uses = [use for use, n, source in plan.source.outputs if n == position and source is None]
        searched = bool(uses) and all(isinstance(use, Search | Nullness) for use in uses)
        if not searched or any(position in _parts(source) for _, _, source in plan.source.outputs):
            raise StatementRefused("a computed value would be seen where nothing is protected", hint="Try again.")


def check_copied(plan: StatementPlan, count: int) -> None:
    """Go on where the last ``count`` columns of a COPY FROM are sealed; StatementRefused where one would be seen in clear."""
    if plan.copy is None or not plan.copy.incoming or len(plan.copy.reveals) < count or not all(plan.copy.reveals[-count:]):
        raise StatementRefused("a computed value would be stored where nothing is protected", hint="Try again.")


def _parts(source: object) -> set[int]:
    if isinstance(source, Formula):
        return {parameter.number - 1 for parameter in source.parameters()}
    return set(source.numbers()) if isinstance(source, BoundPair) else set()
