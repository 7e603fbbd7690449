"""What the server's own catalogue says of protected columns: DEFAULTs, conditions of CHECKs, types of its own.

Constants, the texts of computed DEFAULTs and conditions are kept there as envelopes, so that they are made, renamed, dropped and
rolled back with the client's own transaction.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from phiproxy.errors import ConfigError
from phiproxy.index.transform import transform
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.inheritance import descendants
from phiproxy.policy.protection import Check, DeclaredType, ProtectedColumn, ProtectedTable, Protection, Slot
from phiproxy.policy.user_types import resolved, unknown


def with_definitions(protection: Protection, catalog: Catalog) -> Protection:
    """Return a protection whose columns have the definitions that they have in the catalogue at this moment."""
    tables = tuple(_typed(_defined(table, catalog), catalog) for table in protection.tables)
    return protection if tables == protection.tables else replace(protection, tables=tables)


def _defined(table: ProtectedTable, catalog: Catalog) -> ProtectedTable:
    relation = catalog.by_name.get((table.schema, table.name))
    if relation is None:
        return table
    children = tuple(descendants(catalog, relation)) if relation.parent else ()
    return replace(table, columns={name: _column(column, relation, children) for name, column in table.columns.items()})


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


def _column(column: ProtectedColumn, relation: Relation, children: Iterable[Relation]) -> ProtectedColumn:
    current = relation.column(column.name)
    checks = tuple(check for name, check in relation.checks if name == column.name)
    below = _of_children(column.name, {check.definition for check in checks}, children)
    if relation.diverted:  # what is inserted here may be sent to a child
        checks, below = (*checks, *below), ()
    default, computed = (current.default, current.computed_default) if current is not None else (None, None)
    if (checks, below, default, computed) == (column.checks, column.below, column.default, column.computed_default):
        return column
    return replace(column, checks=checks, below=below, default=default, computed_default=computed)


def _of_children(column: str, inherited: Collection[bytes], children: Iterable[Relation]) -> tuple[Check, ...]:
    own = {
        check.definition: replace(check, child=child.qualified)
        for child in children
        for name, check in child.checks
        if name == column and check.definition not in inherited
    }
    return tuple(own.values())
