"""Which type values have that become one column: CASE, COALESCE, UNION, VALUES (manual 10.5; select_common_type)."""

from collections.abc import Sequence

from phiproxy.types.casts import FLOATS, NUMBERS, TEXTS, NoCast, NotCast, cast
from phiproxy.types.declared import DeclaredType

_CATEGORIES = {
    **dict.fromkeys(NUMBERS, "number"),
    **dict.fromkeys(TEXTS, "text"),
    **dict.fromkeys(("date", "time", "timetz", "timestamp", "timestamptz"), "time"),
    **dict.fromkeys(("inet", "cidr"), "network"),
}
_PREFERRED = frozenset({"text", "float8", "timestamptz", "inet"})


def shared(types: Sequence[DeclaredType]) -> DeclaredType:
    """Return the type of a column of values of these types, in the order in which PostgreSQL looks at them; NoCast if none."""
    bare = [declared.underlying.unlimited for declared in types]
    type_ = bare[0]
    for other in bare[1:]:
        if _category(type_) != _category(other):
            raise NoCast
        if type_.family not in _PREFERRED and _becomes(type_, other) and not _becomes(other, type_):
            type_ = other
    if not all(_becomes(declared, type_) for declared in bare):
        raise NoCast
    return type_


def _category(declared: DeclaredType) -> str:
    return _CATEGORIES.get(declared.family, declared.family)


def _becomes(one: DeclaredType, other: DeclaredType) -> bool:
    """Tell whether PostgreSQL casts the one to the other unasked."""
    try:
        cast(one, other, "implicit")
    except NoCast:
        return False
    except NotCast:
        return True
    return True


def changes_little(one: DeclaredType, other: DeclaredType) -> bool:
    """Tell whether a value that became the other type first is the same wherever it goes from there: as a text too."""
    one, other = one.underlying, other.underlying
    both = {one.family, other.family}
    return one.unlimited == other.unlimited or both <= NUMBERS - FLOATS or both <= TEXTS - {"bpchar"}
