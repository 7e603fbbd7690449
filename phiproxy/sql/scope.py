"""Names to columns, as the server resolves them: a tree of scopes, each a list of sources.

A column reference has one owner (that column), none (undefined), or two (ambiguous); a source whose columns are not known
(a function in FROM) may own anything that nothing protected could be. There is no fourth answer, and nothing is guessed.
Manual 7.2 (table expressions), 10.5 (names of output columns); parse_relation.c for the order of search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from phiproxy.errors import AmbiguousAlias, AmbiguousColumn, DuplicateAlias, StatementRefused, UndefinedColumn, UndefinedTable
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, Slot
from phiproxy.sql.parse import Node
from phiproxy.sql.sinks import SinkNode

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


class Clear:
    """A value in which nothing protected is; of a table's column its ``type`` is known: OID and typmod.

    ``computed``: an expression of a query, by the name that this gives it.
    """

    __slots__ = ("computed", "type")

    def __init__(self, type_: tuple[int, int] | None = None, *, computed: bool = False) -> None:
        self.type = type_
        self.computed = computed


CLEAR = Clear()


@dataclass(frozen=True, slots=True)
class Protected:
    """A value that is an envelope of ``column``, shown to the client as ``type``; ``cast``: it is no table's column any more.

    ``origin`` is the (table OID, attnum) of which the wire tells; ``planned`` the type that PostgreSQL knows it to be once the
    statement is planned, where that is another one. ``tags`` are (slot number, name) of the generated columns beside it.
    """

    column: ProtectedColumn
    type: DeclaredType
    cast: bool = False
    origin: tuple[int, int] | None = None
    planned: DeclaredType | None = None
    tags: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """A column of given values is stored in ``column`` by the part of the statement that ``place`` numbers.

    ``steps`` are what the values become on their way there.
    """

    column: ProtectedColumn
    place: int
    steps: tuple[DeclaredType, ...] = ()


@dataclass(frozen=True, slots=True)
class Searched:
    """A column of given values is compared with ``column`` where ``node`` refers to it, as what they become by ``steps``."""

    column: ProtectedColumn
    slot: Slot
    node: Node
    output: int = 0
    width: int = 1
    steps: tuple[DeclaredType, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A column of given values meets ``column`` as one value: in UNION ALL, CASE, COALESCE, where they become ``steps``."""

    column: ProtectedColumn
    steps: tuple[DeclaredType, ...] = ()


class Shown:
    """A column of given values is a result of the statement, and what it is by then."""

    __slots__ = ()


SHOWN = Shown()
User = Stored | Searched | Kept | Shown | None


@dataclass(slots=True)
class ListGroup:
    """One VALUES list, or the values that one SELECT lists: what is in a row goes to one row unless it is referred to twice."""

    references: int = 1
    places: set[int] = field(default_factory=set)


@dataclass(slots=True)
class ListColumn:
    """A column of given values (VALUES, ``SELECT $1`` in FROM): their use is decided by who uses it (taint, sql.md section 2).

    ``users`` collects the decided uses; None stands for an ordinary one. ``casts`` are around references to it, ``parts`` are the
    columns that UNION ALL put one below the other, or the one that was ``cast_to`` types. ``became`` is what was decided,
    ``recasts`` are casts of ``ARRAY[…]`` that become bytea[] with it. ``of_values``: of VALUES or a subquery, which is text where
    nothing says otherwise. ``seen`` is the number of uses that were recorded before it, as PostgreSQL gives types in this order.
    ``unnamed``: it stands in a set operation, whose first query names the columns.
    """

    entries: list[SinkNode | None]
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

    def store(self, column: ProtectedColumn, place: int, steps: tuple[DeclaredType, ...] = ()) -> None:
        """Note that the values are stored in a protected column."""
        self.users.append(Stored(column, place, steps))
        for part in self.leaves():
            part.group.places.add(place)

    def leaves(self) -> Iterator[ListColumn]:
        """Yield the columns that hold the entries."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


Value = Clear | Protected | ListColumn


def list_groups(values: Iterable[Value]) -> list[ListGroup]:
    """Return the groups of the given values among these, each once."""
    groups = {id(leaf.group): leaf.group for value in values if isinstance(value, ListColumn) for leaf in value.leaves()}
    return list(groups.values())


Spelled = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column of a source, by the name under which it can be referred to.

    ``spelled`` are the (source, column) that hold its value, the first that is not NULL: where a join was given another form, the
    server no longer knows the column by its name, and in ``*`` always.
    """

    name: str
    value: Value
    spelled: Spelled = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of a FROM clause, or a target table.

    ``opaque``: it may have more columns than these, none of them protected. ``bare``: its columns can be named without it.
    ``hidden``: the server's ``*`` gives more columns than these.
    """

    alias: str
    columns: tuple[SourceColumn, ...]
    schema: str | None = None
    opaque: bool = False
    system: bool = True
    bare: bool = True
    hidden: bool = False

    def owns(self, name: str) -> list[SourceColumn]:
        """Return the columns of this name (two in a subquery that repeats one)."""
        return [c for c in self.columns if c.name == name]

    def protects(self) -> bool:
        """Tell whether a whole-row value of this source would hold something protected; given values in it become ordinary ones."""
        for column in self.columns:
            if isinstance(column.value, ListColumn):
                column.value.users.append(None)
        return any(isinstance(c.value, Protected) for c in self.columns)


@dataclass(frozen=True, slots=True)
class Merged:
    """A column that USING or NATURAL made of one of each side; ``sources`` are those of the join, whose own it hides."""

    column: SourceColumn
    sources: tuple[Source, ...]

    def hides(self, source: Source) -> bool:
        """Tell whether a source's own column of this name can only be named with the source."""
        return any(source is inside for inside in self.sources)


