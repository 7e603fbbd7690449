"""The types of expressions beside a protected column, as PostgreSQL resolves them (manual 10.2 to 10.5), step by step.

An expression is a tree of ``Part``: a value, a column, or CASE and COALESCE of parts. To resolve it is to find the type of all,
and what each value becomes on its way there: a value is then read as its own type and converted step by step, as the server does.

    real IN (0.1, 0.2)           each number becomes a real (select_common_type), and is compared as one
    real = 0.1                   the number becomes a double precision, as which a real is compared with it
    COALESCE(2.5, 1::float8)     2.5 becomes a double precision, and from there what it is assigned to
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from phiproxy.errors import DatatypeMismatch, StatementRefused, UndefinedOperator
from phiproxy.policy.types import builtin
from phiproxy.sql.operands import operand_type
from phiproxy.types.casts import NoCast
from phiproxy.types.declared import DeclaredType
from phiproxy.types.equality import Equality, equality, stays_apart
from phiproxy.types.names import sql_name
from phiproxy.types.shared import shared

Type = DeclaredType | None
"""None is the type of a literal, a parameter or NULL that nothing has given one (unknown)."""

TEXT, VARCHAR = builtin("text"), builtin("varchar")


@dataclass(slots=True, eq=False)
class Part:
    """A value or column of a type of its ``own``, or what is made of ``parts``, which become one type where it ``merges`` them.

    ``casts`` are done to that from the first on. ``nullif`` are the operands of a NULLIF, which compares them ``at`` a type.
    ``settles``: unknown is text here. ``steps`` are what a value becomes behind its own type, one after the other, as far as it has
    been resolved.
    """

    own: Type = None
    parts: list[Part] = field(default_factory=list)
    casts: tuple[DeclaredType, ...] = ()
    merges: bool = False
    nullif: tuple[Part, Part] | None = None
    settles: bool = False
    steps: list[DeclaredType] = field(default_factory=list)
    resolved: bool = False
    type: Type = None
    at: Type = None

    def resolve(self) -> Type:
        """Return the type of the whole, and let every value below become what it becomes by then.

        DatatypeMismatch, UndefinedOperator, without a position, where PostgreSQL would say so.
        """
        if not self.resolved:
            self.type = self._resolve()
            self.resolved = True
        return self.type

    def _resolve(self) -> Type:
        found = self.own
        if self.nullif is not None:
            one, other = self.nullif
            compared = compare_pair(one, other)
            self.at, found = compared.at, compared.left
            one.become(found)
            other.become(compared.right)
            found = one.type if one.type is not None and one.type.oid == found.oid else found
        elif self.parts:
            types = [part.resolve() for part in self.parts]
            found = merged(types) if self.merges else types[0]
            if self.merges:
                for part in self.parts:
                    part.become(found)
        for to in self.casts:
            self.become(to)
            found = to
        if found is None and self.settles:
            self.become(TEXT)
            found = TEXT
        return found

    def become(self, to: Type) -> None:
        """Let the whole become another type."""
        if to is None:
            return
        if self.nullif is not None:
            self.nullif[0].become(to)
            return
        for part in self.parts:
            part.become(to)
        before = self.steps[-1] if self.steps else self.own
        if not self.parts and (before is None or not _same(before, to)):
            self.steps.append(to)
        if self.resolved and (self.type is None or not _same(self.type, to)):
            self.type = to

    def values(self) -> Iterator[Part]:
        """Yield the values and columns below."""
        if self.nullif is not None:
            for part in self.nullif:
                yield from part.values()
        elif not self.parts:
            yield self
        for part in self.parts:
            yield from part.values()


def _same(before: DeclaredType, to: DeclaredType) -> bool:
    """Tell whether what is of the one type already is what becomes of it as the other."""
    if to.typmod != -1 or to.base is not None:
        return before == to
    return before.underlying.unlimited == to


def common_type(types: Sequence[Type]) -> DeclaredType:
    """Return the type of CASE, COALESCE, UNION and the like over these, in PostgreSQL's order; text where none is known.

    DatatypeMismatch where they have none, without a position.
    """
    known = [declared for declared in types if declared is not None]
    if not known:
        return TEXT
    if len(known) == len(types) and len({declared.unlimited for declared in known}) == 1:
        return known[0].unlimited  # the only way to a domain
    try:
        return shared(known)
    except NoCast:
        shown = " and ".join(dict.fromkeys(map(sql_name, known)))
        raise DatatypeMismatch(f"types {shown} cannot be matched", hint="Cast them to one type.") from None


def merged(types: Sequence[Type]) -> DeclaredType:
    """Return the common type, with its length where all have the same (select_common_typmod)."""
    first = types[0]
    return first if first is not None and all(other == first for other in types) else common_type(types)


def how_compared(left: DeclaredType, right: DeclaredType) -> Equality:
    """Return how two types are compared; UndefinedOperator, without a position, where there is no operator for them."""
    try:
        return equality(left, right)
    except NoCast:
        raise UndefinedOperator(
            f"operator does not exist: {sql_name(left)} = {sql_name(right)}",
            hint="No operator matches the given name and argument types. You might need to add explicit type casts.",
        ) from None


def compare_pair(left: Part, right: Part) -> Equality:
    """Let a part without a type become that of the other's operator, and return how both are compared."""
    one, other = left.resolve(), right.resolve()
    if one is None and other is None:
        one = other = TEXT
    known = one if one is not None else other
    assert known is not None
    for part, declared in ((left, one), (right, other)):
        if part.type is None:
            part.become(operand_type(known) if declared is None else declared)
    assert left.type is not None
    assert right.type is not None
    return how_compared(left.type, right.type)


