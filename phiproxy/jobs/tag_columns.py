"""Generated columns of tags, which tables under row-level security have: one for the new slot, and the old one's goes with it.

Adding one rewrites its table under a lock that keeps everybody out, so it is only done where that was asked for.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from phiproxy.errors import ConfigError
from phiproxy.jobs.identity_tables import Tables
from phiproxy.jobs.relations import Connection, Part, rows_of
from phiproxy.jobs.running import Run
from phiproxy.jobs.short_locks import with_short_lock
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import hidden_column, hidden_index, tag_column_name
from phiproxy.policy.protection import Slot

ColumnName = tuple[str, str, str]
Families = Mapping[ColumnName, list[Part]]

_HAS: Final = "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = %s::oid AND attname = %s AND NOT attisdropped"
_SECURED: Final = "SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = %s::oid"
_KEYS: Final = """
SELECT k.conname::text FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a
    ON a.attrelid = %(oid)s::oid AND a.attname = %(name)s AND NOT a.attisdropped
 WHERE k.contype = 'f' AND (k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey)
    OR k.confrelid = a.attrelid AND a.attnum = ANY (k.confkey)) LIMIT 1
"""


def _of(families: Families) -> list[tuple[ColumnName, Part]]:
    return [(name, part) for name, parts in families.items() for part in parts if part.name == name[:2]]


async def refuse_keys(conn: Connection, families: Families, slot: int) -> None:
    """ConfigError where a foreign key goes by a slot's tags: it cannot go by two."""
    for name, part in _of(families):
        tag_column = tag_column_name(name[2], slot)
        async with conn.cursor() as cursor:
            await cursor.execute(_KEYS, {"oid": part.oid, "name": tag_column})
            row = await cursor.fetchone()
        if row is not None:
            raise ConfigError(
                f"foreign key {row[0]} of {part.label} goes by the tags of slot {slot}",
                hint=f"through the proxy: ALTER TABLE … DROP CONSTRAINT {quote_ident(row[0])}, and add it again afterwards",
            )


async def lacking_tag_columns(conn: Connection, tables: Tables, slot: int, active: Slot | None) -> list[tuple[ColumnName, Part]]:
    """Return where a slot has no generated column, and needs one: the active slot has, or row-level security is on."""
    lacking = []
    for name, part in _of(tables.own_families):
        if await rows_of(conn, _HAS, part.oid, tag_column_name(name[2], slot)):
            continue
        has = active is not None and await rows_of(conn, _HAS, part.oid, tag_column_name(name[2], active.number))
        if has or await rows_of(conn, _SECURED, part.oid) == [(True,)]:
            lacking.append((name, part))
    return lacking


async def make_tag_columns(run: Run, tables: Tables, slot: Slot, active: Slot | None) -> None:
    """Add the generated column of a slot, with its index, where the table has one of the active slot, or row-level security."""
    for name, part in await lacking_tag_columns(run.conn, tables, slot.number, active):
        own = tables.columns[name].column
        if not run.job.options.get("lock_tables"):
            raise ConfigError(rewritten(part, name, slot.number), hint="when that may be: phiproxy reindex … --lock-tables")
        text = f"ALTER TABLE {part.label} ADD COLUMN {hidden_column(own, slot)}; {hidden_index(own, slot, name[:2])}"
        await _short(run, part, f"adding {tag_column_name(name[2], slot.number)} to {part.label}", text)


def rewritten(part: Part, name: ColumnName, slot: int) -> str:
    """Say what a generated column costs."""
    needs = f"{part.label} needs the generated column {tag_column_name(name[2], slot)}"
    return f"{needs}: adding it rewrites the table, and keeps everybody out meanwhile"


async def drop_tag_columns(run: Run, families: Families, slot: int) -> None:
    """Drop the generated columns of a slot."""
    for name, part in _of(families):
        tag_column = tag_column_name(name[2], slot)
        if await rows_of(run.conn, _HAS, part.oid, tag_column):
            await _short(run, part, f"dropping {tag_column}", f"ALTER TABLE {part.label} DROP COLUMN {quote_ident(tag_column)}")


async def _short(run: Run, part: Part, what: str, text: str) -> None:
    await with_short_lock(run.conn, part.owner, what, partial(_execute, text.encode()), told=run.display.waits)


async def _execute(text: bytes, conn: Connection) -> None:
    await conn.execute(text)
