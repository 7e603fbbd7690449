"""What a value is on its way to a protected column: which types it has, and whether PostgreSQL would take it there.

The one place through which every use of a parameter or constant goes (``Analysis.use``). Texts for a text column need nothing: the
rules for lengths are elsewhere. Assignment: manual 10.4; comparison: manual 10.2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from phiproxy.errors import DatatypeMismatch, StatementRefused, UndefinedOperator
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.policy.types import TEXT_OID, array_of, builtin, by_oid
from phiproxy.sql.meaning import Given, Search, Store
from phiproxy.types.casts import NUMERIC, NoCast, NotCast, cast, explicit
from phiproxy.types.comparing import compared, ordered
from phiproxy.types.names import sql_name

if TYPE_CHECKING:
    from phiproxy.sql.sinks import SinkNode

# What a place says of a parameter's type that has the type of the column beside it.
OWN = -1


class CannotCoerce(StatementRefused):
    """PostgreSQL has no such cast (42846)."""

    sqlstate = "42846"


def operand_type(declared: DeclaredType) -> DeclaredType:
    """Return the type that a parameter has beside an operand of this one: varchar and cidr have no operators, nor has a domain."""
    base = declared.underlying.unlimited
    return {"varchar": TEXT, "cidr": builtin("inet")}.get(base.family, base)


TEXT, BOOL = builtin("text"), builtin("bool")


def changes_nothing(declared: DeclaredType, to: DeclaredType) -> bool:
    """Tell whether a cast leaves values, and what they are equal to, as they are."""
    if to.schema:
        return declared.oid == to.oid  # a domain has conditions, an enum other labels
    declared = declared.underlying
    if declared.is_text:
        return to.is_text and (to.typmod == -1 or -1 < declared.typmod <= to.typmod)
    same = declared.family == to.family if to.element is None else declared.element == to.element
    return same and to.typmod in (-1, declared.typmod)


def given(sink: SinkNode, use: Store | Search, type_oid: int, steps: Sequence[DeclaredType] = ()) -> tuple[Store | Search, int]:
    """Return the use with how its value is read, and the type that a parameter has here.

    ``type_oid`` is what the place says of that (0: nothing, ``OWN``: that of the column). ``steps`` are what it becomes first:
    without a type of its own it is read as the first of them. DatatypeMismatch, UndefinedOperator or CannotCoerce where PostgreSQL
    would not take such a value, StatementRefused where it is not done here; without a position.
    """
    target = use.type
    if use.given is not None:
        return _argument(sink, use, use.given), type_oid
    if steps and not sink.types:
        type_oid = _array_oid(steps[0]) if use.elements else steps[0].oid
    if (
        sink.textual
        and target.is_text
        and all(to.is_text and to.typmod == -1 for to in steps)
        and (type_oid <= 0 or _says_text(type_oid))
    ):
        return use, sink.type_oid or (type_oid if type_oid != OWN else _own_text(use))
    types = sink.types
    if use.elements:
        types = tuple(declared.element or declared for declared in types)
    place = steps[0].unlimited if steps and not types else _place_type(use, type_oid)
    then = tuple(steps[1:] if not types and steps and steps[0].typmod == -1 and steps[0].base is None else steps)
    known = (*types, *then) if types else (place, *then) if steps or sink.kind != "param" or _is_of_place(use, type_oid) else ()
    if known:
        check(use, known)
    oid = types[0] if types else place
    if sink.is_number:
        oid = NUMERIC  # as it is read
    use = dataclasses.replace(use, given=_read(sink, types, then) if types else Given(_unread(sink, place), then))
    if not types and type_oid == 0:
        return use, 0
    return use, _array_oid(oid) if use.elements else oid.oid


def _is_of_place(use: Store | Search, type_oid: int) -> bool:
    return type_oid > 0 and isinstance(use, Search)


def read_as(use: Store | Search, declared: DeclaredType) -> Store | Search:
    """Return the use of a parameter whose type is known now, None of it where it is text for a text column."""
    scalar = declared.element if use.elements and declared.element is not None else declared
    before = use.given or Given()
    if use.elements and declared.element is None:
        raise _no_operator(use.type, declared, use)
    if not before.casts and use.type.is_text and scalar.is_text:
        return dataclasses.replace(use, given=None)
    check(use, (scalar, *before.casts))
    return dataclasses.replace(use, given=Given(scalar, before.casts))


def _own_text(use: Store | Search) -> int:
    if isinstance(use, Store):
        return use.type.oid
    return _array_oid(TEXT) if use.elements else TEXT_OID


def _unread(sink: SinkNode, place: DeclaredType) -> DeclaredType | None:
    """Return the type in which a value without one is read: a literal is what stands beside it, of any length."""
    return None if sink.kind == "param" else place.underlying.unlimited


def _read(sink: SinkNode, types: tuple[DeclaredType, ...], steps: tuple[DeclaredType, ...] = ()) -> Given:
    """Return how a value that has types is read. A number is a numeric first, from which it becomes any other."""
    if sink.kind == "param":
        return Given(None, (*(types if sink.own is None else types[1:]), *steps))
    if sink.is_number and types[1:2] != (BOOL,):
        return Given(NUMERIC, (*types[1:], *steps))
    # Of a domain over varchar(n) a literal is cut, as by a cast to that; not so in an array.
    whole = types[0].base is None or sink.array
    return Given(types[0].unlimited if whole or types[0].base is None else types[0].base.unlimited, (*types, *steps))


def _argument(sink: SinkNode, use: Store | Search, of: Given) -> Store | Search:
    """Return how an argument of EXECUTE is read: it becomes what the parameter is, as if it were assigned to it."""
    types = sink.types
    if not types or of.type is None:
        return use
    for one, other in pairwise(types):
        _cast(one, other)
    try:
        cast(types[-1], of.type, "assignment")
    except (NoCast, NotCast):
        raise DatatypeMismatch(
            f"a parameter of type {sql_name(of.type)} cannot be coerced from type {sql_name(types[-1])}",
            hint="You will need to rewrite or cast the expression.",
        ) from None
    read = _read(sink, types)
    return dataclasses.replace(use, given=Given(read.type, (*read.casts, of.type, *of.casts)))


def _says_text(oid: int) -> bool:
    said = by_oid(oid)
    return said is not None and (said.element or said).is_text


def _array_oid(declared: DeclaredType) -> int:
    return declared.array_oid or array_of(by_oid(declared.oid) or declared).oid


def _place_type(use: Store | Search, type_oid: int) -> DeclaredType:
    """Return the type of what has none by itself: what the place says, else that of the column."""
    said = by_oid(type_oid) if type_oid > 0 else None
    if said is not None:
        return said.element if use.elements and said.element is not None else said
    if isinstance(use, Search) or use.elements:
        return operand_type(use.type)
    return use.type


def check(use: Store | Search, types: tuple[DeclaredType, ...]) -> None:
    """Raise what PostgreSQL would where a value that has these types one after the other is used so."""
    for one, other in pairwise(types):
        _cast(one, other)
    last, target = types[-1], use.type
    if target.is_text and any((declared.element or declared).family == "bytea" for declared in types):
        raise StatementRefused(
            f"bytea on the way to {use.column.label} is not in this version", hint=f"Give it as {sql_name(target)}."
        )
    try:
        if isinstance(use, Store):
            cast(last, target, "assignment")
        else:
            (compared if use.range is None else ordered)(target, last)
    except NoCast:
        raise _mismatch(use.column, last) if isinstance(use, Store) else _no_operator(target, last, use) from None
    except NotCast:
        how = "stored in" if isinstance(use, Store) else "compared with"
        raise StatementRefused(
            f"a value of type {sql_name(last)} {how} {use.column.label}, of type {sql_name(target)}, is not in this version",
            hint=f"Give it as {sql_name(target)}." + _of_texts(use, last),
        ) from None


def _cast(one: DeclaredType, other: DeclaredType) -> None:
    try:
        explicit(one, other)
    except NoCast:
        raise CannotCoerce(
            f"cannot cast type {sql_name(one)} to {sql_name(other)}", hint=f"Give the value as {sql_name(other)}."
        ) from None
    except NotCast:
        raise StatementRefused(
            f"a cast of {sql_name(one)} to {sql_name(other)} on the way to a protected column is not in this version",
            hint=f"Give the value as {sql_name(other)}.",
        ) from None


def _of_texts(use: Store | Search, given: DeclaredType) -> str:
    """Say how case would count, as it does where PostgreSQL compares citext with a text."""
    if not isinstance(use, Search) or use.type.underlying.family != "citext" or not given.is_text:
        return ""
    return f" As a text it is compared by an index on {use.column.name}::text."


def _mismatch(column: ProtectedColumn, declared: DeclaredType) -> DatatypeMismatch:
    return DatatypeMismatch(
        f'column "{column.name}" is of type {sql_name(column.type)} but expression is of type {sql_name(declared)}',
        hint="You will need to rewrite or cast the expression.",
    )


def _no_operator(target: DeclaredType, declared: DeclaredType, use: Store | Search) -> UndefinedOperator:
    operator = use.range.operator if isinstance(use, Search) and use.range is not None else "="
    shown = f" {operator} ".join((sql_name(target), sql_name(declared)))
    return UndefinedOperator(
        f"operator does not exist: {shown}",
        hint="No operator matches the given name and argument types. You might need to add explicit type casts.",
    )
