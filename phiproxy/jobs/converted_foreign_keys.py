"""Foreign keys over columns that are to be converted, and the generated columns of tags that those over sealed columns need.

A generated column is added while nothing is sealed yet: the server writes the table anew for it, under a lock that keeps everybody
out. The rest takes no time: its unique index is built beside, and the rows are looked at after the switch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from phiproxy.errors import PhiproxyError
from phiproxy.jobs.converted_indexes import over_shadows, told
from phiproxy.jobs.dependents import Dependent, spelled
from phiproxy.jobs.physical_definitions import Converter
from phiproxy.jobs.relations import Connection, TableName, rows_of
from phiproxy.policy.identifiers import literal, quote_ident
from phiproxy.policy.physical_columns import hidden_column, hidden_index, hidden_name
from phiproxy.policy.protection import ProtectedColumn

Q = quote_ident
Columns = Mapping[TableName, Sequence[ProtectedColumn]]
"""The columns that are to be converted, by their tables."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A foreign key as the server has it, between columns of two tables."""

    name: str
    table: TableName
    owner: str
    columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]
    definition: str
    validated: bool
    comment: str | None
    partitioned: bool


@dataclass(frozen=True)
class GeneratedTags:
    """Generated columns of tags of columns that are being sealed, and their indexes: the statement that makes each, by its name.

    The columns are over the hidden ones beside those.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)

    def joined(self, other: GeneratedTags) -> GeneratedTags:
        """Return those of both."""
        return GeneratedTags({**self.columns, **other.columns}, {**self.indexes, **other.indexes})


_KEYS: Final = """
SELECT k.conname::text, n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u(num, i) JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.i),
       fn.nspname::text, fc.relname::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY u(num, i) JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.i),
       pg_catalog.pg_get_constraintdef(k.oid), k.convalidated, pg_catalog.obj_description(k.oid, 'pg_constraint'), c.relkind = 'p'
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class fc ON fc.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
 WHERE k.contype = 'f' AND k.conparentid = 0
   AND EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) w(schema, name)
                WHERE (w.schema, w.name) IN ((n.nspname, c.relname), (fn.nspname, fc.relname)))
 ORDER BY k.oid  -- in which order they are asked
"""


async def keys_over(conn: Connection, names: Mapping[TableName, set[str]]) -> list[StoredKey]:
    """Return the foreign keys from or to any of these columns, by tables; psycopg.Error."""
    keys = []
    tables = [schema for schema, _ in names], [table for _, table in names]
    for name, schema, table, owner, columns, other_schema, other, others, *rest in await rows_of(conn, _KEYS, *tables):
        own, referenced = (schema, table), (other_schema, other)
        if names.get(own, set()) & set(columns) or names.get(referenced, set()) & set(others):
            keys.append(StoredKey(name, own, owner, tuple(columns), referenced, tuple(others), *rest))
    return keys


def _dependent(key: StoredKey, made: str) -> Dependent:
    same = [made]
    if key.comment is not None:
        same.append(f"COMMENT ON CONSTRAINT {Q(key.name)} ON {spelled(key.table)} IS {literal(key.comment)}")
    return Dependent(
        f"foreign key {key.name} of {spelled(key.table)}",
        key.owner,
        (f"ALTER TABLE {spelled(key.table)} DROP CONSTRAINT {Q(key.name)}",),
        (),
        tuple(same),
        (*key.table, key.name) if key.validated and not key.partitioned else None,
    )


_PIECE: Final = re.compile(r"EXECUTE (\$[a-z_]+\$)(.*?)\1;", re.DOTALL)


async def sealed_keys(
    keys: Sequence[StoredKey], columns: Columns, converter: Converter, obstacles: list[str]
) -> tuple[list[Dependent], dict[TableName, GeneratedTags]]:
    """Return foreign keys as they will be over tags, and the generated columns that they need, by table."""
    dependents, tags = list[Dependent](), dict[TableName, GeneratedTags]()
    for key in keys:
        # The server takes no NOT VALID of a partitioned table: it looks at the rows at once.
        text = f"ALTER TABLE {spelled(key.table)} ADD CONSTRAINT {Q(key.name)} {key.definition.removesuffix(' NOT VALID')}"
        try:
            physical = await converter.definition(text + ("" if key.partitioned else " NOT VALID"))
        except PhiproxyError as refused:
            obstacles.append(f"foreign key {key.name} of {spelled(key.table)}: {told(refused.message, refused.hint, 'or drop it')}")
            continue
        *pieces, made = [match[2] for match in _PIECE.finditer(physical)] or [physical]
        dependents.append(_dependent(key, made))
        for table in {key.table, key.referenced} & columns.keys():
            tags[table] = tags.get(table, GeneratedTags()).joined(_tags(table, columns[table], pieces))
    return dependents, tags


def _tags(table: TableName, columns: Sequence[ProtectedColumn], pieces: Sequence[str]) -> GeneratedTags:
    """Return the generated columns of a table, with their unique index, among the statements that a foreign key has become."""
    label = spelled(table)
    added = {
        piece.removeprefix(f"ALTER TABLE {label} ADD COLUMN ").partition(" bytea ")[0]: over_shadows(piece, columns)
        for piece in pieces
        if piece.startswith(f"ALTER TABLE {label} ADD COLUMN ")
    }
    made = [piece for piece in pieces if piece.startswith("CREATE UNIQUE INDEX ") and f" ON {label} (" in piece]
    return GeneratedTags({_bare(name): text for name, text in added.items()}, {_index_name(text): text for text in made})


def secured_tags(table: TableName, columns: Sequence[ProtectedColumn]) -> GeneratedTags:
    """Return the generated columns, with indexes, by which a table under row-level security is searched."""
    added, made = dict[str, str](), list[str]()
    for column in columns:
        for slot in (slot for slot in column.slots if slot.state != "dropped"):
            definition = over_shadows(hidden_column(column, slot), columns)
            added[hidden_name(column, slot.number)] = f"ALTER TABLE {spelled(table)} ADD COLUMN {definition}"
            made.append(hidden_index(column, slot, table))
    return GeneratedTags(added, {_index_name(text): text for text in made})


def _index_name(statement: str) -> str:
    return _bare(statement.partition(" INDEX ")[2].partition(" ON ")[0])


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def plain_keys(keys: Sequence[StoredKey], columns: Columns) -> list[Dependent]:
    """Return foreign keys over tags as they are over the values that these are of."""
    dependents = []
    for key in keys:
        tail = key.definition.partition(" REFERENCES ")[2].partition(")")[2].removesuffix(" NOT VALID")
        own = _named(key.columns, columns.get(key.table, ()))
        theirs = _named(key.referenced_columns, columns.get(key.referenced, ()))
        made = (
            f"ALTER TABLE {spelled(key.table)} ADD CONSTRAINT {Q(key.name)} FOREIGN KEY ({own})"
            f" REFERENCES {spelled(key.referenced)} ({theirs}){tail}{'' if key.partitioned else ' NOT VALID'}"
        )
        dependents.append(_dependent(key, made))
    return dependents


def _named(names: Sequence[str], columns: Sequence[ProtectedColumn]) -> str:
    of = {hidden_name(column, slot.number): column.name for column in columns for slot in column.slots}
    return ", ".join(Q(of.get(name, name)) for name in names)
