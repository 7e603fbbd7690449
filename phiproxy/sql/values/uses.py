"""What a parameter or constant of a statement is used for; decided per occurrence (spec/sql 2.3)."""

from phiproxy.frozen import dataclass
from phiproxy.policy.protection import DeclaredType, Form, ProtectedColumn, Slot
from phiproxy.sql.values.bound_paths import OfPath
from phiproxy.sql.values.contained_scalars import Contained
from phiproxy.sql.values.field_containment import REST, ContainedFields
from phiproxy.sql.values.patterns import Like
from phiproxy.sql.values.range_periods import Range


@dataclass(frozen=True, slots=True)
class Given:
    """How the value of an occurrence is read: as ``type``, then converted to ``casts`` in turn.

    ``type`` is None for a parameter's own type, which is known when the plan is compiled. Where each element of an array is used,
    this is about an element.
    """

    type: DeclaredType | None = None
    casts: tuple[DeclaredType, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """The occurrence is stored in a protected column, as an envelope. Occurrences of one ``row`` are stored in one row.

    ``elements``: each element of the array is stored in a row of its own. ``given`` is None where value and column are text.
    ``perhaps``: CASE or COALESCE may not evaluate it, so that it raises no error. ``certain``: it is in a row of INSERT … VALUES,
    so that PostgreSQL checks it as a value of a domain.
    """

    column: ProtectedColumn
    row: int
    elements: bool = False
    given: Given | None = None
    perhaps: bool = False
    certain: bool = False

    @property
    def type(self) -> DeclaredType:
        """The type that the value is stored as."""
        return self.column.type


@dataclass(frozen=True, slots=True)
class Define:
    """The occurrence is a condition over a protected column (``check_conditions``), or the text of its computed ``default``.

    It is sealed, but no value of the column.
    """

    column: ProtectedColumn
    row: int
    default: bool = False


@dataclass(frozen=True, slots=True)
class Renew:
    """The DEFAULT of a protected column, opened and sealed anew for each row. Its occurrence has an empty literal."""

    column: ProtectedColumn
    row: int


@dataclass(frozen=True, slots=True)
class Search:
    """The occurrence is compared with a protected column, by the tag of ``slot``; of an array, by those of its ``elements``.

    ``type`` is the compared type: the column's, or that of the slot's expression. ``chosen``: its value decides which
    index answers. ``range``: it is a bound of a range. ``perhaps``: see Store.
    """

    column: ProtectedColumn
    slot: Slot
    type: DeclaredType
    elements: bool = False
    given: Given | None = None
    chosen: Like | Contained | ContainedFields | OfPath | None = None
    range: Range | None = None
    perhaps: bool = False


@dataclass(frozen=True, slots=True)
class Nullness:
    """Only whether the occurrence is NULL matters: the server gets NULL or a constant bytea."""


@dataclass(frozen=True, slots=True)
class Plain:
    """The occurrence touches nothing protected and is sent as it is."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A parameter that does not occur in the statement: the server gets NULL, whatever its value is."""


ABSENT = Absent()
Use = Store | Define | Renew | Search | Nullness | Plain | Absent


def of_elements(use: Use) -> bool:
    """Tell whether the elements of an array are used."""
    return isinstance(use, Store | Search) and use.elements


def is_upper(use: Use) -> bool:
    """Tell whether it is the upper bound of a range, which is sent with the lower one."""
    return isinstance(use, Search) and use.range is not None and use.range.upper


def sent_as_array(use: Use) -> bool:
    """Tell whether the server gets an array: for the elements of an array, or for the tags of a range."""
    return of_elements(use) or (isinstance(use, Search) and use.range is not None)


def sent_type(use: Use) -> str:
    """Return the type that the server has for what a use gives."""
    return f"{stored_form(use)}[]" if sent_as_array(use) else stored_form(use)


def stored_form(use: Use) -> Form:
    """Return how what a use gives stands on the server: documents with sealed fields, and what is in clear of them, as jsonb."""
    if isinstance(use, Store | Renew):
        return use.column.form
    in_clear = isinstance(use, Search) and isinstance(use.chosen, ContainedFields) and use.chosen.own == REST
    return "jsonb" if in_clear else "bytea"


PLAIN = Plain()
NULLNESS = Nullness()
