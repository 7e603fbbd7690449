"""What becomes of one statement (``Outcome``), between ``sql`` and ``plan``: the server answers it, or a part, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any, Literal, NamedTuple, Protocol, Self

from phiproxy.effects import Effects
from phiproxy.errors import StatementRefused, ValueRefused
from phiproxy.frozen import dataclass
from phiproxy.policy.protection import DeclaredType, ProtectedColumn
from phiproxy.policy.subject_columns import SubjectKind
from phiproxy.sql.text.edited_tree import EditedTree
from phiproxy.sql.values.formula import Formula
from phiproxy.sql.values.uses import Search, Use
from phiproxy.wire.copy_rows import CopyFormat


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One parameter or constant of the client's text that becomes something else, or one value that is added to the text."""

    start: int
    """Where it begins in the text, in bytes."""
    end: int
    """Where it ends, excluded; ``start`` where the client has nothing."""
    use: Use
    """What it is used for."""
    number: int = 0
    """The number of the parameter, from 1; 0 of anything else."""
    literal: bytes | None = None
    """The value of a constant, decoded; None of a parameter and of NULL."""
    type_oid: int = 0
    """The type that PostgreSQL would give a parameter here; 0 where this place says nothing."""
    order: int = 0
    """Its place in the order in which PostgreSQL looks at them: the first that says something of a parameter's type decides."""
    group: int = 0
    """Those of a group are all looked at before one without a ``cast`` is given the type of its place."""
    cast: bool = False
    """Whether a cast says its type."""
    lead: bytes = b""
    """What is put before it, where the client has nothing."""
    trail: bytes = b""
    """What is put behind it."""
    formula: Formula | None = None
    """The expression with parameters that it is."""
    other: Occurrence | None = None
    """The upper bound of the range whose lower bound this is, once the two were put together."""
    computed: Formula | None = None
    """The expression of constants that it is; its value is the literal."""

    def at(self, start: int, end: int, literal: bytes | None) -> Occurrence:
        """Return the same of another text, with its value; written out, since it is done for every constant of every text."""
        return Occurrence(
            start, end, self.use, self.number, literal, self.type_oid, self.order, self.group, self.cast, self.lead, self.trail,
            self.formula, self.other, self.computed,
        )  # fmt: skip

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
class Bound:
    """One end of a range: the client's parameter ``number``, from 0, or a constant; NULL where it is neither."""

    use: Search
    number: int = -1
    literal: bytes | None = None


@dataclass(frozen=True, slots=True)
class BoundPair:
    """Where a parameter of the server comes from that has the tags of a range."""

    lower: Bound
    upper: Bound

    def numbers(self) -> Iterator[int]:
        """Yield the client's parameters in it, from 0."""
        return (end.number for end in (self.lower, self.upper) if end.number >= 0)


Source = bytes | Formula | BoundPair | None
"""Where a parameter of the server comes from, beside one of the client's: a constant, an expression, the bounds of a range."""


class Edit(NamedTuple):
    """Replace ``start:end`` of the client's text (byte offsets) by ``text``."""

    start: int
    end: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Reveal:
    """An output column whose values are envelopes, which the proxy opens."""

    column: ProtectedColumn
    """The column that they are envelopes of."""
    type: DeclaredType
    """The type as which they are shown."""
    cast: bool = False
    """Whether it is no longer the table's column to the client."""
    origin: tuple[int, int] | None = None
    """The (table OID, attnum) that the client is told, where the server may not know it any more."""
    planned: DeclaredType | None = None
    """The type of which a result or a portal tells, where a statement that is only described tells of another."""

    @property
    def typed(self) -> bool:
        """Tell whether it is shown as the session's settings say."""
        return not self.type.is_text or self.column.shown_of is not None


@dataclass(frozen=True, slots=True)
class ProtectedCopy:
    """A COPY whose data holds protected columns."""

    table: str
    """The table; empty for COPY (query)."""
    columns: tuple[str, ...]
    """The columns, in the order of the fields of a row."""
    reveals: tuple[Reveal | None, ...]
    """One entry per column."""
    form: CopyFormat
    """How the data is spelled."""
    incoming: bool
    """Whether it is COPY FROM."""
    skips_errors: bool
    """Whether rows that do not fit are skipped (ON_ERROR ignore)."""
    about: tuple[Subject, ...] = ()
    """How it is known whom its rows are about."""
    added: tuple[tuple[str, ProtectedColumn], ...] = ()
    """Columns that the client leaves out: the server gets their defaults behind the client's fields."""

    @property
    def typed(self) -> bool:
        """Tell whether what is not text is among its fields."""
        return any(r is not None and r.typed for r in self.reveals)


