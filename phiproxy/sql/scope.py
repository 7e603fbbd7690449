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
    """A value in which nothing protected is; of a table's column its ``type`` is known: OID and typmod."""

    __slots__ = ("type",)

    def __init__(self, type_: tuple[int, int] | None = None) -> None:
        self.type = type_


CLEAR = Clear()


@dataclass(frozen=True, slots=True)
class Protected:
    """A value that is an envelope of ``column``, shown to the client as ``type``; ``cast``: it is no table's column any more.

    ``origin`` is the (table OID, attnum) of which the wire tells; ``planned`` the type that PostgreSQL knows it to be once the
    statement is planned, where that is another one.
    """

    column: ProtectedColumn
    type: DeclaredType
    cast: bool = False
    origin: tuple[int, int] | None = None
    planned: DeclaredType | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A column of given values is stored in ``column`` by the part of the statement that ``place`` numbers, cut to ``limit``."""

    column: ProtectedColumn
    place: int
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Searched:
    """A column of given values is compared with ``column`` where ``node`` refers to it."""

    column: ProtectedColumn
    slot: Slot
    node: Node
    output: int = 0
    width: int = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A column of given values meets ``column`` as one value: in UNION ALL, CASE, COALESCE; ``type_oid`` is what they share."""

    column: ProtectedColumn
    type_oid: int = 0


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

    ``users`` collects the decided uses; None stands for an ordinary one. ``casts`` are the no-op casts on the way, ``parts`` the
    columns that UNION ALL put one below the other. ``became`` is what was decided, ``recasts`` are casts
    of ``ARRAY[…]`` that become bytea[] with it.
    """

    entries: list[SinkNode | None]
    rows: list[int]
    users: list[User] = field(default_factory=list)
    casts: list[Node] = field(default_factory=list)
    recasts: list[Node] = field(default_factory=list)
    group: ListGroup = field(default_factory=ListGroup)
    parts: tuple[ListColumn, ...] = ()
    became: ProtectedColumn | None = None

    def store(self, column: ProtectedColumn, place: int, limit: int | None = None) -> None:
        """Note that the values are stored in a protected column, cut to ``limit`` characters."""
        self.users.append(Stored(column, place, limit))
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


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column of a source, by the name under which it can be referred to."""

    name: str
    value: Value


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
class Scope:
    """The sources one query level sees, the columns merged by USING or NATURAL, and the level outside.

    ``grouped`` are the protected values (by ``id``) by whose tags this level is grouped; ``sets``: with GROUPING SETS and the like.
    """

    sources: tuple[Source, ...]
    outer: Scope | None = None
    merged: frozenset[str] = frozenset()
    grouped: frozenset[int] = frozenset()
    sets: bool = False

    def levels(self) -> Iterator[Scope]:
        """Yield this level and those outside it."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer


Output = tuple[str | None, Value]


@dataclass(slots=True)
class Joined:
    """What FROM gives: its sources, the columns of ``*`` in the server's order, and the names that USING merged."""

    sources: list[Source]
    star: list[Output]
    merged: frozenset[str] = frozenset()


def source_of(alias: str, outputs: list[Output]) -> Source:
    """Return a subquery's outputs as a source; a column whose name is not known makes it opaque."""
    columns = tuple(SourceColumn(name if name is not None else "\0", _own(value)) for name, value in outputs)
    unknown_protected = any(name is None and not isinstance(value, Clear) for name, value in outputs)
    assert not unknown_protected
    return Source(alias, columns, None, opaque=any(name is None for name, _ in outputs), system=False)


def _own(value: Value) -> Value:
    """Return the value as one of its own: two columns of a subquery may show the same column, and only one be grouped by."""
    return replace(value) if isinstance(value, Protected) else value


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


def _in_source(source: Source, name: str, position: int) -> Value:
    found = source.owns(name)
    if len(found) > 1:
        raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
    if found:
        return found[0].value
    if source.opaque or (source.system and name in SYSTEM_COLUMNS):
        return CLEAR
    raise UndefinedColumn(f"column {source.alias}.{name} does not exist", position=position)


def resolve(scope: Scope, names: Sequence[str], position: int) -> Value:
    """Return what a column reference (its identifiers, at most database.schema.table.column) means.

    Raises UndefinedTable, UndefinedColumn, AmbiguousColumn as the server would, and StatementRefused for a whole-row reference to a
    source that holds something protected.
    """
    value = _resolve(scope, names, position)
    if isinstance(value, ListColumn) and not any(c.value is value for s in scope.sources for c in s.columns):
        # From inside a subquery the values of one row may each go to another row, so their rows are no longer sealed together.
        for group in list_groups([value]):
            group.references += 1
    return value


def _resolve(scope: Scope, names: Sequence[str], position: int) -> Value:
    *qualifier, name = names
    if qualifier:
        schema = qualifier[-2] if len(qualifier) > 1 else None
        return _in_source(find_source(scope, qualifier[-1], schema, position), name, position)
    hidden_by_opaque = False
    for level in scope.levels():
        found = [c for s in level.sources if s.bare for c in s.owns(name)]
        if name in level.merged:
            # What USING merged holds nothing protected, so something protected of this name stands beside the join.
            if any(not isinstance(c.value, Clear) for c in found):
                raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
            return CLEAR
        if len(found) > 1:
            raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
        if found:
            value = found[0].value
            if hidden_by_opaque and not isinstance(value, Clear):
                raise StatementRefused(
                    f'column "{name}" could also be a column of a function in FROM',
                    hint="Qualify the column with its table's name.",
                    position=position,
                )
            return value
        hidden_by_opaque = hidden_by_opaque or any(s.opaque for s in level.sources)
        if name in SYSTEM_COLUMNS and any(s.system for s in level.sources):
            return CLEAR
    return _whole_row(scope, name, position, may_exist=hidden_by_opaque)


def is_whole_row(scope: Scope, names: Sequence[str]) -> bool:
    """Tell whether a reference is to a row of a source: ``t.*``, or ``t`` where no column has this name."""
    if names[-1] == "*":
        return len(names) > 1
    levels = list(scope.levels())
    if len(names) > 1 or any(name == names[0] for level in levels for s in level.sources for name in (c.name for c in s.columns)):
        return False
    return any(s.alias == names[0] and not s.opaque for level in levels for s in level.sources)


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