@dataclass(frozen=True, slots=True)
class Scope:
    """The sources one query level sees, the columns merged by USING or NATURAL, and the level outside.

    ``grouped`` are the protected values (by ``group_key``) by whose tags this level is grouped; ``sets``: by several
    sets, as of GROUPING SETS.
    ``called``: inside of a call of a function, which may be an aggregate.
    """

    sources: tuple[Source, ...]
    outer: Scope | None = None
    merged: tuple[Merged, ...] = ()
    grouped: frozenset[tuple[int, str]] = frozenset()
    sets: bool = False
    called: bool = False

    def levels(self) -> Iterator[Scope]:
        """Yield this level and those outside it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer


def group_key(value: Value, expression: str | None = None) -> tuple[int, str]:
    """Return by what a value of a source, or an expression of it, is known among those by which a query is grouped."""
    own = value.column.expression if isinstance(value, Protected) else ""
    return id(value), own if expression is None else expression


Output = tuple[str | None, Value]


@dataclass(slots=True)
class Joined:
    """What FROM gives: its sources, the columns of ``*`` in PostgreSQL's order, and those that USING merged.

    ``listed``: the server's ``*`` would be another one, as a join in it was given another form. ``table`` is where the relation of
    ``TABLE relation`` stands, which is a ``*`` that nobody wrote.
    """

    sources: list[Source]
    star: list[SourceColumn]
    merged: tuple[Merged, ...] = ()
    listed: bool = False
    table: int | None = None

    def scope(self, outer: Scope | None) -> Scope:
        """Return what expressions see that stand behind this FROM."""
        return Scope(tuple(self.sources), outer, self.merged)


def star_of(source: Source) -> list[SourceColumn]:
    """Return the columns of a source as they stand in ``*``, each with how it is named in full."""
    return [c if c.spelled else replace(c, spelled=((source.alias, c.name),)) for c in source.columns]


def joined_of(source: Source) -> Joined:
    """Return a FROM of one source."""
    return Joined([source], star_of(source))


def source_of(alias: str, outputs: list[Output]) -> Source:
    """Return a subquery's outputs as a source; a column whose name is not known makes it opaque."""
    as_text(value for _, value in outputs)
    columns = tuple(SourceColumn(name if name is not None else "\0", own_value(value)) for name, value in outputs)
    unknown_protected = any(name is None and not isinstance(value, Clear) for name, value in outputs)
    assert not unknown_protected
    return Source(alias, columns, None, opaque=any(name is None for name, _ in outputs), system=False)


def as_text(values: Iterable[Value]) -> None:
    """Note of a subquery's outputs that given values are texts where nothing says otherwise."""
    for value in values:
        if isinstance(value, ListColumn):
            value.of_values = True


def own_value(value: Value) -> Value:
    """Return the value as one of its own: two columns of a subquery may show the same column, and only one be grouped by."""
    if isinstance(value, Clear):
        return Clear(value.type, computed=value.computed)
    return replace(value, tags=()) if isinstance(value, Protected) else value


