"""The type that a parameter or constant has where it meets a protected column, and whether PostgreSQL would accept it there.

Every use of a parameter or constant passes through here (``Analysis.use``). Assignment follows manual 10.4, comparison manual 10.2.
A text for a text column needs no check: its length is checked when it is sealed.
"""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise

from phiproxy.errors import DatatypeMismatch, StatementRefused, UndefinedOperator
from phiproxy.policy.column_types import array_of, builtin, by_oid
from phiproxy.policy.protection import DeclaredType
from phiproxy.sql.values.operands import Operand
from phiproxy.sql.values.uses import Given, Search, Store
from phiproxy.types.casts import NUMERIC, NoCast, NotCast, cast, explicit
from phiproxy.types.comparable_operands import compared, ordered
from phiproxy.types.names import sql_name
from phiproxy.wire.oids import TEXT_OID

# What a place says of a parameter's type that has the type of the column beside it.
OWN = -1


class CannotCoerce(StatementRefused, sqlstate="42846"):
    """PostgreSQL has no such cast (42846)."""


def operand_type(declared: DeclaredType) -> DeclaredType:
    """Return the type of a parameter beside an operand of a type: varchar, cidr and domains have no operators of their own."""
    base = declared.underlying.unlimited
    return _OPERANDS.get(base.family, base)


TEXT, BOOL = builtin("text"), builtin("bool")
_OPERANDS = {"varchar": TEXT, "cidr": builtin("inet")}


def changes_nothing(declared: DeclaredType, to: DeclaredType) -> bool:
    """Tell whether a cast leaves every value as it is, and leaves equal what was equal."""
    if to.schema:
        return declared.oid == to.oid  # a domain has conditions, an enum other labels
    declared = declared.underlying
    if declared.is_text:
        return to.is_text and (to.typmod == -1 or -1 < declared.typmod <= to.typmod)
    same = declared.family == to.family if to.element is None else declared.element == to.element
    return same and to.typmod in (-1, declared.typmod)


def given(operand: Operand, use: Store | Search, type_oid: int, steps: Sequence[DeclaredType] = ()) -> tuple[Store | Search, int]:
    """Return a use that says how its value is read, and the OID of the type that a parameter has here.

    ``type_oid`` is the type that the context gives a parameter: 0 if it gives none, ``OWN`` if it gives the column's type.
    ``steps`` are the types that the value is converted to before it is used; a value without a type of its own is read as the first
    of them.

    Raises DatatypeMismatch, UndefinedOperator or CannotCoerce where PostgreSQL would not accept the value, and StatementRefused
    where phiproxy cannot convert it. None of them has a position yet.
    """
    target = use.type
    if use.given is not None:
        return _argument(operand, use, use.given), type_oid
    if steps and not operand.types:
        type_oid = _array_oid(steps[0]) if use.elements else steps[0].oid
    if (
        operand.textual
        and target.is_text
        and all(to.is_text and to.typmod == -1 for to in steps)
        and (type_oid <= 0 or _says_text(type_oid))
    ):
        return use, operand.type_oid or (type_oid if type_oid != OWN else _own_text(use))
    types = operand.types
    if use.elements:
        types = tuple(declared.element or declared for declared in types)
    context_type = steps[0].unlimited if steps and not types else _context_type(use, type_oid)
    then = tuple(steps[1:] if not types and steps and steps[0].typmod == -1 and steps[0].base is None else steps)
    path = (
        (*types, *then)
        if types
        else (context_type, *then)
        if steps or operand.kind != "param" or (type_oid > 0 and isinstance(use, Search))
        else ()
    )
    if path:
        check(use, path)
    oid = types[0] if types else context_type
    if operand.is_number:
        oid = NUMERIC  # as it is read
    # A value without a type is read as the type beside it, of any length, if it is a literal.
    unread = Given(None if operand.kind == "param" else context_type.underlying.unlimited, then)
    use = dataclasses.replace(use, given=_read(operand, types, then) if types else unread)
    if not types and type_oid == 0:
        return use, 0
    return use, _array_oid(oid) if use.elements else oid.oid


def read_as(use: Store | Search, declared: DeclaredType) -> Store | Search:
    """Return the use of a parameter now that its type is known. Nothing is noted where it is text for a text column."""
    scalar = declared.element if use.elements and declared.element is not None else declared
    before = use.given or Given()
    if use.elements and declared.element is None:
        raise _no_operator(use.type, declared, use)
    if not before.casts and use.type.is_text and scalar.is_text:
        return use if use.given is None else dataclasses.replace(use, given=None)
    check(use, (scalar, *before.casts))
    return dataclasses.replace(use, given=Given(scalar, before.casts))


