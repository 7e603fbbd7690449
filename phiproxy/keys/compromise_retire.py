"""Marking a key compromised, which still opens values and is audited each time, or retired, which opens nothing any more.

A key is retired only when nothing in the database is under it. Whoever keeps backups or replicas must know what is in those: no
registry can. SP 800-57 part 1, sections 7 and 8.3.4.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.keys.authenticated_tables import Connection, one_row
from phiproxy.keys.identities import column_types
from phiproxy.keys.key_rows import DataKeyRow, RootRow, in_state, is_authentic
from phiproxy.keys.key_state_changes import announce, set_data_key_state, set_root_state
from phiproxy.keys.older_transactions import older_have_ended
from phiproxy.keys.registry import Registry, select_data_keys
from phiproxy.keys.registry_checked_on_read import Change
from phiproxy.keys.registry_locks import LONGER, SHORT
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.rotation import roll_data_key
from phiproxy.keys.serving_proxies import all_have_followed
from phiproxy.keys.tenant_keks import Kek
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.physical_columns import hidden_beside, sealed_conditions, sealed_constant
from phiproxy.policy.physical_documents import document_pattern
from phiproxy.policy.registry_layout import column_of
from phiproxy.policy.view_rests import SEALED, sealed_in
from phiproxy.wire.oids import BYTEA_OID

Column = tuple[str, str, str]
"""(schema, table, column) of a protected column."""

ATTEMPTS: Final = 10
LONGEST_PAUSE: Final = 30.0


class _Locked(Exception):
    """Others are at work on a table."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Values of one column that are sealed under one data key."""

    column: Column
    key_id: int
    values: int


async def compromise(registry: Registry, kek: Kek, deployment: str, key_id: int, reason: str, max_uses: int) -> None:
    """Mark a data key as compromised; where it was the one that writes, the next one takes its place at once.

    Raises ConfigError when there is no such key or its state cannot become compromised, ProviderError when its root cannot be had.
    """
    row, root = await _key_and_root(registry, key_id)
    if row.state not in ("pending", "active", "decrypt_only"):
        raise ConfigError(f"data key {key_id:08x} is {row.state} already")
    secret = await unwrap_root(kek, deployment, root)
    _authentic(secret, row)
    async with registry.changing() as change:
        if not await set_data_key_state(change, row, in_state(secret, row, "compromised"), why=reason):
            raise ConfigError(f"data key {key_id:08x} was changed by somebody else at this moment; look again")
        await announce(change.conn, change.schema)
    if row.state == "active":
        await roll_data_key(registry, root, secret, max_uses, None)


async def retire(registry: Registry, kek: Kek, deployment: str, key_id: int, columns: Sequence[Column]) -> list[Usage]:
    """Retire a data key that nothing is sealed under; returns the columns' values that are, and then changes nothing.

    What older transactions may still write is not seen: ``usage_by_older`` is called before, or ``seal_anew`` has waited for them.
    ``columns`` are the protected ones of the key's scope. Raises ConfigError when there is no such key, it still writes, or a
    column cannot be read.
    """
    row, root = await _writing_no_more(registry, key_id)
    secret = await unwrap_root(kek, deployment, root)
    _authentic(secret, row)
    for attempt in range(ATTEMPTS):
        try:
            async with registry.changing() as change:
                usages = await usage(change.conn, columns, key_id)
                if usages:
                    return usages
                if not await set_data_key_state(change, row, in_state(secret, row, "retired")):
                    raise ConfigError(f"data key {key_id:08x} was changed by somebody else at this moment; look again")
                await _retire_empty_root(change, root)
                await announce(change.conn, change.schema)
        except _Locked:
            await asyncio.sleep(min(LONGEST_PAUSE, 0.5 * 2**attempt))
            await _outlast_vacuum(registry, {column[:2] for column in columns})
        else:
            return []
    raise ConfigError(
        f"the tables of data key {key_id:08x} could not be locked in {ATTEMPTS} attempts; it is not retired",
        hint="pg_stat_activity shows which transaction is open for so long",
    )


