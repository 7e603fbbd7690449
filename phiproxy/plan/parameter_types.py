"""The types that PostgreSQL would give the parameters of a statement: by where it looks at them first (parse_param.c)."""

from collections.abc import Sequence

from phiproxy.errors import AmbiguousParameter, StatementRefused
from phiproxy.sql.expressions.error_positions import ambiguous_unnest
from phiproxy.sql.result import Occurrence
from phiproxy.sql.text.parse import char_position
from phiproxy.sql.values.uses import Search, Store, of_elements
from phiproxy.wire.oids import TEXT_LIKE

# The group and row of what is looked at in one go, or the order of what is looked at by itself.
Together = tuple[int, int, int]


def deduced(text: bytes, occurrences: Sequence[Occurrence], declared: Sequence[int]) -> dict[int, int]:
    """Return the type OID that PostgreSQL would deduce for each protected parameter; AmbiguousParameter where it could not."""
    deduction = _Deduction(text, {number: oid for number, oid in enumerate(declared, start=1) if oid})
    for together, o in _as_looked_at(occurrences):
        if o.formula is not None:
            deduction.in_formula(o, together)
        elif o.number and o.type_oid:
            deduction.in_place(o, together)
        elif o.number:
            deduction.without_type(o)
    return deduction.types


def _as_looked_at(occurrences: Sequence[Occurrence]) -> list[tuple[Together, Occurrence]]:
    """Return the occurrences in the order in which types are given.

    The values of a row, and what is compared, are all looked at before the first of them is given the type of its place; what is in
    expressions has its type by then.
    """
    keyed = [(_together(o), o) for o in occurrences]
    first: dict[Together, int] = {}
    for together, o in keyed:
        first[together] = min(o.order, first.get(together, o.order))
    return sorted(keyed, key=lambda each: (first[each[0]], each[1].formula is None, each[1].order))


def _together(o: Occurrence) -> Together:
    row = o.use.row if isinstance(o.use, Store) and not o.group else 0
    return (o.group, row, 0) if o.group or row else (0, 0, o.order)


class _Deduction:
    """What is known so far. ``given`` are the types of places without a cast that gave a parameter its type.

    ``expressions``: where, in what is looked at in one go, a parameter got its type from an expression; ``cast``: from a cast;
    ``choices``: where it stands in CASE or COALESCE.
    """

    def __init__(self, text: bytes, declared: dict[int, int]) -> None:
        self.types = dict(declared)
        self._text = text
        self._declared = frozenset(declared)
        self._in_formulas: dict[int, int] = {}
        self._given: dict[tuple[int, Together], int] = {}
        self._expressions: dict[tuple[int, Together], int] = {}
        self._choices: set[tuple[int, Together]] = set()
        self._cast: dict[tuple[int, Together], int] = {}

    def in_formula(self, o: Occurrence, together: Together) -> None:
        """Take the types of an expression's parameters; StatementRefused where a place before it gave another one than a text."""
        for parameter in o.formula.parameters() if o.formula is not None else ():
            number, oid = parameter.number, parameter.type_oid
            self._note_choice(o, (number, together))
            before = self.types.get(number, oid)
            other = before != oid and before not in TEXT_LIKE and number not in self._declared
            if other or self._in_formulas.setdefault(number, oid) != oid:
                raise StatementRefused(
                    f"parameter ${number} has two types in expressions for protected columns",
                    hint="Cast it to the same type in each place.",
                    position=char_position(self._text, o.start),
                )
            if number not in self.types:
                self.types[number] = oid
                self._expressions[number, together] = o.order

    def in_place(self, o: Occurrence, together: Together) -> None:
        """Take the type of a parameter's place."""
        key = o.number, together
        untyped = o.number not in self.types or o.order < self._expressions.get(key, -1)
        if untyped and not o.cast:
            self._given[key] = o.type_oid
        conflicts = self._given.get(key, o.type_oid) != o.type_oid
        conflicts = conflicts or (untyped and not o.cast and self.types.get(o.number, o.type_oid) != o.type_oid)
        self._note_choice(o, key)
        if o.cast and untyped:
            self._cast[key] = o.type_oid
        behind_cast = not o.cast and self._cast.get(key, o.type_oid) != o.type_oid
        if (conflicts or behind_cast) and key in self._choices:
            # What CASE or COALESCE makes of one of them before PostgreSQL looks at the other is not known here.
            raise StatementRefused(
                f"parameter ${o.number} stands twice in one comparison, as values of two types",
                hint="Cast it in each place.",
                position=char_position(self._text, o.start),
            )
        if conflicts:
            raise AmbiguousParameter(
                f"inconsistent types deduced for parameter ${o.number}",
                hint="Cast it in each place.",
                position=char_position(self._text, o.start),
            )
        self.types.setdefault(o.number, o.type_oid)

    def _note_choice(self, o: Occurrence, key: tuple[int, Together]) -> None:
        if isinstance(o.use, Search | Store) and o.use.perhaps:
            self._choices.add(key)

    def without_type(self, o: Occurrence) -> None:
        """Refuse a place that gives a parameter no type, where nothing before it does."""
        if o.number in self.types:
            return
        if of_elements(o.use):
            raise ambiguous_unnest(self._text, o.start)
        raise AmbiguousParameter(
            f"could not determine data type of parameter ${o.number}",
            hint=f"Write ${o.number}::text IS NULL.",
            position=char_position(self._text, o.start),
        )
