"""Columns that depend on a primary key (manual 7.2.3, functional dependency): where the key is compared, they need not be.

That spares DISTINCT over whole rows a blind index on each of their columns. And rows that agree in a key have the very same
envelopes, so that a recursive UNION may compare these.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product

from phiproxy.frozen import dataclass
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.physical_columns import visible_columns
from phiproxy.sql.resolve.protected_values import Clear, Output, Protected, Value
from phiproxy.sql.resolve.scope import Scope, Source
from phiproxy.sql.text.parse import Node, only

# Ways to tell a key from outputs that show its columns more than once; more are not looked at.
_MOST_WAYS = 16


@dataclass(frozen=True, slots=True)
class Selected:
    """A query that passes rows on as they are: its outputs, their expressions and what these see."""

    outputs: Sequence[Output]
    nodes: Sequence[Node | None]
    scope: Scope

    def shown(self) -> Iterator[tuple[int, int]]:
        """Yield (position, id of the value) of the outputs that are bare columns."""
        for i, ((_, value), node) in enumerate(zip(self.outputs, self.nodes, strict=True)):
            if node is None or only(node)[0] == "ColumnRef":
                yield i, id(value)


class Outputs(list[Output]):
    """The outputs of a query, and the queries whose rows UNION combines in it: None for one that makes rows of its own."""

    __slots__ = ("combined",)

    def __init__(self, outputs: Iterable[Output], combined: Iterable[Selected | None]) -> None:
        super().__init__(outputs)
        self.combined = tuple(combined)


def combined_in(outputs: Sequence[Output]) -> tuple[Selected | None, ...]:
    """Return the queries whose rows a query combines."""
    return outputs.combined if isinstance(outputs, Outputs) else (None,)


@dataclass(frozen=True, slots=True)
class Dependency:
    """An output is a column of the row of a table whose primary key the outputs at ``key``, (attnum, position) each, are."""

    table: int
    attnum: int
    key: frozenset[tuple[int, int]]


def dependent(catalog: Catalog, outputs: Sequence[Output], nodes: Sequence[Node | None], scope: Scope) -> frozenset[int]:
    """Return the ids of the protected values that rows have in common which agree in the outputs that are bare columns."""
    shown = {value for _, value in Selected(outputs, nodes, scope).shown()}
    keyed = (source for source in scope.sources if any(shown.issuperset(key.values()) for _, key in _keys(catalog, source)))
    return frozenset(id(c.value) for source in keyed for c in source.columns if isinstance(c.value, Protected))


def dependencies(catalog: Catalog, query: Selected) -> list[set[Dependency]]:
    """Return on which keys each output depends."""
    by_output: list[set[Dependency]] = [set() for _ in query.outputs]
    positions: dict[int, list[int]] = {}
    for position, value in query.shown():
        positions.setdefault(value, []).append(position)
    for source in query.scope.sources:
        for table, key in _keys(catalog, source):
            ways = product(*([(attnum, position) for position in positions.get(value, ())] for attnum, value in key.items()))
            for way, column in product(list(islice(ways, _MOST_WAYS)), source.columns):
                origin = _origin(column.value)
                if origin is not None:
                    for position in positions.get(id(column.value), ()):
                        by_output[position].add(Dependency(table.oid, origin[1], frozenset(way)))
    return by_output


def passed_on(query: Selected, source: Source, before: Sequence[set[Dependency]]) -> list[set[Dependency]]:
    """Return which dependencies of the columns of a source hold for the outputs of a query too, at the same positions."""
    if not any(s.columns is source.columns for s in query.scope.sources):
        return [set() for _ in query.outputs]
    same = {position for position, value in query.shown() if value == id(source.columns[position].value)}
    return [
        {d for d in of if i in same and all(position in same for _, position in d.key)}
        for i, of in zip(range(len(query.outputs)), before, strict=True)
    ]


def _keys(catalog: Catalog, source: Source) -> Iterable[tuple[Relation, dict[int, int]]]:
    """Return the primary key of a source that is a table: the ids of the values of its columns, by attnum."""
    table = _table(catalog, source)
    if table is None:
        return []
    columns = {c.name: (c.attnum, own.value) for c, own in zip(visible_columns(table), source.columns, strict=True)}
    keys = ([columns.get(name) for name in index.columns] for index in table.indexes if index.key and index.columns)
    return [
        (table, {attnum: id(value) for attnum, value in filter(None, key)})
        for key in keys
        if all(column is not None and isinstance(column[1], Clear) for column in key)
    ]


def _table(catalog: Catalog, source: Source) -> Relation | None:
    """Return the table that a source is, where its rows are those of one table and its partitions."""
    origins = {origin[0] for c in source.columns if (origin := _origin(c.value)) is not None}
    table = catalog.by_oid.get(origins.pop()) if source.system and len(origins) == 1 else None
    if table is None or (table.parent and table.kind != "p") or len(visible_columns(table)) != len(source.columns):
        return None
    pairs = zip(visible_columns(table), source.columns, strict=True)
    same = all((origin := _origin(own.value)) is None or origin[1] == column.attnum for column, own in pairs)
    return table if same else None


def _origin(value: Value) -> tuple[int, int] | None:
    return value.origin if isinstance(value, Protected) else None