async def _outlast_vacuum(registry: Registry, tables: Iterable[tuple[str, str]]) -> None:
    """Wait for each table, so long that the server ends an autovacuum for it, and while no other is locked."""
    for table in sorted(tables):
        try:
            async with registry.transaction() as conn:
                await conn.execute(LONGER)
                await _lock(conn, table)
        except _Locked:
            pass


async def _lock(conn: Connection, table: tuple[str, str]) -> None:
    """Lock a table against writers until the transaction ends."""
    try:
        await conn.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(*table)))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise _Locked from None
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable) as error:
        raise _unseen(table, error) from None


def _unseen(table: tuple[str, str], error: psycopg.Error) -> ConfigError:
    return ConfigError(
        f"{'.'.join(table)} cannot be looked through (SQLSTATE {error.sqlstate}), so the key may still be in use",
        hint="the service role needs SELECT and UPDATE on it",
    )


async def usage_by_older(
    registry: Registry, conn: Connection, key_id: int, columns: Sequence[Column], lease: float, told: Callable[[str], None]
) -> list[Usage]:
    """Return what is under a data key, as ``retire`` does; where nothing is, once nobody writes under it any more.

    A proxy may until it has heard that another key writes, and a transaction what it can see of before. ``conn`` is in autocommit
    mode; ``lease`` as of ``proxies_behind``, ``told`` as of ``older_have_ended``. Raises as ``retire`` does.
    """
    await _writing_no_more(registry, key_id)
    await all_have_followed(conn, registry.schema, lease, told)
    async with conn.transaction():
        usages = await usage(conn, columns, key_id, locked=False)
    if not usages:
        await older_have_ended(conn, told)
    return usages


async def _writing_no_more(registry: Registry, key_id: int) -> tuple[DataKeyRow, RootRow]:
    row, root = await _key_and_root(registry, key_id)
    if row.state not in ("decrypt_only", "compromised"):
        raise ConfigError(f"data key {key_id:08x} is {row.state}; only one that does not write any more can be retired")
    return row, root


async def _retire_empty_root(change: Change, root: RootRow) -> None:
    """A root that no longer writes, and whose last data key went, goes too."""
    keys = await select_data_keys(change.conn, change.schema, root.id)
    if root.state == "decrypt_only" and all(k.state in ("retired", "destroyed") for k in keys):
        await set_root_state(change, root, "retired")


async def usage(conn: Connection, columns: Sequence[Column], key_id: int, *, locked: bool = True) -> list[Usage]:
    """Count the values of each column that are sealed under a data key: its id is at offset 5 of the envelope. _Locked.

    ``locked``: against writers until the transaction ends, so that none arrives behind the count.
    """
    usages = []
    # What RLS hides is there all the same: with row_security off the question fails instead.
    await conn.execute("SET LOCAL row_security TO off")
    # A column that is being converted has values in a hidden one beside it.
    beside = [(schema, name, hidden) for schema, name, column in columns for hidden in hidden_beside(column)]
    types = await column_types(conn, [*columns, *beside])
    documents = {column_of(c) for c in columns if column_of(c) != c}
    documents |= {(schema, name, hidden) for schema, name, column in documents for hidden in hidden_beside(column)}
    looked_at: dict[tuple[str, str], dict[str, bool]] = {}
    for schema, name, column in [*(c for c in columns if column_of(c) == c), *(c for c in beside if c in types)]:
        of_document = (schema, name, column) in documents
        if types.get((schema, name, column), BYTEA_OID) == BYTEA_OID or of_document:  # else there is no envelope in it yet
            looked_at.setdefault((schema, name), {})[column] = of_document
    # All before the first is looked through: who waits for one, and has written to another, would be ended by the server else.
    if locked:
        await conn.execute(SHORT)
        for table in sorted(looked_at):
            await _lock(conn, table)
        await conn.execute(b"SET LOCAL lock_timeout TO DEFAULT")
    for (schema, name), in_table in looked_at.items():
        for column, count in zip(in_table, await _counted(conn, schema, name, in_table, key_id), strict=True):
            values = count + await _in_definitions(conn, (schema, name, column), key_id)
            if values:
                usages.append(Usage((schema, name, column), key_id, values))
    return usages + await _in_views(conn, key_id)


