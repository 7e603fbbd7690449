"""Names to columns, as the server resolves them: scopes inside each other, each with its sources.

A column reference has one owner (the column), none (undefined) or several (ambiguous). A source whose columns are not known, such
as a function in FROM, may own any name that no protected column has. See manual 7.2 (table expressions) and 10.5 (names of output
columns), and parse_relation.c for the order of search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phiproxy.errors import (
    AmbiguousAlias,
    AmbiguousColumn,
    ColumnMasked,
    DuplicateAlias,
    StatementRefused,
    UndefinedColumn,
    UndefinedTable,
)
from phiproxy.frozen import dataclass
from phiproxy.sql.resolve.protected_values import (
    CLEAR,
    Clear,
    ListColumn,
    Output,
    Protected,
    Value,
    as_text,
    as_they_are,
    list_groups,
    own_value,
)
from phiproxy.sql.resolve.table_columns import named

SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


Spelled = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """One column of a source, by the name under which it can be referred to.

    ``spelled`` are the (source, column) references that give its value where the server does not know it by its name, since a join
    was rewritten: the first that is not NULL counts.
    """

    name: str
    value: Value
    spelled: Spelled = ()


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of a FROM clause, or the target of a write.

    ``opaque``: it may have further columns, none of them protected. ``system``: it has system columns. ``bare``: its columns can be
    named without it. ``hidden``: the server's ``*`` has columns that the client's does not.
    """

    alias: str
    columns: Sequence[SourceColumn]
    schema: str | None = None
    opaque: bool = False
    system: bool = True
    bare: bool = True
    hidden: bool = False

    def owns(self, name: str) -> list[SourceColumn]:
        """Return the columns of this name; a subquery may have several."""
        return named(self.columns, name)

    def protects(self) -> bool:
        """Tell whether a row of this source holds something protected; given values in it are then not protected by it."""
        as_they_are(c.value for c in self.columns)
        return any(isinstance(c.value, Protected) for c in self.columns)


@dataclass(frozen=True, slots=True)
class Merged:
    """A column that USING or NATURAL merged from one of each side; ``sources`` are the sources of the join."""

    column: SourceColumn
    sources: tuple[Source, ...]

    def hides(self, source: Source) -> bool:
        """Tell whether a source's own column of this name has to be named with the source."""
        return any(source is inside for inside in self.sources)


@dataclass(frozen=True, slots=True)
class Scope:
    """What the expressions of one query level see: its sources, its merged columns, and the level outside.

    ``grouped`` are the protected values, by ``group_key``, that the level is grouped by; ``sets``: by several grouping sets.
    ``called``: inside a function call, which may be an aggregate.
    """

    sources: tuple[Source, ...]
    outer: Scope | None = None
    merged: tuple[Merged, ...] = ()
    grouped: frozenset[tuple[int, str]] = frozenset()
    sets: bool = False
    called: bool = False

    def levels(self) -> Iterator[Scope]:
        """Yield this level and those outside, the innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer


@dataclass(slots=True)
class Joined:
    """What a FROM clause gives: its sources, the merged columns, and those of ``*`` where they are not just those of the sources.

    ``listed``: the server's ``*`` would differ, since a join was rewritten. ``table`` is the offset of the relation in ``TABLE
    relation``, whose ``*`` is not written.
    """

    sources: list[Source]
    merged: tuple[Merged, ...] = ()
    own_star: list[SourceColumn] | None = None
    listed: bool = False
    table: int | None = None

    @property
    def star(self) -> list[SourceColumn]:
        """The columns of ``*`` in PostgreSQL's order, each with its full reference."""
        return [c for source in self.sources for c in star_of(source)] if self.own_star is None else self.own_star

    def scope(self, outer: Scope | None) -> Scope:
        """Return what expressions behind this FROM clause see."""
        return Scope(tuple(self.sources), outer, self.merged)


def star_of(source: Source) -> list[SourceColumn]:
    """Return the columns of a source as ``*`` lists them, each with its full reference."""
    return [c if c.spelled else SourceColumn(c.name, c.value, ((source.alias, c.name),)) for c in source.columns]


def joined_of(source: Source) -> Joined:
    """Return a FROM clause of one source."""
    return Joined([source])


def beside(one: Joined, other: Joined) -> Joined:
    """Return two items of a FROM clause as one."""
    star = None if one.own_star is None is other.own_star else [*one.star, *other.star]
    return Joined([*one.sources, *other.sources], (*one.merged, *other.merged), star, one.listed or other.listed)


def source_of(alias: str, outputs: list[Output]) -> Source:
    """Return a subquery as a source with its outputs as columns; one whose name is not known makes it opaque."""
    as_text(value for _, value in outputs)
    columns = tuple(SourceColumn(name if name is not None else "\0", own_value(value)) for name, value in outputs)
    unknown_protected = any(name is None and not isinstance(value, Clear) for name, value in outputs)
    assert not unknown_protected
    return Source(alias, columns, None, opaque=any(name is None for name, _ in outputs), system=False)


