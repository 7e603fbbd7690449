"""What an expression's value is, and its type: clear, an envelope, or a column of given values, as of VALUES or unnested arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field, replace
from typing import NamedTuple

from phiproxy.errors import DatatypeMismatch
from phiproxy.frozen import dataclass
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.policy.subject_columns import SubjectKind
from phiproxy.policy.view_rests import ViewRest
from phiproxy.sql.text.parse import Node, only
from phiproxy.sql.values.operands import Operand, cast_type
from phiproxy.sql.values.type_resolution import Part, Type


@dataclass(frozen=True, slots=True, eq=False)
class About:
    """A relation of FROM, or the target of a write, whose rows are each about a subject. Each occurrence is an object of its own.

    ``label`` is the column that says whom, ``name`` its name, ``kind`` how its values are spelled (``policy.subject_columns``),
    None for a type that is not known for that. ``columns`` are those of the relation, in their order; ``body`` is the RangeVar. A
    view has one for each relation in it that has a subject; ``name`` is empty where none of the view's columns is that.
    """

    label: str
    name: str
    kind: SubjectKind | None
    columns: tuple[str, ...]
    body: Node = field(repr=False)


class Clear:
    """A value that holds nothing protected. ``type`` is the (OID, typmod) of a table's column, else None.

    ``computed``: it is an expression to which a query gives a name. ``about``: it is the column that says whom a row of these
    relations is about; of several where a set operation has rows of each.
    """

    __slots__ = ("about", "computed", "type")

    def __init__(self, type_: tuple[int, int] | None = None, *, computed: bool = False, about: tuple[About, ...] = ()) -> None:
        self.type = type_
        self.computed = computed
        self.about = about


CLEAR = Clear()


@dataclass(frozen=True, slots=True)
class Protected:
    """A value that is an envelope of ``column``, shown to the client as ``type``.

    ``cast``: it is no longer the table's column. ``origin`` is the (table OID, attnum) that RowDescription names. ``planned`` is
    the type that PostgreSQL gives it once the statement is planned, where that differs. ``tags`` are the (slot number, name) of the
    generated columns beside it. ``about``: it is the column that says whom a row is about.
    """

    column: ProtectedColumn
    type: DeclaredType
    cast: bool = False
    origin: tuple[int, int] | None = None
    planned: DeclaredType | None = None
    tags: tuple[tuple[int, str], ...] = ()
    about: tuple[About, ...] = field(default=(), compare=False)

    def stored_tag(self, slot: Slot) -> str | None:
        """Return the name of the generated column that holds a tag of the table's column, or None."""
        return dict(self.tags).get(slot.number)


@dataclass(frozen=True, slots=True)
class Stored:
    """A column of given values is stored in ``column``, after conversion to ``steps``.

    ``part`` numbers the part of the statement that stores it.
    """

    column: ProtectedColumn
    part: int
    steps: tuple[DeclaredType, ...] = ()


@dataclass(frozen=True, slots=True)
class Searched:
    """A column of given values is compared with ``column`` where ``node`` refers to it, after conversion to ``steps``.

    ``output`` is the position of the reference among the ``width`` columns of a subquery.
    """

    column: ProtectedColumn
    slot: Slot
    node: Node
    output: int = 0
    width: int = 1
    steps: tuple[DeclaredType, ...] = ()


@dataclass(frozen=True, slots=True)
class Combined:
    """A column of given values forms one value with ``column``, in UNION ALL, CASE or COALESCE, after conversion to ``steps``."""

    column: ProtectedColumn
    steps: tuple[DeclaredType, ...] = ()


class Shown:
    """A column of given values is a result of the statement."""

    __slots__ = ()


SHOWN = Shown()


User = Stored | Searched | Combined | Shown | None


@dataclass(slots=True)
class ListGroup:
    """The columns of one VALUES list, or of the values that one SELECT lists.

    The values of one row are stored in one row, and so sealed together, unless several parts of the statement (``stored_by``) store
    them or something refers to the list twice (``references``).
    """

    references: int = 1
    stored_by: set[int] = field(default_factory=set)


