"""Columns that depend on a primary key (manual 7.2.3, functional dependency): where the key is compared, they need not be.

That spares DISTINCT over whole rows a blind index on each of their columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from phiproxy.policy.catalog import CatalogColumn, Relation
from phiproxy.sql.analysis import Analysis
from phiproxy.sql.parse import Node, only
from phiproxy.sql.scope import Output, Protected, Scope, Source, Value


def dependent(a: Analysis, outputs: Sequence[Output], nodes: Sequence[Node | None], scope: Scope) -> frozenset[int]:
    """Return the ids of the protected values that rows have in common which agree in the outputs that are bare columns."""
    if scope.merged:
        return frozenset()  # which of the joined columns an output shows may depend on the row
    shown = {id(value) for (_, value), node in zip(outputs, nodes, strict=True) if node is None or only(node)[0] == "ColumnRef"}
    keyed = (source for source in scope.sources if any(shown.issuperset(key) for key in _keys(a, source)))
    return frozenset(id(c.value) for source in keyed for c in source.columns if isinstance(c.value, Protected))


def _keys(a: Analysis, source: Source) -> Iterable[frozenset[int]]:
    """Return the primary key of a source that is a table: the ids of the values of its columns."""
    table = _table(a, source)
    if table is None:
        return []
    values = {column.name: id(own.value) for column, own in zip(_visible(table), source.columns, strict=True)}
    keys = (index.columns for index in table.indexes if index.key and index.columns)
    return [frozenset(values[name] for name in key) for key in keys if values.keys() >= set(key)]


def _table(a: Analysis, source: Source) -> Relation | None:
    """Return the table that a source is, where its rows are those of one table and its partitions."""
    origins = {origin[0] for c in source.columns if (origin := _origin(c.value)) is not None}
    table = a.context.catalog.by_oid.get(origins.pop()) if source.system and len(origins) == 1 else None
    if table is None or (table.parent and table.kind != "p") or len(_visible(table)) != len(source.columns):
        return None
    places = zip(_visible(table), source.columns, strict=True)
    same = all((origin := _origin(own.value)) is None or origin[1] == column.attnum for column, own in places)
    return table if same else None


def _visible(table: Relation) -> list[CatalogColumn]:
    return [column for column in table.columns if not column.name.startswith("phi_tag_")]


def _origin(value: Value) -> tuple[int, int] | None:
    return value.origin if isinstance(value, Protected) else None
