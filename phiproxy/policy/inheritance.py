"""Partitions and inheritance children: they hold what their protected parent does, under the same identity (spec/sql 4.9).

A policy names the parent. What a child inherits is protected in the child as in the parent, so that rows that go in through the one
come out through the other; guards the server hands down itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.model import PolicyColumn
from phiproxy.policy.protection import ProtectedColumn, ProtectedTable, Protection, Refusal


def descendants(catalog: Catalog, relation: Relation) -> Iterator[Relation]:
    """Yield the children of a relation, theirs, and so on, each once."""
    seen = {relation.oid}
    queue = [relation.oid]
    while queue:
        for child in catalog.children.get(queue.pop(0), ()):
            if child.oid not in seen:
                seen.add(child.oid)
                queue.append(child.oid)
                yield child


def with_descendants(protection: Protection, catalog: Catalog) -> Protection:
    """Return a protection that holds the children of its tables too, as the catalogue has them at this moment.

    Of a table that is refused they are refused too: they have its rows.
    """
    inherited: dict[tuple[str, str], dict[str, ProtectedColumn]] = {}
    hiding = set[tuple[str, str]]()
    subjects: dict[tuple[str, str], str] = {}
    refused: dict[tuple[str, str], Refusal] = {}
    for table in protection.tables:
        relation = catalog.by_name.get((table.schema, table.name))
        for child in descendants(catalog, relation) if relation is not None else ():
            columns = inherited.setdefault((child.schema, child.name), {})
            if table.hides:
                hiding.add((child.schema, child.name))
            if table.subject is not None:
                subjects.setdefault((child.schema, child.name), table.subject)
            if table.refused is not None:
                refused.setdefault((child.schema, child.name), table.refused)
            for name, column in table.columns.items():
                if child.column(name) is not None:
                    columns.setdefault(name, replace(column, schema=child.schema, table=child.name))
    if not inherited:
        return protection
    tables = [_with_inherited(table, inherited.pop((table.schema, table.name), {})) for table in protection.tables]
    tables += [
        ProtectedTable(*table_name, columns, frozenset(columns), hides=table_name in hiding, subject=subjects.get(table_name))
        for table_name, columns in inherited.items()
        if columns or table_name in hiding or table_name in refused
    ]
    tables = [replace(table, refused=table.refused or refused.get((table.schema, table.name))) for table in tables]
    return replace(protection, tables=tuple(tables))


def _with_inherited(table: ProtectedTable, inherited: Mapping[str, ProtectedColumn]) -> ProtectedTable:
    more = {name: column for name, column in inherited.items() if name not in table.columns}
    return replace(table, columns={**table.columns, **more}, inherited=frozenset(more)) if more else table


def inherited_columns(columns: list[PolicyColumn], catalog: Catalog) -> list[PolicyColumn]:
    """Return the policy's columns as the children of their tables have them, without those that the policy names itself."""
    named = {(c.schema, c.table, c.name) for c in columns}
    inherited: dict[tuple[str, str, str], PolicyColumn] = {}
    for column in columns:
        relation = catalog.find(column.schema, column.table)
        for child in descendants(catalog, relation) if relation is not None else ():
            column_name = (child.schema, child.name, column.name)
            if column_name not in named and child.column(column.name) is not None:
                inherited.setdefault(column_name, replace(column, schema=child.schema, table=child.name))
    return list(inherited.values())


def family_complaints(column: PolicyColumn, columns: list[PolicyColumn], catalog: Catalog) -> Iterator[str]:
    """Say why a column cannot be protected in its table with the parents and children that this has."""
    relation = catalog.find(column.schema, column.table)
    if relation is None:
        return
    identities = {(c.schema, c.table, c.name): c.identity for c in columns}
    for parent in ancestors(catalog, relation):
        if parent.column(column.name) is not None and identities.get((parent.schema, parent.name, column.name)) != column.identity:
            yield (
                f"{column.at}: {column.label} is inherited from {parent.qualified}: name that table in the policy instead, "
                "or both with the same domain"
            )
    for table in (relation, *descendants(catalog, relation)):
        table_column = table.column(column.name)
        if column.name in table.partition_key:
            yield f"{column.at}: {table.qualified} is partitioned by {column.name}: a partition key cannot be protected"
        if table is relation or table_column is None:
            continue
        if table.kind == "f":
            yield f"{column.at}: {table.qualified}, a foreign table, is a child of {relation.qualified}: not in this version"
        if table_column.generated:
            yield f"{column.at}: {column.name} is a generated column in {table.qualified}: it cannot be protected"
        if identities.get((table.schema, table.name, column.name), column.identity) != column.identity:
            yield f"{column.at}: {table.qualified} inherits {column.name} and must have its domain"
        yield from _shared(column, relation, table, identities, catalog)


def _shared(
    column: PolicyColumn, relation: Relation, child: Relation, identities: Mapping[tuple[str, str, str], str], catalog: Catalog
) -> Iterator[str]:
    """Say which other parent gives a child a column of the same name that is protected otherwise, or not at all."""
    family = {relation.oid, *(r.oid for r in descendants(catalog, relation))}
    for parent in ancestors(catalog, child):
        if parent.oid in family or parent.column(column.name) is None:
            continue
        if identities.get((parent.schema, parent.name, column.name)) != column.identity:
            yield f"{column.at}: {child.qualified} inherits {column.name} from {parent.qualified} too, which must have its domain"


def ancestors(catalog: Catalog, relation: Relation) -> Iterator[Relation]:
    """Yield the parents of a relation, theirs, and so on, each once."""
    queue, seen = [*relation.parents], set[int]()
    while queue:
        oid = queue.pop(0)
        parent = catalog.by_oid.get(oid)
        if parent is not None and oid not in seen:
            seen.add(oid)
            queue.extend(parent.parents)
            yield parent