def find_source(scope: Scope, name: str, schema: str | None, position: int) -> Source:
    """Return what ``name.`` means, innermost level first; UndefinedTable, or AmbiguousAlias, DuplicateAlias where several do."""
    for level in scope.levels():
        sources = [s for s in level.sources if s.alias == name and (schema is None or s.schema == schema)]
        if len(sources) > 1:
            if len({s.schema for s in sources}) == len(sources):
                raise AmbiguousAlias(f'table reference "{name}" is ambiguous', hint="Give each an alias.", position=position)
            raise DuplicateAlias(f'table name "{name}" specified more than once', hint="Give each an alias.", position=position)
        if sources:
            return sources[0]
    raise UndefinedTable(f'missing FROM-clause entry for table "{name}"', position=position)


def _in_source(source: Source, name: str, position: int) -> SourceColumn:
    owned = source.owns(name)
    if len(owned) > 1:
        raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
    if owned:
        return owned[0]
    if source.opaque or (source.system and name in SYSTEM_COLUMNS):
        return SourceColumn(name, CLEAR)
    raise UndefinedColumn(f"column {source.alias}.{name} does not exist", position=position)


def resolve(scope: Scope, names: Sequence[str], position: int) -> SourceColumn:
    """Return the column that a reference means; ``names`` are at most database, schema, table and column.

    Raises UndefinedTable, UndefinedColumn, AmbiguousColumn as the server does; StatementRefused: a row with something protected.
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
        if level.merged:
            merged = [m for m in level.merged if m.column.name == name]
            visible = [s for s in level.sources if s.bare and not any(m.hides(s) for m in merged)]
            owned = [*(m.column for m in merged), *(c for s in visible for c in s.owns(name))]
        else:
            owned = [c for s in level.sources if s.bare for c in s.owns(name)]
        if len(owned) > 1:
            raise AmbiguousColumn(f'column reference "{name}" is ambiguous', position=position)
        if owned:
            if hidden_by_opaque and not isinstance(owned[0].value, Clear):
                why = f'column "{name}" could also be a column of a function in FROM'
                raise StatementRefused(why, hint="Qualify the column with its table's name.", position=position)
            return _reachable(scope, owned[0], position)
        hidden_by_opaque = hidden_by_opaque or any(s.opaque for s in level.sources)
        if name in SYSTEM_COLUMNS and any(s.system for s in level.sources):
            return SourceColumn(name, CLEAR)
    return SourceColumn(name, _whole_row(scope, name, position, may_exist=hidden_by_opaque))


def _reachable(scope: Scope, column: SourceColumn, position: int) -> SourceColumn:
    """Return a column, or refuse it where the sources that its value is spelled with stand for something else here."""
    if not column.spelled:
        return column
    for alias in {alias for alias, _ in column.spelled}:
        nearest = next((level for level in scope.levels() if any(s.alias == alias for s in level.sources)), None)
        owner = next(
            level
            for level in scope.levels()
            if any(c is column for s in level.sources for c in s.columns) or any(m.column is column for m in level.merged)
        )
        if nearest is not owner:
            why = f'"{column.name}" is of a join outside, one side of which has a name that stands for something else here'
            raise StatementRefused(why, hint="Give the tables different aliases.", position=position)
    return column


def is_whole_row(scope: Scope, names: Sequence[str]) -> bool:
    """Tell whether a reference means a row of a source: ``t.*``, or ``t`` where no column has this name."""
    if names[-1] == "*":
        return len(names) > 1
    levels = list(scope.levels())
    if len(names) > 1 or any(name == names[0] for level in levels for s in level.sources for name in (c.name for c in s.columns)):
        return False
    sources = [s for level in levels for s in level.sources if s.alias == names[0]]
    return bool(sources) and not sources[0].opaque and not any(c.spelled for c in sources[0].columns)


def check_row(source: Source, position: int) -> None:
    """Refuse a row of a source as one value where something of it is protected; ColumnMasked where the role sees masks of that."""
    for column in source.columns:
        if isinstance(column.value, Protected):
            try:
                column.value.column.refuse_masked()
            except ColumnMasked as masked:
                masked.position = position
                raise
    if source.protects():
        why = f'a whole-row reference to "{source.alias}" would hold protected columns'
        raise StatementRefused(why, hint="List the columns.", position=position)


def _whole_row(scope: Scope, name: str, position: int, *, may_exist: bool) -> Value:
    for level in scope.levels():
        for source in level.sources:
            if source.alias == name:
                check_row(source, position)
                return CLEAR
    if may_exist:
        return CLEAR
    raise UndefinedColumn(f'column "{name}" does not exist', position=position)