def find_source(scope: Scope, name: str, schema: str | None, position: int) -> Source:
    """Return the source that ``name.`` means, innermost first; UndefinedTable where there is none, a refusal where two."""
    for level in scope.levels():
        found = [s for s in level.sources if s.alias == name and (schema is None or s.schema == schema)]
        if len(found) > 1:
            if len({s.schema for s in found}) == len(found):
                raise AmbiguousAlias(f'table reference "{name}" is ambiguous', hint="Give each an alias.", position=position)
            raise DuplicateAlias(f'table name "{name}" specified more than once', hint="Give each an alias.", position=position)
        if found:
            return found[0]
    raise UndefinedTable(f'missing FROM-clause entry for table "{name}"', position=position)


def _in_source(source: Source, name: str, position: int) -> SourceColumn:
    found = source.owns(name)
    if len(found) > 1:
        raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
    if found:
        return found[0]
    if source.opaque or (source.system and name in SYSTEM_COLUMNS):
        return SourceColumn(name, CLEAR)
    raise UndefinedColumn(f"column {source.alias}.{name} does not exist", position=position)


def resolve(scope: Scope, names: Sequence[str], position: int) -> SourceColumn:
    """Return what a column reference (its identifiers, at most database.schema.table.column) means.

    Raises UndefinedTable, UndefinedColumn, AmbiguousColumn as the server would, and StatementRefused for a whole-row reference to a
    source that holds something protected.
    """
    column = _resolve(scope, names, position)
    value = column.value
    if isinstance(value, ListColumn) and not any(c.value is value for s in scope.sources for c in s.columns):
        # From inside a subquery the values of one row may each go to another row, so their rows are no longer sealed together.
        for group in list_groups([value]):
            group.references += 1
    return column


def _resolve(scope: Scope, names: Sequence[str], position: int) -> SourceColumn:
    *qualifier, name = names
    if qualifier:
        schema = qualifier[-2] if len(qualifier) > 1 else None
        return _reachable(scope, _in_source(find_source(scope, qualifier[-1], schema, position), name, position), position)
    hidden_by_opaque = False
    for level in scope.levels():
        merged = [m for m in level.merged if m.column.name == name]
        visible = [s for s in level.sources if s.bare and not any(m.hides(s) for m in merged)]
        found = [*(m.column for m in merged), *(c for s in visible for c in s.owns(name))]
        if len(found) > 1:
            raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
        if found:
            if hidden_by_opaque and not isinstance(found[0].value, Clear):
                raise StatementRefused(
                    f'column "{name}" could also be a column of a function in FROM',
                    hint="Qualify the column with its table's name.",
                    position=position,
                )
            return _reachable(scope, found[0], position)
        hidden_by_opaque = hidden_by_opaque or any(s.opaque for s in level.sources)
        if name in SYSTEM_COLUMNS and any(s.system for s in level.sources):
            return SourceColumn(name, CLEAR)
    return SourceColumn(name, _whole_row(scope, name, position, may_exist=hidden_by_opaque))


def _reachable(scope: Scope, column: SourceColumn, position: int) -> SourceColumn:
    """Return a column that can be named by its sources from here, where it must be."""
    for alias in {alias for alias, _ in column.spelled}:
        nearest = next((level for level in scope.levels() if any(s.alias == alias for s in level.sources)), None)
        owner = next(
            level
            for level in scope.levels()
            if any(c is column for s in level.sources for c in s.columns) or any(m.column is column for m in level.merged)
        )
        if nearest is not owner:
            raise StatementRefused(
                f'"{column.name}" is of a join outside, one side of which has a name that stands for something else here',
                hint="Give the tables different aliases.",
                position=position,
            )
    return column


def is_whole_row(scope: Scope, names: Sequence[str]) -> bool:
    """Tell whether a reference is to a row of a source: ``t.*``, or ``t`` where no column has this name."""
    if names[-1] == "*":
        return len(names) > 1
    levels = list(scope.levels())
    if len(names) > 1 or any(name == names[0] for level in levels for s in level.sources for name in (c.name for c in s.columns)):
        return False
    found = [s for level in levels for s in level.sources if s.alias == names[0]]
    return bool(found) and not found[0].opaque and not any(c.spelled for c in found[0].columns)


def _whole_row(scope: Scope, name: str, position: int, *, may_exist: bool) -> Value:
    for level in scope.levels():
        for source in level.sources:
            if source.alias == name:
                if source.protects():
                    raise StatementRefused(
                        f'a whole-row reference to "{name}" would hold protected columns',
                        hint="List the columns.",
                        position=position,
                    )
                return CLEAR
    if may_exist:
        return CLEAR
    raise UndefinedColumn(f'column "{name}" does not exist', position=position)
