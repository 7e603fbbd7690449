"""What the analysis finds out about one statement: the vocabulary between ``sql`` and ``plan``.

A *use* is decided per occurrence of a parameter or literal (sql.md section 2); output parameters are derived from these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from phiproxy.policy.catalog import Relation
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.sql.edges import Range
from phiproxy.sql.formula import Formula
from phiproxy.sql.pattern import Like
from phiproxy.wire.copydata import CopyFormat

# The tag of a table made from a query. Its DO block tells the proxy how many rows were made by an INFO of this SQLSTATE, which is
# sent whatever client_min_messages says.
MADE_TABLE = b"CREATE TABLE AS"
COUNT_STATE = "PHI01"


@dataclass(frozen=True, slots=True)
class Given:
    """How the value of an occurrence is read: as ``type`` (None: a parameter's own, which is known when it is compiled), then cast.

    The casts are in the order in which they are done. Of an array of which each element is used, this is said of an element.
    """

    type: DeclaredType | None = None
    casts: tuple[DeclaredType, ...] = ()


@dataclass(frozen=True, slots=True)
class Store:
    """The occurrence is stored in a protected column: it becomes an envelope. ``row`` groups what goes into one row.

    ``elements``: it is an array, each of whose elements is stored in a row of its own. ``given`` is None where value and column are
    both text. ``perhaps``: CASE or COALESCE may not come to it, and so to no error. ``certain``: it stands in a row of INSERT …
    VALUES, so that PostgreSQL judges it as a value of a domain.
    """

    column: ProtectedColumn
    row: int
    elements: bool = False
    given: Given | None = None
    perhaps: bool = False
    certain: bool = False

    @property
    def type(self) -> DeclaredType:
        """What the value must be in the end."""
        return self.column.type


@dataclass(frozen=True, slots=True)
class Define:
    """The occurrence is a condition over a protected column (policy.conditions): it is sealed, and never a value of the column."""

    column: ProtectedColumn
    row: int


@dataclass(frozen=True, slots=True)
class Renew:
    """The DEFAULT of a protected column, for one row: it is opened and sealed again. Its occurrence has an empty literal."""

    column: ProtectedColumn
    row: int


@dataclass(frozen=True, slots=True)
class Search:
    """The occurrence is compared with a protected column: it becomes the tag of ``slot``; of an array, each of its ``elements``.

    ``type`` is what it is compared with: the column's type, or that of the slot's expression. ``like``: it is a pattern, ``range``:
    an end of a range. ``perhaps``: see Store.
    """

    column: ProtectedColumn
    slot: Slot
    type: DeclaredType
    elements: bool = False
    given: Given | None = None
    like: Like | None = None
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
    """A parameter that does not occur in the statement: whatever its value is, the server gets NULL."""


ABSENT = Absent()
Use = Store | Define | Renew | Search | Nullness | Plain | Absent


def of_elements(use: Use) -> bool:
    """Tell whether a use is that of an array's elements."""
    return isinstance(use, Store | Search) and use.elements


def is_upper(use: Use) -> bool:
    """Tell whether a use is that of a range's upper end, which goes to the server with the lower one."""
    return isinstance(use, Search) and use.range is not None and use.range.upper


def sent_as_array(use: Use) -> bool:
    """Tell whether the server gets an array: of what is made of an array's elements, or of the tags of a range."""
    return of_elements(use) or (isinstance(use, Search) and use.range is not None)


PLAIN = Plain()
NULLNESS = Nullness()


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One parameter (``number`` from 1) or one string literal (``literal``, decoded) at ``start:end`` of the client's text.

    ``type_oid`` is the type that PostgreSQL would give a parameter here (0: this place says nothing), ``order`` the place of this
    occurrence in the order in which PostgreSQL looks at them: the first that says something decides. Those of a ``group`` are all
    seen before one without a ``cast`` is given the type of its place. ``lead`` and ``trail`` stand
    around what is put into a place where the client has nothing. ``formula``: it is an expression with parameters, ``computed``:
    one of constants, whose value is the literal. ``other`` is the upper end of the range whose lower end this is, once these have
    found each other.
    """

    start: int
    end: int
    use: Use
    number: int = 0
    literal: bytes | None = None
    type_oid: int = 0
    order: int = 0
    group: int = 0
    cast: bool = False
    lead: bytes = b""
    trail: bytes = b""
    formula: Formula | None = None
    other: Occurrence | None = None
    computed: Formula | None = None

    @property
    def null(self) -> bool:
        """Tell whether it is NULL, which is written into the server's statement."""
        return not self.number and self.literal is None and self.formula is None

    @property
    def numbers(self) -> frozenset[int]:
        """The parameters that it is made of."""
        formula = frozenset(p.number for p in self.formula.parameters()) if self.formula is not None else frozenset()
        return formula | {self.number} if self.number else formula


@dataclass(frozen=True, slots=True)
class End:
    """One end of a range: the client's parameter ``number``, from 0, or a constant; NULL where it is neither."""

    use: Search
    number: int = -1
    literal: bytes | None = None


@dataclass(frozen=True, slots=True)
class EndPair:
    """Where a parameter of the server comes from that has the tags of a range."""

    lower: End
    upper: End

    def numbers(self) -> Iterator[int]:
        """Yield the client's parameters in it, from 0."""
        return (end.number for end in (self.lower, self.upper) if end.number >= 0)


Source = bytes | Formula | EndPair | None
"""Where a parameter of the server comes from, beside one of the client's: a constant, an expression, the ends of a range."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``start:end`` of the client's text (byte offsets) by ``text``."""

    start: int
    end: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Reveal:
    """An output column whose values are envelopes of ``column``, shown as ``type``; ``cast``: no longer as the table's column.

    ``origin`` is the (table OID, attnum) that the client is told, where the server may not know it any more. ``planned`` is the
    type of which a result or a portal tells, where a statement that is only described tells of another.
    """

    column: ProtectedColumn
    type: DeclaredType
    cast: bool = False
    origin: tuple[int, int] | None = None
    planned: DeclaredType | None = None

    @property
    def typed(self) -> bool:
        """Tell whether it is shown as the session's settings say."""
        return not self.type.is_text or self.column.shown_of is not None


@dataclass(frozen=True, slots=True)
class CopyMeaning:
    """A COPY whose data holds protected columns: ``reveals`` has one entry per field of a row, in the order of ``columns``.

    ``table`` is empty for COPY (query). ``skips_errors``: ON_ERROR ignore. ``added`` are columns that the client leaves
    out: the server gets their defaults behind the client's fields.
    """

    table: str
    columns: tuple[str, ...]
    reveals: tuple[Reveal | None, ...]
    form: CopyFormat
    incoming: bool
    skips_errors: bool
    added: tuple[tuple[str, ProtectedColumn], ...] = ()

    @property
    def typed(self) -> bool:
        """Tell whether what is not text is among its fields."""
        return any(r is not None and r.typed for r in self.reveals)


class Revealing(Protocol):
    """The result columns of a plan."""

    @property
    def reveals(self) -> tuple[Reveal | None, ...]:
        """One entry per column."""


class PlannedStatement(Protocol):
    """What the analysis must know of a statement that has a plan already (``plan.statement.StatementPlan``)."""

    sql: bytes
    identity: bool
    inputs: int
    outputs: tuple[tuple[Use, int, Source], ...]
    described: tuple[int | None, ...]
    touches: bool
    plain_select: bool
    edits: tuple[tuple[int, int, int], ...]
    effects: Effects

    @property
    def columns(self) -> Revealing | None:
        """Its result columns, where something protected is among them."""


class SessionNames(Protocol):
    """What the analysis asks of the session whose statement it is."""

    def statement(self, name: str) -> PlannedStatement | None:
        """Return the prepared statement of this name, right for the present."""

    def portal(self, name: str) -> tuple[Reveal | None, ...] | None:
        """Return the columns of the cursor of this name, where something protected is among them."""

    def plan(self, text: bytes, oids: tuple[int, ...]) -> PlannedStatement:
        """Plan the statement of a PREPARE, or SQL that is given as text."""

    @property
    def catalog_changed(self) -> bool:
        """Tell whether a statement before in the same string may have changed the catalogue."""


Kind = Literal["select", "write", "explain", "other"]


@dataclass(slots=True)
class Effects:
    """What a statement does to the session beyond its result (sql.md section 2).

    ``path``: the schemas of a constant search_path, which is else unknown. ``styles_changed``: it may change how values are
    spelled. ``transaction``: it may take back what was set before.
    ``relations`` are those that it makes, for the statements behind it in the same text; ``reaches`` are names through which
    something protected is reached from now on; ``tag`` is the command tag of DDL in the client's terms; ``names_protected`` says
    that a statement that goes on as it is names something protected; ``encoding``: client_encoding or
    standard_conforming_strings may be another one behind it. ``code``: what it makes may change the session as it does itself, by
    code that it has or runs.
    """

    path_unknown: bool = False
    styles_changed: bool = False
    path: tuple[str, ...] | None = None
    catalog_changed: bool = False
    prepares: str | None = None
    deallocates: str | None = None
    deallocates_all: bool = False
    executes: str | None = None
    fetches: str | None = None
    declares: str | None = None
    holds: bool = False
    binary: bool = False
    closes: str | None = None
    closes_all: bool = False
    transaction: bool = False
    created: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    reaches: tuple[str, ...] = ()
    tag: bytes = b""
    names_protected: bool = False
    encoding: bool = False
    code: bool = False

    def sets_as(self, other: Effects) -> None:
        """Note that it changes the path, styles and encoding as another statement does, which it runs."""
        self.path_unknown |= other.path_unknown
        self.styles_changed |= other.styles_changed
        self.encoding |= other.encoding


@dataclass(slots=True)
class Meaning:
    """One statement, understood.

    ``room`` is where its comments may stand (see Statement).
    ``outputs`` is one entry per result column (None: nothing protected), or None where the columns are not known because
    nothing protected can be among them. ``touches`` says whether anything protected is read, searched or written.
    ``numbers`` are those of the parameters that occur; ``by_value``: two literals that are equal decided something;
    ``plain_select`` says that running it changed nothing,
    ``takes_parameters`` that the extended protocol may give it some. ``bound``: it means this in this session and at this moment
    only. ``generic``: it asks for a plan that fits all values, so that parameters need none, in the simple protocol either.
    ``prepared`` is the plan of what PREPARE prepares, with its types, ``cursor`` the columns of what DECLARE declares.
    ``tree`` is what the server sees where that may be of another kind, of a ``definition`` with all values sealed into its
    text. ``kept`` is for what the plan makes of ``outputs``: every text of the shape has the same.
    """

    kind: Kind
    start: int
    end: int
    room: tuple[int, int] = (0, 0)
    touches: bool = False
    edits: list[Edit] = field(default_factory=list)
    occurrences: list[Occurrence] = field(default_factory=list)
    outputs: tuple[Reveal | None, ...] | None = None
    effects: Effects = field(default_factory=Effects)
    plain_select: bool = False
    numbers: frozenset[int] = frozenset()
    by_value: bool = False
    copy: CopyMeaning | None = None
    takes_parameters: bool = True
    bound: bool = False
    generic: bool = False
    prepared: tuple[PlannedStatement, tuple[int, ...]] | None = None
    cursor: tuple[Reveal | None, ...] | None = None
    tree: dict[str, Any] | None = None
    definition: bool = False
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def unforeseen(self) -> bool:
        """Tell whether it is DDL over something protected that the analysis of what stands behind it does not follow."""
        return self.effects.catalog_changed and self.touches and self.effects.tag not in _FORESEEN


_FORESEEN = (b"CREATE TABLE", b"CREATE TABLE AS", b"CREATE INDEX")
