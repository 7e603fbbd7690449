"""The items of a FROM that a source has as a whole, with the columns of theirs that the rest needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from phiproxy.sql.pg_errors.names_and_signatures import Column as Known
from phiproxy.sql.split.blocks import Block
from phiproxy.sql.split.sources import Column
from phiproxy.sql.split.statement import Whole
from phiproxy.sql.split.tables_and_columns import Mentioned, Table, needed, system_columns

_ITEMS = ("RangeVar", "RangeTableSample", "RangeSubselect")


def item_columns(
    whole: Whole, read: Block, names: Mentioned, *, plain: Collection[str] = ()
) -> list[tuple[str, list[Column]]] | None:
    """Return the items of a FROM that a source may have as a whole, with their columns; None where it may not.

    ``plain`` are items of which it is known that the database's default collation is that of their columns.
    """
    sources, items = read.level.sources, read.items
    single = len(items) == 1 and any(items[0].table is table.body for table in whole.tables)
    if single or read.merges or len(sources) != len(items) or not _rows_are_not_told_apart(whole, read, names):
        return None
    views = views_of(whole, read)
    tables = {id(table.body): table for table in whole.tables}
    labels: list[tuple[str, list[Column]]] = []
    for source, item in zip(sources, items, strict=True):
        if item.kind not in _ITEMS or source.opaque or source.alias != item.label:
            return None
        columns = []
        view = views.get(source.alias)
        if view is not None:
            labels.append((source.alias, [Column(source.alias, c.label, c.type) for c in needed(view, names)]))
            continue
        for known in source.columns:
            carried = whole.carried(_plain(known) if source.alias in plain else known)
            if (carried is None or known.name == "\0") and is_wanted(read, names, source.alias, known.name):
                return None
            if carried is not None:
                columns.append(Column(source.alias, known.name, carried))
        table = tables.get(id(item.table))
        system = system_columns(table, names) if table is not None else []
        if system and names.all_of(source.alias, id(item.body), id(read.body)):
            return None
        columns += [Column(source.alias, c.name, c.type) for c in system]
        if len({c.name for c in columns}) < len(columns):
            return None
        labels.append((source.alias, columns))
    return labels


def views_of(whole: Whole, read: Block) -> dict[str, Table]:
    """Return the items of a FROM that are views over expressions."""
    views = {id(table.body): table for table in whole.tables if table.rest is not None}
    return {item.label: views[id(item.table)] for item in read.items if id(item.table) in views}


def _plain(column: Known) -> Known:
    return dataclasses.replace(column, collation="", typmod=-1 if column.typmod is None else column.typmod)


def is_wanted(read: Block, names: Mentioned, label: str, name: str) -> bool:
    """Tell whether the rest needs a column of an item."""
    return name in names.names or names.all_of(label, id(read.body))


def _rows_are_not_told_apart(whole: Whole, read: Block, names: Mentioned) -> bool:
    """Tell whether no whole row of an item is referred to: that of an outer join is NULL, which it would no longer be."""
    labels = {item.label for item in read.items}
    if "" in labels or labels & names.rows or any(name.startswith("phi.") for name in whole.identifiers):
        return False
    return whole.lists_stars