def compare_listed(left: Part, rights: Sequence[Part]) -> list[Equality]:
    """Let the values of a list that IN is over become one type, and return how the left side is compared with each of them.

    Where they have none in common each is compared by itself (parse_expr.c, transformAExprIn).
    """
    types = [left.resolve(), *(right.resolve() for right in rights)]
    try:
        found = common_type(types)
    except DatatypeMismatch:
        return [compare_pair(left, right) for right in rights]
    for right in rights:
        right.become(found)
    return [compare_pair(left, right) for right in rights]


def compare_with_column(declared: DeclaredType, sides: Sequence[Part], at: Sequence[DeclaredType]) -> None:
    """Let values be what a column of a type is compared with, as whose equals their tags are made.

    ``at`` are the types at which the ``sides`` are compared. StatementRefused, without a position, where a column's values would be
    converted so that they are equal to others than before, or are compared otherwise than by the column's own type.
    """
    for side, point in zip(sides, at, strict=True):
        assert side.type is not None
        if _is_compared_otherwise(declared, point):
            raise _other_way(declared, point)
        if how_compared(declared, side.type).at != point:
            side.become(point)
        _check_nullifs(declared, side)


def _check_nullifs(declared: DeclaredType, part: Part) -> None:
    """Let what NULLIF compares be what a column of a type is compared with, too."""
    for inner in part.nullif or part.parts:
        _check_nullifs(declared, inner)
    if part.nullif is None:
        return
    one, other = part.nullif
    assert part.at is not None
    assert one.type is not None
    assert other.type is not None
    if _is_compared_otherwise(declared, part.at) or how_compared(declared, one.type).at != part.at:
        raise _other_way(declared, part.at)
    if how_compared(declared, other.type).at != part.at:
        other.become(part.at)


def _is_compared_otherwise(declared: DeclaredType, at: DeclaredType) -> bool:
    """Tell whether a column's own values are compared otherwise than at a type, or have no operator with it at all."""
    try:
        return equality(declared, at).at != at
    except NoCast:
        return True


def _other_way(declared: DeclaredType, at: DeclaredType) -> StatementRefused:
    return StatementRefused(
        f"values are compared here as {sql_name(at)}, and those of a protected column as {sql_name(declared.underlying.unlimited)}",
        hint=f"Cast the values to {sql_name(declared.underlying.unlimited)}.",
    )


def check_apart(declared: DeclaredType, steps: Sequence[DeclaredType]) -> None:
    """Refuse a column of a type that becomes others before it is compared, where its tags do not tell then what is equal."""
    for to in steps:
        if not stays_apart(declared, to):
            raise _other_way(declared, to)