async def _counted(conn: Connection, schema: str, name: str, columns: Mapping[str, bool], key_id: int) -> tuple[int, ...]:
    """Count the values under a key in a table, all columns' in one scan, since writers wait for it.

    ``columns``: whether each is of documents.
    """
    qualified = sql.Identifier(schema, name)
    of_value = "pg_catalog.count(*) FILTER (WHERE pg_catalog.substring({}, 6, 4) = {})", key_id.to_bytes(4, "big")
    of_document = "pg_catalog.count(*) FILTER (WHERE {}::text ~ {})", document_pattern(key_id)
    counts = []
    for column, is_document in columns.items():
        count, value = of_document if is_document else of_value
        counts.append(sql.SQL(count).format(sql.Identifier(column), sql.Literal(value)))
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(counts), qualified)
    try:
        return await one_row(conn, query)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable) as error:
        raise _unseen((schema, name), error) from None


_VIEWS = """
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_viewdef(c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'v' AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = %s)
 ORDER BY 1, 2
"""


async def _in_views(conn: Connection, key_id: int) -> list[Usage]:
    """Return the views over expressions of which the rest is under a key."""
    usages = []
    for schema, name, query in await (await conn.execute(_VIEWS, (SEALED,))).fetchall():
        sealed = sealed_in(query)
        if sealed is not None and int.from_bytes(sealed[5:9]) == key_id:
            usages.append(Usage((schema, name, SEALED), key_id, 1))
    return usages


_DEFINITIONS = """
SELECT NULL, d.adbin::text FROM pg_catalog.pg_attrdef d
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
 WHERE d.adrelid = %(table)s::pg_catalog.regclass AND a.attname = %(column)s
UNION ALL
SELECT a.attnum, k.conbin::text FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid
 WHERE k.conrelid = %(table)s::pg_catalog.regclass AND k.contype = 'c' AND a.attname = %(column)s AND a.attnum = ANY (k.conkey)
"""


async def _in_definitions(conn: Connection, column: Column, key_id: int) -> int:
    """Count what is sealed in a column's DEFAULT and constraints: they are needed as long as they are there."""
    schema, name, own = column
    values = {"table": f"{quote_ident(schema)}.{quote_ident(name)}", "column": own}
    sealed: list[bytes | None] = []
    for number, tree in await (await conn.execute(_DEFINITIONS, values)).fetchall():
        sealed += [sealed_constant(tree)] if number is None else [d for n, d in sealed_conditions(tree) if n == number]
    return sum(envelope is not None and int.from_bytes(envelope[5:9]) == key_id for envelope in sealed)


async def _key_and_root(registry: Registry, key_id: int) -> tuple[DataKeyRow, RootRow]:
    rows = await registry.data_keys(frozenset({key_id}))
    if not rows:
        raise ConfigError(f"the registry knows no data key {key_id:08x}", hint="phiproxy keys list shows them")
    (root,) = await registry.roots(frozenset({rows[0].root_id}))
    return rows[0], root


def _authentic(secret: bytes, row: DataKeyRow) -> None:
    if not is_authentic(secret, row):
        raise ConfigError(f"data key {row.id:08x} is not authentic in the registry")


async def scope_of(registry: Registry, key_id: int) -> str:
    """Return the scope of a data key; ConfigError when there is none of this id."""
    return (await _key_and_root(registry, key_id))[1].scope
