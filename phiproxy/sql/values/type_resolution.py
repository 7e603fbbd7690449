"""The types of expressions beside a protected column, as PostgreSQL resolves them (manual 10.2 to 10.5).

An expression is a tree of ``Part``: a value, a column, or CASE and COALESCE of parts. Resolving it determines the type of the whole
and the types that each value is converted to on the way. A value is then read as its own type and converted step by step, as the
server does.

    real IN (0.1, 0.2)           each number becomes a real (select_common_type), and is compared as one
    real = 0.1                   the number becomes a double precision, as which a real is compared with it
    COALESCE(2.5, 1::float8)     2.5 becomes a double precision, and then the type that it is assigned to
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from phiproxy.errors import DatatypeMismatch, StatementRefused, UndefinedOperator
from phiproxy.policy.column_types import builtin
from phiproxy.sql.values.accepted_types import operand_type
from phiproxy.types.casts import NoCast
from phiproxy.types.common_type import shared
from phiproxy.types.declared import DeclaredType
from phiproxy.types.equality_operators import Equality, equality, stays_apart
from phiproxy.types.names import sql_name

Type = DeclaredType | None
"""None is the type of a literal, a parameter or NULL that nothing has given one (unknown)."""

TEXT = builtin("text")


@dataclass(slots=True, eq=False)
class Part:
    """A value or column of a type of its ``own``, or an expression of ``parts``, which get one type where it ``merges`` them.

    ``casts`` are applied to the whole, the innermost first. ``nullif`` are the operands of a NULLIF, which are compared as type
    ``at``. ``settles``: a type that is still unknown becomes text here. ``steps`` are the types that a value is converted to after
    its own, as far as they are resolved.
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
        """Return the type of the whole, noting each value's conversions; DatatypeMismatch, UndefinedOperator, with no position."""
        if not self.resolved:
            self.type = self._resolve()
            self.resolved = True
        return self.type

    def _resolve(self) -> Type:
        resolved = self.own
        if self.nullif is not None:
            one, other = self.nullif
            compared = compare_pair(one, other)
            self.at, resolved = compared.at, compared.left
            one.become(resolved)
            other.become(compared.right)
            resolved = one.type if one.type is not None and one.type.oid == resolved.oid else resolved
        elif self.parts:
            types = [part.resolve() for part in self.parts]
            resolved = merged(types) if self.merges else types[0]
            if self.merges:
                for part in self.parts:
                    part.become(resolved)
        for to in self.casts:
            self.become(to)
            resolved = to
        if resolved is None and self.settles:
            self.become(TEXT)
            resolved = TEXT
        return resolved

    def become(self, to: Type) -> None:
        """Convert the whole to another type."""
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
        """Yield the values and columns of the expression."""
        if self.nullif is not None:
            for part in self.nullif:
                yield from part.values()
        elif not self.parts:
            yield self
        for part in self.parts:
            yield from part.values()


def _same(before: DeclaredType, to: DeclaredType) -> bool:
    if to.typmod != -1 or to.base is not None:
        return before == to
    return before.underlying.unlimited == to


def common_type(types: Sequence[Type]) -> DeclaredType:
    """Return the type of CASE, UNION and the like (manual 10.5), text if all are unknown; DatatypeMismatch, with no position."""
    typed = [declared for declared in types if declared is not None]
    if not typed:
        return TEXT
    if len(typed) == len(types) and len({declared.unlimited for declared in typed}) == 1:
        return typed[0].unlimited  # the only way to a domain
    try:
        return shared(typed)
    except NoCast:
        shown = " and ".join(dict.fromkeys(map(sql_name, typed)))
        raise DatatypeMismatch(f"types {shown} cannot be matched", hint="Cast them to one type.") from None


def merged(types: Sequence[Type]) -> DeclaredType:
    """Return the common type, with a length where all have the same (select_common_typmod)."""
    first = types[0]
    return first if first is not None and all(other == first for other in types) else common_type(types)


def how_compared(left: DeclaredType, right: DeclaredType) -> Equality:
    """Return how two types are compared; UndefinedOperator, without a position, where they have no operator."""
    try:
        return equality(left, right)
    except NoCast:
        raise UndefinedOperator(
            f"operator does not exist: {sql_name(left)} = {sql_name(right)}",
            hint="No operator matches the given name and argument types. You might need to add explicit type casts.",
        ) from None


def compare_pair(left: Part, right: Part) -> Equality:
    """Give an operand without a type that of the other's operator, and return how both are compared."""
    one, other = left.resolve(), right.resolve()
    if one is None and other is None:
        one = other = TEXT
    typed = one if one is not None else other
    assert typed is not None
    for part, declared in ((left, one), (right, other)):
        if part.type is None:
            part.become(operand_type(typed) if declared is None else declared)
    assert left.type is not None
    assert right.type is not None
    return how_compared(left.type, right.type)


def compare_listed(left: Part, rights: Sequence[Part]) -> list[Equality]:
    """Convert IN's items to one type, else one by one (parse_expr.c, transformAExprIn); return how the left is compared to each."""
    types = [left.resolve(), *(right.resolve() for right in rights)]
    try:
        shared_type = common_type(types)
    except DatatypeMismatch:
        return [compare_pair(left, right) for right in rights]
    for right in rights:
        right.become(shared_type)
    return [compare_pair(left, right) for right in rights]


def compare_with_column(declared: DeclaredType, sides: Sequence[Part], at: Sequence[DeclaredType]) -> None:
    """Convert operands to the type as which a column is compared, so that their tags are those of equal values.

    ``at`` are the types as which the ``sides`` are compared. Raises StatementRefused, without a position, where a column's values
    would be converted in a way that changes which are equal, or are compared otherwise than as the column's own type.
    """
    for side, point in zip(sides, at, strict=True):
        assert side.type is not None
        if _is_compared_otherwise(declared, point):
            raise _other_way(declared, point)
        if side.type != point and how_compared(declared, side.type).at != point:
            side.become(point)
        _check_nullifs(declared, side)


def _check_nullifs(declared: DeclaredType, part: Part) -> None:
    """Convert the operands of NULLIF to the type as which the column is compared, too."""
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
    """Tell whether a column's own values are compared as another type than ``at``, or not at all."""
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
    """Refuse a column that is converted before it is compared, where values that differ might become equal."""
    for to in steps:
        if not stays_apart(declared, to):
            raise _other_way(declared, to)
