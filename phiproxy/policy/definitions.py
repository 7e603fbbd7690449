"""What the server's own catalogue says of protected columns: the constants of their DEFAULTs, the conditions of their CHECKs.

Both are kept there as envelopes, so that they are made, renamed, dropped and rolled back with the client's own transaction.
"""

from __future__ import annotations

from dataclasses import replace

from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.protection import ProtectedColumn, ProtectedTable, Protection


def with_definitions(protection: Protection, catalog: Catalog) -> Protection:
    """Return a protection whose columns have the definitions that they have in the catalogue at this moment."""
    tables = tuple(_defined(table, catalog.by_name.get((table.schema, table.name))) for table in protection.tables)
    return protection if tables == protection.tables else replace(protection, tables=tables)


def _defined(table: ProtectedTable, relation: Relation | None) -> ProtectedTable:
    if relation is None:
        return table
    return replace(table, columns={name: _column(column, relation) for name, column in table.columns.items()})


def _column(column: ProtectedColumn, relation: Relation) -> ProtectedColumn:
    found = relation.column(column.name)
    checks = tuple(check for name, check in relation.checks if name == column.name)
    default = found.default if found is not None else None
    if (checks, default) == (column.checks, column.default):
        return column
    return replace(column, checks=checks, default=default)