def _own_text(use: Store | Search) -> int:
    if isinstance(use, Store):
        return use.type.oid
    return _array_oid(TEXT) if use.elements else TEXT_OID


def _read(operand: Operand, types: tuple[DeclaredType, ...], steps: tuple[DeclaredType, ...] = ()) -> Given:
    """Return how a value with types is read. A number is read as a numeric first, and then converted."""
    if operand.kind == "param":
        return Given(None, (*(types if operand.own is None else types[1:]), *steps))
    if operand.is_number and types[1:2] != (BOOL,):
        return Given(NUMERIC, (*types[1:], *steps))
    # Of a domain over varchar(n) a literal is cut, as by a cast to that; not so in an array.
    whole = types[0].base is None or operand.array
    return Given(types[0].unlimited if whole or types[0].base is None else types[0].base.unlimited, (*types, *steps))


def _argument(operand: Operand, use: Store | Search, of: Given) -> Store | Search:
    """Return how an argument of EXECUTE is read: it is assigned to the type of the statement's parameter."""
    types = operand.types
    if not types or of.type is None:
        return use
    for one, other in pairwise(types):
        _cast(one, other)
    try:
        cast(types[-1], of.type, "assignment")
    except (NoCast, NotCast):
        why = f"a parameter of type {sql_name(of.type)} cannot be coerced from type {sql_name(types[-1])}"
        raise DatatypeMismatch(why, hint="You will need to rewrite or cast the expression.") from None
    read = _read(operand, types)
    return dataclasses.replace(use, given=Given(read.type, (*read.casts, of.type, *of.casts)))


def _says_text(oid: int) -> bool:
    said = by_oid(oid)
    return said is not None and (said.element or said).is_text


def _array_oid(declared: DeclaredType) -> int:
    return declared.array_oid or array_of(by_oid(declared.oid) or declared).oid


def _context_type(use: Store | Search, type_oid: int) -> DeclaredType:
    """Return the type of a value that has none of its own: the one that the context gives it, else the column's."""
    said = by_oid(type_oid) if type_oid > 0 else None
    if said is not None:
        return said.element if use.elements and said.element is not None else said
    if isinstance(use, Search) or use.elements:
        return operand_type(use.type)
    return use.type


def check(use: Store | Search, types: tuple[DeclaredType, ...]) -> None:
    """Raise PostgreSQL's error where a value that is converted to these types in turn cannot be used so."""
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
        if isinstance(use, Search):
            raise _no_operator(target, last, use) from None
        why = f'column "{use.column.name}" is of type {sql_name(use.column.type)} but expression is of type {sql_name(last)}'
        raise DatatypeMismatch(why, hint="You will need to rewrite or cast the expression.") from None
    except NotCast:
        how = "stored in" if isinstance(use, Store) else "compared with"
        why = f"a value of type {sql_name(last)} {how} {use.column.label}, of type {sql_name(target)}, is not in this version"
        raise StatementRefused(why, hint=f"Give it as {sql_name(target)}." + _of_texts(use, last)) from None


def _cast(one: DeclaredType, other: DeclaredType) -> None:
    try:
        explicit(one, other)
    except NoCast:
        raise CannotCoerce(
            f"cannot cast type {sql_name(one)} to {sql_name(other)}", hint=f"Give the value as {sql_name(other)}."
        ) from None
    except NotCast:
        why = f"a cast of {sql_name(one)} to {sql_name(other)} on the way to a protected column is not in this version"
        raise StatementRefused(why, hint=f"Give the value as {sql_name(other)}.") from None


def _of_texts(use: Store | Search, given: DeclaredType) -> str:
    """Return the end of a hint: PostgreSQL compares citext with text as texts, so case counts, and another index answers."""
    if not isinstance(use, Search) or use.type.underlying.family != "citext" or not given.is_text:
        return ""
    return f" As a text it is compared by an index on {use.column.name}::text."


def _no_operator(target: DeclaredType, declared: DeclaredType, use: Store | Search) -> UndefinedOperator:
    operator = use.range.operator if isinstance(use, Search) and use.range is not None else "="
    shown = f" {operator} ".join((sql_name(target), sql_name(declared)))
    return UndefinedOperator(
        f"operator does not exist: {shown}",
        hint="No operator matches the given name and argument types. You might need to add explicit type casts.",
    )
