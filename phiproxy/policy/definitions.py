"""What the server's own catalogue says of protected columns: constants of DEFAULTs, conditions of CHECKs, types of its own.

Constants and conditions are kept there as envelopes, so that they are made, renamed, dropped and rolled back with the client's own
transaction.
"""

from __future__ import annotations

from dataclasses import replace

from phiproxy.errors import ConfigError
from phiproxy.index.transform import transform
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.owntypes import resolved, unknown
from phiproxy.policy.protection import DeclaredType, ProtectedColumn, ProtectedTable, Protection, Slot


def with_definitions(protection: Protection, catalog: Catalog) -> Protection:
    """Return a protection whose columns have the definitions that they have in the catalogue at this moment."""
    tables = tuple(_typed(_defined(table, catalog.by_name.get((table.schema, table.name))), catalog) for table in protection.tables)
    return protection if tables == protection.tables else replace(protection, tables=tables)


def _defined(table: ProtectedTable, relation: Relation | None) -> ProtectedTable:
    if relation is None:
        return table
    return replace(table, columns={name: _column(column, relation) for name, column in table.columns.items()})


def _typed(table: ProtectedTable, catalog: Catalog) -> ProtectedTable:
    columns = {name: typed(column, catalog) for name, column in table.columns.items()}
    return table if all(columns[name] is column for name, column in table.columns.items()) else replace(table, columns=columns)


def typed(column: ProtectedColumn, catalog: Catalog) -> ProtectedColumn:
    """Return a column with its type as it is now; as unknown where there is no such type, or it can no longer be protected."""
    try:
        type_ = resolved(column.type, catalog.types)
        slots = tuple(_counted(slot, type_) for slot in column.slots) if type_ != column.type else column.slots
    except ConfigError:
        type_, slots = unknown(column.type), column.slots
    return column if type_ == column.type else replace(column, type=type_, slots=slots)


def _counted(slot: Slot, type_: DeclaredType) -> Slot:
    return replace(slot, total=slot.state == "dropped" or transform(slot.expression, type_.indexed_as).total)


def _column(column: ProtectedColumn, relation: Relation) -> ProtectedColumn:
    found = relation.column(column.name)
    checks = tuple(check for name, check in relation.checks if name == column.name)
    default = found.default if found is not None else None
    if (checks, default) == (column.checks, column.default):
        return column
    return replace(column, checks=checks, default=default)