@dataclass(frozen=True, slots=True)
class Given:
    """A value of the client's: the parameter ``number``, the ``constant`` of that number in its text's shape, or a ``literal``.

    It begins at ``start`` in the text that was analysed, in bytes.
    """

    number: int = 0
    constant: int = -1
    literal: bytes = b""
    start: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Subject:
    """How it is known whom the rows of one relation of a statement are about.

    From the result column ``output``, or from what was ``given``; not at all where it is neither.
    """

    label: str
    """The column that says whom."""
    kind: SubjectKind = "text"
    """How its values are spelled."""
    output: int = -1
    """The position of the result column that is it; -1 where none is."""
    given: tuple[Given, ...] = ()
    """The only values that the column has in the rows that are read or stored."""


class Revealing(Protocol):
    """The result columns of a plan."""

    @property
    def reveals(self) -> tuple[Reveal | None, ...]:
        """One entry per column."""

    @property
    def about(self) -> tuple[Subject, ...]:
        """How it is known whom the rows are about."""


class PlannedStatement(Protocol):
    """What the analysis must know of a statement that has a plan already (``plan.statement_plan.StatementPlan``)."""

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
    def computed(self) -> bool:
        """Tell whether the engine has a part in it."""

    @property
    def columns(self) -> Revealing | None:
        """Its result columns, where something protected is among them."""


class SessionNames(Protocol):
    """What the analysis asks of the session whose statement it is."""

    def statement(self, name: str) -> PlannedStatement | None:
        """Return the prepared statement of this name, right for the present."""

    def portal(self, name: str) -> Revealing | None:
        """Return the columns of the cursor of this name, where something protected is among them."""

    def plan(self, text: bytes, oids: tuple[int, ...]) -> PlannedStatement:
        """Plan the statement of a PREPARE, or SQL that is given as text."""

    @property
    def catalog_changed(self) -> bool:
        """Tell whether a statement before in the same string may have changed the catalogue."""


Kind = Literal["select", "write", "explain", "other"]


@dataclass(slots=True)
class Answered:
    """A statement that the server answers by itself, and what is sealed, searched and opened for it."""

    kind: Kind
    """What kind of statement it is."""
    start: int
    """Where it begins in the text, in bytes."""
    end: int
    """Where it ends, excluded."""
    room: tuple[int, int] = (0, 0)
    """Where its comments may stand: from the end of the statement before to the start of the next."""
    touches: bool = False
    """Whether anything protected is read, searched or written."""
    edits: list[Edit] = field(default_factory=list)
    """What is replaced in the text, whatever the values are."""
    occurrences: list[Occurrence] = field(default_factory=list)
    """The parameters and constants that become something else."""
    outputs: tuple[Reveal | None, ...] | None = None
    """One entry per result column, None for one that is not protected; None where nothing protected can be among the columns."""
    effects: Effects = field(default_factory=Effects)
    """What it does to the session."""
    plain_select: bool = False
    """Whether running it changes nothing."""
    numbers: frozenset[int] = frozenset()
    """The numbers of the parameters that occur in it."""
    by_value: bool = False
    """Whether the value of a constant decided something beyond its own use."""
    copy: ProtectedCopy | None = None
    """The data of a COPY."""
    takes_parameters: bool = True
    """Whether the extended protocol may give it parameters."""
    bound: bool = False
    """Whether all this is so in this session and at this moment only."""
    generic: bool = False
    """Whether it asks for a plan that fits all values, so that parameters need none, in the simple protocol either."""
    prepared: tuple[PlannedStatement, tuple[int, ...]] | None = None
    """The plan of what PREPARE prepares, with its declared types."""
    cursor: tuple[Reveal | None, ...] | None = None
    """The columns of what DECLARE declares."""
    view: tuple[Reveal | None, ...] = ()
    """The columns of what CREATE VIEW defines, where any may be protected."""
    definition: bool = False
    """Whether it is DDL, with all values sealed into its text."""
    computed: bytes = b""
    """Of CREATE VIEW over what only an engine computes: its query, where it stands in the text, with blanks for the rest."""
    cacheable: bool = True
    """Whether the plan, or one for another text of its shape, may be used again."""
    subjects: tuple[Subject, ...] = ()
    """How it is known whom the rows are about, for each relation that has a subject."""
    tree: EditedTree | None = field(default=None, compare=False, repr=False)
    """The tree that the server's text must parse to, until that was proved."""
    shared: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """For what the plan makes of ``outputs``: the answers to all texts of a shape have the same dict."""

    @property
    def unforeseen(self) -> bool:
        """Tell whether it is DDL over something protected that the analysis of what stands behind it does not follow."""
        return self.effects.catalog_changed and self.touches and self.effects.tag not in _FORESEEN


