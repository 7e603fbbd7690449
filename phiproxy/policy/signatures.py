"""Which functions, operators and casts the server has, and what PostgreSQL takes for what (manual 10.2 to 10.5).

Types go by their oids here; ``UNKNOWN`` is that of a literal without one, None one that is not known. What is asked is always
whether PostgreSQL would surely say no: what is not known may be anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from phiproxy.policy.column_types import by_oid
from phiproxy.types.names import sql_name
from phiproxy.wire.oids import BOOL_OID, INT8_OID, RECORD_OID, TEXT_OID, UNKNOWN_OID, oids

UNKNOWN, BOOL, TEXT, INT8, RECORD = UNKNOWN_OID, BOOL_OID, TEXT_OID, INT8_OID, RECORD_OID
Type = int | None

# Pseudo-types that take anything, an array, or what is none.
_ANYTHING = oids("any", "anyelement", "anycompatible")
_ARRAYS = oids("anyarray", "anycompatiblearray")
_NO_ARRAYS = oids("anynonarray", "anycompatiblenonarray")
# Those that take types of one kind only, by its typtype.
_KINDS = {
    **dict.fromkeys(oids("anyenum"), "e"),
    **dict.fromkeys(oids("anyrange", "anycompatiblerange"), "r"),
    **dict.fromkeys(oids("anymultirange", "anycompatiblemultirange"), "m"),
}
POLYMORPHIC = _ANYTHING | _ARRAYS | _NO_ARRAYS | _KINDS.keys() | {RECORD}
# Of operations, which are few: those of every statement are asked for.
_REMEMBERED = 4096
_ONE_TYPE = oids("anyarray", "anyenum", "anyrange", "anymultirange")
# Of which an argument must say what they are: a literal without a type does not.
ONE_TYPE = oids("anyarray", "anyelement", "anynonarray")


class TypeRow(NamedTuple):
    """One row of pg_type, but for row types: typtype, typcategory; ``element`` of an array, ``base`` of a domain.

    ``extension`` is the one that it belongs to, here and below.
    """

    oid: int
    name: str
    kind: str
    category: str
    preferred: bool
    element: int
    base: int
    array: int
    extension: str = ""


class Function(NamedTuple):
    """One row of pg_proc: ``variadic``: its last argument may be several, ``kind`` is prokind.

    ``volatile`` is provolatile; ``rows``: it gives a set of them.
    """

    arguments: tuple[int, ...]
    defaults: int
    variadic: int
    kind: str
    result: int
    volatile: str = "v"
    rows: bool = False
    extension: str = ""


class Operator(NamedTuple):
    """One row of pg_operator; 0 is the type of an operand that a prefix operator does not have."""

    left: int
    right: int
    result: int
    extension: str = ""


@dataclass(frozen=True)
class Rows:
    """What one reading of the catalogues gave; ``casts`` go from (source, target) to castcontext, ``names`` are the type names."""

    types: Mapping[int, TypeRow]
    casts: Mapping[tuple[int, int], str]
    functions: Mapping[str, tuple[Function, ...]]
    operators: Mapping[str, tuple[Operator, ...]]
    names: frozenset[str] = frozenset()
    collations: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Signatures:
    """The server's own and the database's, whatever their schemas: one of these may be meant."""

    parts: tuple[Rows, ...]
    _operations: dict[tuple[str, Type, Type], list[Operator]] = field(default_factory=dict, compare=False, repr=False)

    def functions(self, name: str) -> tuple[Function, ...]:
        """Return all of this name."""
        return tuple(chain.from_iterable(part.functions.get(name, ()) for part in self.parts))

    def operators(self, name: str) -> tuple[Operator, ...]:
        """Return all of this name."""
        return tuple(chain.from_iterable(part.operators.get(name, ()) for part in self.parts))

    def row(self, oid: Type) -> TypeRow | None:
        """Return what is known of a type."""
        if oid is not None:
            for part in self.parts:
                if oid in part.types:
                    return part.types[oid]
        return None

    def is_type(self, name: str) -> bool:
        """Tell whether there is a type of this name, in any schema."""
        return any(name in part.names for part in self.parts)

    def is_collation(self, name: str) -> bool:
        """Tell whether there is a collation of this name, for any encoding."""
        return any(name in part.collations for part in self.parts)

    def named(self, name: str) -> Type:
        """Return the only type of this name."""
        oids = {row.oid for part in self.parts for row in part.types.values() if row.name == name}
        return oids.pop() if len(oids) == 1 else None

    def array_of(self, oid: Type) -> Type:
        """Return the type of arrays of a type."""
        row = self.row(oid)
        return (row.array or None) if row is not None else None

    def element_of(self, oid: Type) -> Type:
        """Return what is in an array of this type; None where it is none, too."""
        row = self.row(self.base(oid))
        return row.element if row is not None and row.category == "A" else None

    def is_one_column(self, oid: Type) -> bool:
        """Tell whether what gives this type in FROM has one column: a base type, an enum, a range or a multirange."""
        row = self.row(oid)
        return row is not None and row.kind in "berm"

    def base(self, oid: Type) -> Type:
        """Return what a domain is over in the end; of any other type itself."""
        row = self.row(oid)
        while row is not None and row.kind == "d":
            oid = row.base
            row = self.row(oid)
        return oid if row is not None or oid in (UNKNOWN, RECORD) else None

    def shown(self, oid: Type) -> str:
        """Return what PostgreSQL calls a type in its messages (format_type)."""
        declared, row = by_oid(oid or 0), self.row(oid)
        if declared is not None:
            return sql_name(declared)
        if row is None:
            return "record" if oid == RECORD else "unknown"
        return f"{self.shown(row.element)}[]" if row.category == "A" and row.element else row.name

    # -- casts ---------------------------------------------------------------------------------------------------------------

    def result(self, candidates: Sequence[Function | Operator], given: Sequence[Type]) -> Type:
        """Return the type that all of these give for arguments of these types; None where they differ, or it is not known.

        An array is of the one type that all polymorphic arguments are of, or are arrays of (manual 38.2.5): ``tags || $1::text``,
        ``array_append(tags, 'x')``, ``trim_array(tags, 1)``.
        """
        results = {one.result for one in candidates}
        only = results.pop() if len(results) == 1 else None
        if only not in _ARRAYS:
            return None if only in POLYMORPHIC else only
        if len(candidates) == 1 and isinstance(candidates[0], Function) and len(candidates[0].arguments) == len(given):
            given = [one for one, wanted in zip(given, candidates[0].arguments, strict=True) if wanted in POLYMORPHIC]
        if None in given:
            return None
        types = {self.base(one) for one in given if one not in (0, UNKNOWN)}
        elements = {self.element_of(one) or one for one in types}
        if len(elements) != 1:
            return None
        array = self.array_of(elements.pop())
        return array if all(one == array or self.element_of(one) is None for one in types) else None

    def takes(self, target: Type, source: Type, context: str = "i") -> bool:
        """Tell whether a value of ``source`` may become ``target`` (can_coerce_type): ``context`` as in pg_cast."""
        if target is None or source is None or source in (UNKNOWN, target):
            return True
        if target in POLYMORPHIC:
            return self._takes_polymorphic(target, source)
        one, other = self.base(source), self.base(target)
        if one is None or other is None or one == other or self._casts(one, other, context):
            return True
        if self.element_of(one) is not None and self.element_of(other) is not None:
            return self.takes(self.element_of(other), self.element_of(one), context)
        return self._by_text(one, other, context)

    def _casts(self, one: int, other: int, context: str) -> bool:
        order = "iae"
        allowed_in = next((part.casts[one, other] for part in self.parts if (one, other) in part.casts), None)
        return allowed_in is not None and order.index(allowed_in) <= order.index(context)

    def _by_text(self, one: int, other: int, context: str) -> bool:
        """Tell whether a value may go through its text form: into texts by assignment, out of them only explicitly."""
        if context == "i" or RECORD in (one, other):
            return context != "i"
        source, target = self.row(one), self.row(other)
        into, out_of = target is not None and target.category == "S", source is not None and source.category == "S"
        return into or (context == "e" and out_of)

    def _takes_polymorphic(self, target: int, source: int) -> bool:
        row = self.row(self.base(source))
        if target in _ANYTHING or (row is None and source != RECORD):
            return True
        category, kind = (row.category, row.kind) if row is not None else ("", "")
        if target in _ARRAYS or target in _NO_ARRAYS:
            return (category == "A") == (target in _ARRAYS)
        of_itself = self.row(source)  # a domain over an enum is none
        return target != RECORD and kind == _KINDS[target] and (of_itself is None or of_itself.kind == kind)

    # -- candidates ----------------------------------------------------------------------------------------------------------

    def calls(self, name: str, arguments: Sequence[Type]) -> list[Function]:
        """Return the functions of a name that take these arguments."""
        return [f for f in self.functions(name) if self.is_called(f, arguments)]

    def is_called(self, function: Function, arguments: Sequence[Type]) -> bool:
        """Tell whether a function takes these arguments."""
        return any(self._fits(of, arguments) for of in _expanded(function, len(arguments)))

    def own_functions(self, name: str) -> list[Function]:
        """Return those of this name that the server did not come with."""
        return [f for part in self.parts[1:] for f in part.functions.get(name, ())]

    def own_operators(self, name: str) -> list[Operator]:
        """Return those of this name that the server did not come with."""
        return [o for part in self.parts[1:] for o in part.operators.get(name, ())]

    def _fits(self, wanted: Sequence[int], given: Sequence[Type]) -> bool:
        return all(self.takes(target, source) for target, source in zip(wanted, given, strict=True))

    def operations(self, name: str, left: Type, right: Type) -> list[Operator]:
        """Return the operators of a name that take these operands, ``left`` being 0 of a prefix operator."""
        operators = self._operations.get((name, left, right))
        if operators is None:
            operators = self._looked_up(name, left, right)
            if operators and len(self._operations) < _REMEMBERED:
                self._operations[name, left, right] = operators
        return operators

    def _looked_up(self, name: str, left: Type, right: Type) -> list[Operator]:
        operators = self.operators(name)
        if left == 0:
            return [o for o in operators if o.left == 0 and self.takes(o.right, right)]
        fitting = [o for o in operators if o.left and self.takes(o.left, left) and self.takes(o.right, right)]
        return [o for o in fitting if o.left != o.right or o.left not in _ONE_TYPE or self._are_one(left, right)]

    def _are_one(self, left: Type, right: Type) -> bool:
        """Tell whether two types may be one: both operands of anyarray = anyarray are of the same."""
        one, other = self.base(left), self.base(right)
        return None in (one, other) or UNKNOWN in (one, other) or one == other

    def common(self, types: Sequence[Type]) -> tuple[Type, int | None]:
        """Return the type that values of these have in common (select_common_type), or the place of the first that has none."""
        type_: Type = UNKNOWN
        only_known = True
        for offset, one in enumerate(types):
            if one == UNKNOWN:
                continue
            row, so_far = self.row(self.base(one)), self.row(type_)
            if row is None:
                only_known = False
            elif so_far is None or type_ == UNKNOWN:
                type_ = row.oid
            elif row.category != so_far.category:
                return type_, offset
            elif not so_far.preferred and self.takes(row.oid, type_) and not self.takes(type_, row.oid):
                type_ = row.oid
        return (type_ if only_known and type_ != UNKNOWN else TEXT if only_known else None), None


def _expanded(function: Function, count: int) -> Iterator[Sequence[int]]:
    """Yield the types of ``count`` arguments of a function, where it takes so many."""
    wanted = function.arguments
    if len(wanted) - function.defaults <= count <= len(wanted):
        yield wanted[:count]
    if function.variadic and count >= len(wanted) - 1:
        yield (*wanted[:-1], *(function.variadic,) * (count - len(wanted) + 1))
