"""The types of columns of given values: of VALUES, of unnested arrays, and of what UNION ALL puts one below the other."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.errors import DatatypeMismatch
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.parse import only
from phiproxy.sql.scope import ListColumn
from phiproxy.sql.sinks import cast_type
from phiproxy.sql.type_resolution import Part, Type

Entry = tuple[int, int]
"""The ``id`` of a column that holds values, and the number of one of these."""


def type_of(column: ListColumn) -> Type:
    """Return the type of a whole column; None where nothing has given it one, or its values have none in common."""
    try:
        return part_of(column, {}).resolve()
    except DatatypeMismatch:
        return None  # the server says so, or what becomes of the column


def part_of(column: ListColumn, entries: dict[Entry, Part]) -> Part:
    """Return a column as a part, not resolved, and note the part of each of its values."""
    if column.parts:
        parts = [part_of(part, entries) for part in column.parts]
        return Part(parts=parts, merges=len(parts) > 1, casts=column.cast_to, settles=column.of_values)
    own = [Part(entry.value_type if entry is not None else None) for entry in column.entries]
    entries.update({(id(column), number): part for number, part in enumerate(own)})
    elements = _elements(column)
    # One row of VALUES is resolved as many are; a value that a SELECT lists alone may get its type further out.
    return Part(parts=own, merges=not elements and (len(own) > 1 or column.of_values), casts=elements, settles=column.of_values)


def _elements(column: ListColumn) -> tuple[DeclaredType, ...]:
    """Return the types to which ``ARRAY[…]`` casts its elements, each by itself."""
    found = (cast_type(only(cast)[1]) for cast in reversed(column.recasts))
    return tuple(declared.element for declared in found if declared is not None and declared.element is not None)


def conversions(
    column: ListColumn, steps: Sequence[DeclaredType], last: DeclaredType
) -> tuple[dict[Entry, tuple[DeclaredType, ...]], DeclaredType]:
    """Return what each value of a column becomes on its way to where it is used, and the type of all by then.

    ``steps`` are what the column becomes behind its own type, ``last`` what it is read as where nothing says anything. Errors as of
    ``Part.resolve``.
    """
    entries: dict[Entry, Part] = {}
    whole = part_of(column, entries)
    found = whole.resolve()
    for to in steps if found is not None or steps else (last,):
        whole.become(to)
        found = to
    assert found is not None
    return {entry: tuple(part.steps) for entry, part in entries.items()}, found