_FORESEEN = (b"CREATE TABLE", b"CREATE TABLE AS", b"CREATE INDEX")


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column of the source, as the engine is given its opened values."""

    type: DeclaredType
    """The type of the values, as the catalogue has it: of a domain the domain."""
    typmod: int = -1
    """Its modifier."""
    collation: str = ""
    """Its collation as SQL, where it is another than that of its type."""


class RowType(NamedTuple):
    """The type of the rows of a table or view: its OID, and its columns as clients see them."""

    oid: int
    schema: str
    name: str
    columns: tuple[tuple[str, SourceColumn], ...]


Span = tuple[int, int, int]
"""What stands in a text as in the client's: its start and end there, and its start in the client's text (bytes)."""


@dataclass(frozen=True, slots=True)
class Rest:
    """A SELECT of the client's that the engine runs. Between each two of ``parts`` stands the source, an item of FROM.

    SELECT id FROM patients WHERE full_name LIKE '%son' ORDER BY full_name
    → rest: SELECT id FROM (SELECT s.c1, s.c2 FROM {} AS s) AS patients (id, full_name)
      WHERE full_name LIKE '%son' ORDER BY full_name
    """

    parts: tuple[bytes, ...]
    """The text around the source, whose columns are called c1, c2 … in it; its parameters are $1, $2 …."""
    parameters: tuple[int, ...] = ()
    """Of its $1, $2 … the numbers of the client's parameters, from 1."""
    spans: tuple[Span, ...] = ()
    """What stands in it as in the client's text, in the joined parts."""


class Origin(NamedTuple):
    """What the client is told of where a result column comes from: the OID of its table, and its attnum.

    Of a row of the table that is 0, and ``row_type`` the OID of its type; else that is 0.
    """

    table: int
    number: int
    row_type: int = 0


class Waiting(NamedTuple):
    """Values that no index answers: the ``numbers`` of parameters, from 1, and the values of ``constants``."""

    numbers: frozenset[int] = frozenset()
    constants: frozenset[bytes] = frozenset()

    def both(self, other: Waiting) -> Self:
        """Return these and others."""
        return type(self)(self.numbers | other.numbers, self.constants | other.constants)


Around = Literal["", "copy", "cursor", "explain"]
"""COPY (query) TO, DECLARE CURSOR FOR query, EXPLAIN query."""


@dataclass(frozen=True, slots=True)
class SplitWrite:
    """The write of a split statement, in the client's terms: it stores what the rest has computed, which gives one row for it.

    INSERT INTO patients (ssn, city) VALUES (initcap($1), $2)
    → write: INSERT INTO patients (ssn, city) VALUES ($1, $2)
    """

    text: bytes
    """The statement, which is planned like any of a client's."""
    parameters: tuple[int, ...]
    """What its $1, $2 … are: the client's parameter n is n, column n of the rest -n."""
    types: tuple[int, ...]
    """The type OIDs of those that are columns of the rest; 0 for others, and where its text says the type."""
    computed: frozenset[int]
    """The numbers of those that come from opened or computed values: they may be stored in protected columns, and nothing else."""
    kept: frozenset[int] = frozenset()
    """The numbers of those that only the engine may be given: it computes RETURNING with them."""
    spans: tuple[Span, ...] = ()
    """What stands in it as in the client's text."""
    expected: int = 0
    """Of ON CONFLICT DO UPDATE the column of the rest that says how many rows the write changes, if no other session has inserted
    one meanwhile; NULL where that cannot be told."""
    copied: int = 0
    """Of COPY FROM how many of its last columns the rest has computed, for all rows: the data has the others."""
    split: bool = False
    """Whether it is split once more, as an ON CONFLICT DO UPDATE to what is computed of the row."""
    again: bool = True
    """Whether the whole may be executed once more where it has changed none of them: not where that runs triggers a second time."""


