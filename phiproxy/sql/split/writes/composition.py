"""What a split write is made of, once its parts are composed: the rest that gives the parameters of the write in one row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.policy.protection import DeclaredType
from phiproxy.policy.signatures import Type
from phiproxy.sql.context import Analysis
from phiproxy.sql.result import Rest, Split, SplitWrite, Waiting
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.statement import NO_CALLS, Calls
from phiproxy.sql.split.writes.assigned_values import ALIAS, COLUMN, KEPT
from phiproxy.sql.split.writes.composed import Composed, client_spans
from phiproxy.sql.split.writes.composed_select import described_of, of_client, settled_types, split_of, types_of
from phiproxy.sql.split.writes.given_in_clear import check_given_in_clear
from phiproxy.sql.split.writes.parts_seen_together import (
    Part,
    Value,
    answered,
    check_apart,
    check_none_waits,
    check_source,
    check_stored,
    names_sequences,
)
from phiproxy.sql.split.writes.targets import Target, check_assigned, given_in_arrays_as
from phiproxy.sql.statements.utility import effects

MAX_COLUMNS = 1600
"""The most columns that a row may have, less some for what is added."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A column of the rest: what it is given as, and whether it may be stored in protected columns only."""

    type: DeclaredType
    computed: bool = True
    array: bool = True
    """Whether it is given as an array where there are many rows."""
    kept: bool = False
    """Whether the engine alone is given it once more, which computes RETURNING with it."""


@dataclass(slots=True)
class Parts:
    """The parts of a split write."""

    select: Composed
    """What gives the values: a SELECT in the client's terms, one column for each of ``stored``."""
    stored: Sequence[Stored]
    write: Composed
    """What stores them, in which -1, -2 … are the columns."""
    described: Composed
    """A SELECT with the columns of RETURNING in which all parameters stand where the client has them."""
    targets: Sequence[Target]
    """What is written to, once it is checked what is given to its documents."""
    many: bool = False
    """Whether ``select`` gives any number of rows, so that each column becomes an array; else it gives one."""
    returns: bool = False
    waiting: Waiting | None = None
    """The client's values that no part for the server may need an index for."""
    calls: Calls = NO_CALLS
    """The volatile functions that may be called in the values of ``select``."""
    in_vain: bool = False
    """Whether what fails in ``select`` may fail where PostgreSQL evaluates nothing."""
    chosen: str = ""
    """Of the rows of ``select`` those that are given, as a condition over q.q1, q.q2 …"""
    clear: Collection[Value] = ()
    """The given values of which it is known that they meet nothing protected."""
    apart: bool = False
    """Whether the server is asked for each table of ``select`` by itself."""
    split_again: Callable[[SplitWrite], tuple[list[Part], list[Rest]]] | None = None
    """Of a write that is split once more what checks it, and tells what the server sees of it, and the engine."""
    in_one_row: Callable[[Rest, Sequence[Type]], Rest] | None = None
    """What makes one row of what ``select`` gives, and of its columns behind ``stored``; None where all of them are stored."""


def composition(a: Analysis, parts: Parts, refusal: StatementRefused | ValueRefused) -> Split:
    """Return the split that is made of these parts; Impossible where one of them cannot be had."""
    if len(parts.stored) > MAX_COLUMNS:
        raise Impossible("more computed values than a row may have columns")
    given = split_of(a, parts.select, refusal, parts.waiting, calls=parts.calls, apart=parts.apart)
    types = types_of(a, parts.select)[: len(parts.stored)]
    source_parameters = tuple(parts.select.parameters[n - 1] for n in given.source_parameters)
    sources = [answered(a, given.source, source_parameters, of_source=True)] if given.source else []
    for source in sources:
        check_source(source, is_of_server=names_sequences(a))
    given = dataclasses.replace(
        given,
        source_parameters=source_parameters,
        source_spans=client_spans(given.source_spans, parts.select.origins),
    )
    rest = of_client(given.rest, parts.select)
    known = settled_types(a, parts.select, types)
    row = parts.in_one_row(rest, known) if parts.in_one_row is not None else as_arrays(rest, parts, known)
    return assembled(a, parts, given, row, types, sources)


def composition_or_apart(a: Analysis, parts: Parts, refusal: StatementRefused | ValueRefused) -> Split:
    """Return the same; where what is joined shows given values, the server is asked for each table by itself."""
    try:
        return composition(a, parts, refusal)
    except Impossible:
        return composition(a, dataclasses.replace(parts, apart=True), refusal)