@dataclass(slots=True)
class ListColumn:
    """A column of given values, as of VALUES or ``SELECT $1`` in FROM. Its users decide what becomes of the values (taint).

    ``entries`` are the values, None for an expression that the server computes, and ``rows`` the numbers of their rows. ``users``
    refer to the column: each is a protected use, or None for any other. ``casts`` are around references to the column, and go once
    the values are protected; ``recasts`` are those of ``ARRAY[…]``, which become casts to bytea[] then. ``group`` is the list that
    it belongs to. ``parts`` are the columns that UNION ALL joins in it, or the one that is cast to ``cast_to``. ``became`` is the
    protected column that the values meet, once that is decided. ``of_values``: it is a column of VALUES or a subquery, which is
    text where nothing gives it a type. ``seen`` uses were recorded before it: PostgreSQL gives types to parameters in this order.
    ``unnamed``: it stands in a set operation, whose first query names the columns.
    """

    entries: list[Operand | None]
    rows: list[int]
    users: list[User] = field(default_factory=list)
    casts: list[Node] = field(default_factory=list)
    recasts: list[Node] = field(default_factory=list)
    group: ListGroup = field(default_factory=ListGroup)
    parts: tuple[ListColumn, ...] = ()
    became: ProtectedColumn | None = None
    cast_to: tuple[DeclaredType, ...] = ()
    of_values: bool = False
    seen: int = 0
    unnamed: bool = False

    def store(self, column: ProtectedColumn, part_number: int, steps: tuple[DeclaredType, ...] = ()) -> None:
        """Note that the values are stored in a protected column."""
        self.users.append(Stored(column, part_number, steps))
        for part in self.leaves():
            part.group.stored_by.add(part_number)

    def leaves(self) -> Iterator[ListColumn]:
        """Yield the columns that have entries of their own."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


Value = Clear | Protected | ListColumn


class ViewColumns(NamedTuple):
    """The columns of a view, and the relations in its query whose rows are each about a subject.

    ``rest``: it is a view over expressions, and this computes what the server does not; ``sealed`` is that rest as it stands there.
    """

    values: tuple[Value, ...]
    about: tuple[About, ...] = ()
    rest: ViewRest | None = None
    sealed: bytes = b""


def list_groups(values: Iterable[Value]) -> list[ListGroup]:
    """Return the groups of given values among these values, each once."""
    groups = {id(leaf.group): leaf.group for value in values if isinstance(value, ListColumn) for leaf in value.leaves()}
    return list(groups.values())


def about_nobody(value: Value) -> Value:
    """Return the value of an expression, which no longer says whom a row is about."""
    return about_instead(value, ()) if about_whom(value) else value


def about_instead(value: Value, about: tuple[About, ...]) -> Value:
    """Return a value as one that says whom the rows of these relations are about."""
    if isinstance(value, Clear):
        return Clear(value.type, computed=value.computed, about=about)
    return replace(value, about=about) if isinstance(value, Protected) else value


def about_whom(value: Value) -> tuple[About, ...]:
    """Return the relations of whose rows a value says whom they are about."""
    return () if isinstance(value, ListColumn) else value.about


def group_key(value: Value, expression: str | None = None) -> tuple[int, str]:
    """Return the key of a value, or of an expression of it, in ``Scope.grouped``."""
    own = value.column.expression if isinstance(value, Protected) else ""
    return id(value), own if expression is None else expression


Output = tuple[str | None, Value]


def as_they_are(values: Iterable[Value]) -> None:
    """Note that given values among these are used for something that protects nothing."""
    for value in values:
        if isinstance(value, ListColumn):
            value.users.append(None)


def as_text(values: Iterable[Value]) -> None:
    """Note that given values among a subquery's outputs are text where nothing gives them a type."""
    for value in values:
        if isinstance(value, ListColumn):
            value.of_values = True


def own_value(value: Value) -> Value:
    """Return a value of its own: two outputs may show one column, and the query may be grouped by only one of them."""
    if isinstance(value, Clear):
        return Clear(value.type, computed=value.computed, about=value.about)
    return replace(value, tags=()) if isinstance(value, Protected) else value


Entry = tuple[int, int]
"""The ``id`` of a column that holds values, and the number of one of these."""


def type_of(column: ListColumn) -> Type:
    """Return the type of a column; None where nothing gives it one, or its values have none in common."""
    try:
        return part_of(column, {}).resolve()
    except DatatypeMismatch:
        return None  # the server says so, or what becomes of the column


def part_of(column: ListColumn, entries: dict[Entry, Part]) -> Part:
    """Return a column as an unresolved part, and note in ``entries`` the part of each of its values."""
    if column.parts:
        parts = [part_of(part, entries) for part in column.parts]
        return Part(parts=parts, merges=len(parts) > 1, casts=column.cast_to, settles=column.of_values)
    own = [Part(entry.value_type if entry is not None else None) for entry in column.entries]
    entries.update({(id(column), number): part for number, part in enumerate(own)})
    arrays = (cast_type(only(cast)[1]) for cast in reversed(column.recasts))  # ARRAY[…]::text[] converts its elements
    elements = tuple(declared.element for declared in arrays if declared is not None and declared.element is not None)
    # One row of VALUES is resolved as many are; a value that a SELECT lists alone may get its type further out.
    return Part(parts=own, merges=not elements and (len(own) > 1 or column.of_values), casts=elements, settles=column.of_values)


def conversions(
    column: ListColumn, steps: Sequence[DeclaredType], last: DeclaredType
) -> tuple[dict[Entry, tuple[DeclaredType, ...]], DeclaredType]:
    """Return the types that each value of a column is converted to before it is used, and the type of all by then.

    ``steps`` are the types that the column is converted to after its own; ``last`` is the type as which it is read where nothing
    gives it one. Raises what ``Part.resolve`` raises.
    """
    entries: dict[Entry, Part] = {}
    whole = part_of(column, entries)
    last_type = whole.resolve()
    for to in steps if last_type is not None or steps else (last,):
        whole.become(to)
        last_type = to
    assert last_type is not None
    return {entry: tuple(part.steps) for entry, part in entries.items()}, last_type