class Analyzed(NamedTuple):
    """Of an EXPLAIN ANALYZE what stands before the source where the server explains it.

    ``planned``: without executing it, since what it does may be done once only.
    """

    lead: bytes
    planned: bool


@dataclass(frozen=True, slots=True)
class Split:
    """A statement of which the server answers a part, its source; an engine computes the rest over the opened rows of that.

    The source is planned like any statement of a client, so nothing is in it that the server may not see.
    """

    kind: Kind
    """What kind of statement it is."""
    start: int
    """Where it begins in the text, in bytes."""
    end: int
    """Where it ends, excluded."""
    source: bytes
    """A SELECT in the client's terms, with parameters $1, $2 … of its own; empty where the rest needs no rows."""
    source_parameters: tuple[int, ...]
    """Of the source's $1, $2 … the numbers of the client's parameters, from 1."""
    columns: tuple[SourceColumn, ...]
    """The columns of the source."""
    rest: Rest
    """What the engine computes at each execution."""
    described: Rest
    """The whole statement over ``described_columns``: its parameters are the client's, and all that the client is told is its."""
    described_columns: tuple[SourceColumn, ...]
    """The columns c1, c2 … of the item that stands between the parts of ``described``; it is never filled."""
    source_spans: tuple[Span, ...] = ()
    """What stands in the source as in the client's text."""
    origins: tuple[Origin | None, ...] = ()
    """Where each result column comes from."""
    orders: frozenset[str] = frozenset()
    """The collation providers whose order or case decides: '' the database's own, 'libc', 'icu'."""
    row_types: frozenset[RowType] = frozenset()
    """The types of rows of tables and views that the engine must have."""
    returns: bool = True
    """Whether the client is shown rows."""
    locks: bool = False
    """Whether the source locks rows, or writes: it may have to wait for other sessions."""
    write: SplitWrite | None = None
    """What stores the result of the rest, instead of its being shown."""
    beside_drawn: frozenset[int] = frozenset()
    """The numbers of parameters that must not be NULL: it would not be known whether PostgreSQL draws what is beside them."""
    in_vain: bool = False
    """Whether something is computed that PostgreSQL evaluates for a row in conflict only: where it fails, PostgreSQL may not."""
    doubtful: bool = False
    """Whether the source asks for a setting of which it is not known if PostgreSQL does, and fails where there is none."""
    narrowing: str = ""
    """A condition that would let the server choose fewer rows: the hint where there are too many."""
    effects: Effects = field(default_factory=Effects)
    """What it does to the session."""
    numbers: frozenset[int] = frozenset()
    """The numbers of the parameters that occur in it."""
    plain_select: bool = True
    """Whether running it changes nothing."""
    cacheable: bool = True
    """Whether the plan may be used again."""
    around: Around = ""
    """What stands around the query that is split: the engine runs all of it."""
    lead: bytes = b""
    """The words before that query."""
    explained_as: str = "text"
    """The FORMAT of an EXPLAIN."""
    analyzed: Analyzed | None = None
    """It is an EXPLAIN ANALYZE: all is executed as without it, and explained too."""
    refusal: StatementRefused | ValueRefused | None = None
    """Why it is refused where no engine is configured."""
    waiting: Waiting | None = None
    """Of a statement that the server answers for other values: those for which it does not."""
    unread: bool = False
    """Whether a query of WITH, which nothing refers to, is in ``described`` alone: PostgreSQL does not run it, but reads it."""
    own: bool = False
    """Whether only the proxy's own write may be split so: which rows it is about, and what becomes of them, is as it says."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A statement that is not sent; its error is what the client is told."""

    error: StatementRefused | ValueRefused


Outcome = Answered | Split | Refused
"""What becomes of a statement: the server answers it, or a part of it, or nobody does."""