def assembled(a: Analysis, parts: Parts, given: Split, rest: Rest, types: Sequence[Type], sources: Sequence[Part]) -> Split:
    """Return the split of a write; ``given`` is how its values are asked for, in the client's terms, and ``rest`` their one row.

    ``types`` are those of the values, before they are given as ``parts.stored``. Impossible.
    """
    check_given_in_clear(a.statement.body, [check for target in parts.targets for check in target.leaves.values()])
    told = described_of(a, parts.described)
    write = SplitWrite(
        text=parts.write.text,
        parameters=tuple(parts.write.parameters),
        types=tuple(_declared(parts, n) for n in parts.write.parameters),
        computed=_numbers(parts, lambda stored: stored.computed and not stored.kept),
        kept=_numbers(parts, lambda stored: stored.kept),
        spans=tuple(parts.write.origins),
        split=parts.split_again is not None,
    )
    for stored, value in zip(parts.stored, types, strict=True):
        check_assigned(a.context.catalog, stored.type, value)
    if parts.split_again is not None:
        seen, rests = parts.split_again(write)
    else:
        stores = answered(a, write.text, write.parameters, write.types)
        check_stored(stores, write.computed, write.kept)
        check_none_waits(stores, parts.write.waiting(parts.waiting))
        seen, rests = [stores], []
    check_apart(a, [*seen, *sources], rest, parts.clear)
    for one in rests:
        check_apart(a, [*seen, *sources], one)
    statement = a.statement
    return dataclasses.replace(
        given,
        kind="write",
        start=statement.start,
        end=statement.end,
        rest=rest,
        described=told.rest,
        described_columns=told.columns,
        returns=parts.returns,
        origins=told.origins,
        write=write,
        in_vain=parts.in_vain,
        effects=effects(statement.kind, statement.body, a.whole(), a.context.catalog.setters),
        numbers=a.parameter_numbers,
        plain_select=False,
        waiting=parts.waiting,
        orders=given.orders | told.orders,
        row_types=given.row_types | told.row_types,
    )


def _numbers(parts: Parts, wanted: Callable[[Stored], bool]) -> frozenset[int]:
    """Return the numbers of those parameters of the write that are such columns of the rest."""
    return frozenset(k for k, n in enumerate(parts.write.parameters, start=1) if n < 0 and wanted(parts.stored[-n - 1]))


def _declared(parts: Parts, key: int) -> int:
    """Return the OID that Parse declares of a parameter of the write; 0 where its text says it."""
    return 0 if key > 0 or (parts.many and parts.stored[-key - 1].array) else parts.stored[-key - 1].type.oid


def as_arrays(rest: Rest, parts: Parts, types: Sequence[Type]) -> Rest:
    """Return a rest that gives each value as the type of the column that it is stored in; of several rows arrays of them.

    INSERT INTO visits (diagnosis) SELECT upper(ssn) FROM patients
    → rest: SELECT pg_catalog.array_agg(q.q1) FROM (SELECT upper(ssn) FROM (SELECT s.c1 FROM {} AS s) AS patients (ssn)) AS q (q1)
    """
    values = []
    for n, (stored, given) in enumerate(zip(parts.stored, types, strict=True), start=1):
        value = as_stored(f"q.q{n}", stored, given)
        values.append(f"pg_catalog.array_agg({as_element(value, stored)})" if parts.many else value)
    before = f"SELECT {', '.join(values)} FROM (".encode()
    chosen = f" WHERE {parts.chosen}" if parts.chosen else ""
    behind = f") AS q ({', '.join(f'q{n}' for n in range(1, len(values) + 1))}){chosen}".encode()
    first, *others = rest.parts
    texts = [before + first, *others]
    texts[-1] += behind
    return Rest(tuple(texts), rest.parameters, tuple((s + len(before), e + len(before), at) for s, e, at in rest.spans))


def as_stored(value: str, stored: Stored, given: Type) -> str:
    """Return a computed value of a type as one of the type of the column that it is stored in."""
    if given == stored.type.oid:
        return value
    return f"CAST({value} AS {stored.type.name if stored.type.schema else stored.type.unlimited.name})"


def as_element(value: str, stored: Stored) -> str:
    """Return such a value as an element of an array: there are no arrays of arrays, so an array is a text."""
    return value if stored.type.element is None else f"CAST({value} AS {given_in_arrays_as(stored.type)})"


def given_rows(write: Composed, stored: Sequence[Stored], numbers: Sequence[int] = ()) -> str:
    """Return the item of FROM with the values of the rows, one parameter for each column; ``numbers``: of these columns only.

    ``ROWS FROM (unnest($1::text[]), unnest($2::date[])) AS phi_write (phi_1, phi_2)``

    Where the engine keeps some, with the numbers of the rows.
    """
    listed = [n for n in numbers or range(1, len(stored) + 1) if not stored[n - 1].kept]
    arrays = (f"pg_catalog.unnest({write.parameter(-n)}::{given_in_arrays_as(stored[n - 1].type)}[])" for n in listed)
    numbered = any(stored[n - 1].kept for n in numbers or range(1, len(stored) + 1))
    names = ", ".join([*(f"{COLUMN}{n}" for n in listed), *([KEPT] if numbered else [])])
    return f"ROWS FROM ({', '.join(arrays)}){' WITH ORDINALITY' if numbered else ''} AS {ALIAS} ({names})"


def given_value(stored: Sequence[Stored], number: int) -> str:
    """Return a value of such a row as one of the type of its column.

    ``phi_write.phi_1``, ``CAST(phi_write.phi_2 AS text[])``
    """
    value, declared = f"{ALIAS}.{COLUMN}{number}", stored[number - 1].type
    return value if declared.element is None else f"CAST({value} AS {declared.name})"
