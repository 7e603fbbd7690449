"""The key registry in a policy's database: reads its rows, leases uses, adds keys; knows no secrets.

Every statement is schema-qualified, every change compare-and-set, every commit synchronous: what was leased or
created must not be forgotten by a crash after a value under it has left.
"""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from phiproxy.errors import ConfigError, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.index.collations import Collation
from phiproxy.keys.provider import Purpose, Wrapped
from phiproxy.keys.rows import DataKeyRow, RootRow, WrapRow
from phiproxy.keys.schema import table
from phiproxy.policy.layout import Layout, RegisteredIdentity
from phiproxy.policy.protection import Slot

Connection = AsyncConnection[TupleRow]

# A lease must wait for its rival and then see what it did, whatever the database's default isolation is; and it must
# survive a crash of the server.
TRANSACTION: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit TO on"

_KEY_COLUMNS = sql.SQL(
    "d.id, d.root_id, d.generation, d.wrapped, d.state, d.max_uses, d.mac, d.used,"
    " extract(epoch FROM clock_timestamp() - d.created_at)::float8"
)
_ROOT_COLUMNS = sql.SQL(
    "r.id, r.scope, r.tenant, r.purpose, r.generation, r.state, extract(epoch FROM clock_timestamp() - r.created_at)::float8"
)


def as_provider_error(error: psycopg.Error, schema: str) -> ProviderError:
    """Return what psycopg's or the pool's error means to whoever wanted a key, without what it may quote."""
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return ProviderUnavailable(f"the key registry does not answer ({type(error).__name__})")
    named = error.sqlstate or type(error).__name__
    return ProviderMisconfigured(
        f"the key registry in schema {schema} cannot be used (SQLSTATE {named})",
        hint="phiproxy check says what is wrong with it",
    )


def os_user() -> str:
    """Return the operating system user's name for ``event`` rows, or its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


async def read_layout(conn: Connection, schema: str = "phiproxy") -> Layout:
    """Read identities, slots and column names, all of one epoch.

    Raises ConfigError when there is no registry, or it changes faster than it can be read.
    """
    meta = sql.SQL("SELECT deployment, epoch FROM {}").format(table(schema, "meta"))
    for _ in range(5):
        try:
            before = await (await conn.execute(meta)).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            before = None
        if before is None:
            raise ConfigError(
                f"the database has no key registry in schema {schema}",
                hint="run: phiproxy keys init (where tables hold encrypted values already: phiproxy check says what is missing)",
            )
        identities, columns = await _read_identities(conn, schema)
        collation = await read_collation(conn, schema)
        if await (await conn.execute(meta)).fetchone() == before:
            return Layout(before[0], before[1], identities, columns, collation)
    raise ConfigError("the key registry changes while it is being read")


async def read_collation(conn: Connection, schema: str) -> Collation | None:
    """Return what is recorded of the database's collation, or None; an older registry has no column for it."""
    query = sql.SQL("SELECT pg_catalog.to_jsonb(m) ->> 'collation' FROM {} m").format(table(schema, "meta"))
    ((text,),) = await _all(conn, query)
    return Collation.load(text)


async def _read_identities(conn: Connection, schema: str) -> tuple[dict[int, RegisteredIdentity], dict[tuple[str, str, str], int]]:
    slots: dict[int, list[Slot]] = {}
    query = sql.SQL(
        "SELECT number, slot, expression, generation, state, normaliser, coalesce(family, '') FROM {} ORDER BY number, slot"
    )
    for number, slot, expression, generation, state, normaliser, family in await _all(conn, query.format(table(schema, "slot"))):
        found = Slot(slot, expression, generation, state, normaliser, family=family)
        slots.setdefault(number, []).append(found)
    query = sql.SQL("SELECT number, identity, scope, type FROM {} ORDER BY number")
    identities = {
        number: RegisteredIdentity(number, identity, scope, type_name, tuple(slots.get(number, ())))
        for number, identity, scope, type_name in await _all(conn, query.format(table(schema, "identity")))
    }
    query = sql.SQL('SELECT "schema", "table", "column", number FROM {}')
    names = await _all(conn, query.format(table(schema, "column_name")))
    return identities, {(s, t, c): number for s, t, c, number in names}


async def record_event(
    conn: Connection, schema: str, what: str, subject: str, change: tuple[str | None, str | None] = (None, None)
) -> None:
    """Add an ``event`` row: the session user and the time are the database's, the OS user is ours."""
    query = sql.SQL('INSERT INTO {} (os_user, what, subject, "from", "to") VALUES (%s, %s, %s, %s, %s)')
    await conn.execute(query.format(table(schema, "event")), (os_user(), what, subject, *change))


async def insert_root(conn: Connection, schema: str, root: RootRow, kek_uri: str, wrapped: Wrapped) -> int | None:
    """Insert a root key (its ``id`` is ignored) with one verified wrap; None when another one stands in its place."""
    query = sql.SQL(
        "INSERT INTO {} (scope, tenant, purpose, generation, state) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id"
    ).format(table(schema, "root_key"))
    values = (root.scope, root.tenant, root.purpose, root.generation, root.state)
    row = await (await conn.execute(query, values)).fetchone()
    if row is None:
        return None
    root_id: int = row[0]
    query = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, clock_timestamp())").format(table(schema, "root_wrap"))
    await conn.execute(query, (root_id, kek_uri, wrapped.version, wrapped.blob))
    subject = f"{root.purpose} root {root_id} of {root.scope}, generation {root.generation}"
    await record_event(conn, schema, "root key made", subject, (None, root.state))
    return root_id


async def insert_data_key(conn: Connection, schema: str, row: DataKeyRow) -> bool:
    """Insert a data key; False when its id, its generation or an active key of its root is there already."""
    query = sql.SQL(
        "INSERT INTO {} (id, root_id, generation, wrapped, state, max_uses, mac) VALUES (%s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING"
    ).format(table(schema, "data_key"))
    values = (row.id, row.root_id, row.generation, row.wrapped, row.state, row.max_uses, row.mac)
    if (await conn.execute(query, values)).rowcount != 1:
        return False
    subject = f"data key {row.id} of root {row.root_id}, generation {row.generation}"
    await record_event(conn, schema, "data key made", subject, (None, row.state))
    return True


async def select_root(
    conn: Connection, schema: str, place: tuple[str, str, Purpose], generation: int | None = None
) -> RootRow | None:
    """Return the root of (scope, tenant, purpose) of this generation; without one, the active root."""
    which = sql.SQL("r.state = 'active'" if generation is None else "r.generation = %s")
    where = sql.SQL("r.scope = %s AND r.tenant = %s AND r.purpose = %s AND {which}").format(which=which)
    values: tuple[str | int, ...] = place if generation is None else (*place, generation)
    found = await select_roots(conn, schema, where, values)
    return found[0] if found else None


async def select_roots(conn: Connection, schema: str, where: sql.Composable, values: tuple[Any, ...]) -> list[RootRow]:
    """Return the roots for which ``where`` holds (a condition over ``r``), with their wraps."""
    query = sql.SQL("SELECT {columns} FROM {roots} r WHERE {where} ORDER BY r.id").format(
        columns=_ROOT_COLUMNS, roots=table(schema, "root_key"), where=where
    )
    return await _with_wraps(conn, schema, await _all(conn, query, values))


async def select_data_keys(conn: Connection, schema: str, root_id: int) -> list[DataKeyRow]:
    """Return all data keys of a root, the oldest first."""
    query = sql.SQL("SELECT {columns} FROM {keys} d WHERE d.root_id = %s ORDER BY d.generation").format(
        columns=_KEY_COLUMNS, keys=table(schema, "data_key")
    )
    return [DataKeyRow(*row) for row in await _all(conn, query, (root_id,))]


async def select_active_key(conn: Connection, schema: str, root_id: int) -> DataKeyRow | None:
    """Return the active data key of a root, or None."""
    query = sql.SQL("SELECT {columns} FROM {keys} d WHERE d.root_id = %s AND d.state = 'active'").format(
        columns=_KEY_COLUMNS, keys=table(schema, "data_key")
    )
    rows = await _all(conn, query, (root_id,))
    return DataKeyRow(*rows[0]) if rows else None


class Registry:
    """The registry over a pool of service connections; a RegistryReader, and the only writer beside ``lifecycle``.

    Everything here raises ProviderUnavailable when the database does not answer, ProviderMisconfigured when it has no
    registry that this role may use.
    """

    def __init__(self, pool: AsyncConnectionPool[Connection], schema: str = "phiproxy") -> None:
        self._pool = pool
        self._schema = schema

    def __repr__(self) -> str:
        return f"<Registry {self._schema}>"

    @property
    def schema(self) -> str:
        """Where the registry lives."""
        return self._schema

    async def layout(self) -> Layout:
        """Return the registry's layout; see ``read_layout``."""
        async with self.transaction() as conn:
            return await read_layout(conn, self._schema)

    async def data_keys(self, ids: frozenset[int]) -> list[DataKeyRow]:
        """Return the rows of these data key ids; ids that are not there are left out."""
        query = sql.SQL("SELECT {columns} FROM {keys} d WHERE d.id = ANY(%s)").format(
            columns=_KEY_COLUMNS, keys=table(self._schema, "data_key")
        )
        async with self.transaction() as conn:
            return [DataKeyRow(*row) for row in await _all(conn, query, (list(ids),))]

    async def roots(self, ids: frozenset[int]) -> list[RootRow]:
        """Return these root keys with their wraps."""
        async with self.transaction() as conn:
            return await select_roots(conn, self._schema, sql.SQL("r.id = ANY(%s)"), (list(ids),))

    async def root_at(self, scope: str, tenant: str, purpose: Purpose, generation: int | None = None) -> RootRow | None:
        """Return the root of this place and generation; without one, the active root."""
        async with self.transaction() as conn:
            return await select_root(conn, self._schema, (scope, tenant, purpose), generation)

    async def add_root(self, root: RootRow, kek_uri: str, wrapped: Wrapped) -> bool:
        """Insert a root key with its verified wrap; False when another one stands in its place."""
        async with self.transaction() as conn:
            return await insert_root(conn, self._schema, root, kek_uri, wrapped) is not None

    async def active_key(self, root_id: int) -> DataKeyRow | None:
        """Return the root's active data key, or None."""
        async with self.transaction() as conn:
            return await select_active_key(conn, self._schema, root_id)

    async def lease(self, key_id: int, uses: int) -> int:
        """Take up to ``uses`` uses of an active data key from those that are left; 0 when there is none to take."""
        query = sql.SQL(
            "WITH k AS (SELECT id, used FROM {keys} WHERE id = %s AND state = 'active' AND used < max_uses FOR UPDATE)"
            " UPDATE {keys} d SET used = least(d.max_uses, k.used + %s) FROM k WHERE d.id = k.id"
            " RETURNING d.used - k.used"
        ).format(keys=table(self._schema, "data_key"))
        async with self.transaction() as conn:
            row = await (await conn.execute(query, (key_id, uses))).fetchone()
        return 0 if row is None else int(row[0])

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction with a synchronous commit; psycopg's errors become ours, without what they may quote.

        What is executed in it is ``changes`` and the functions of this module.
        """
        try:
            async with self._pool.connection() as conn, conn.transaction():
                await conn.execute(TRANSACTION)
                yield conn
        except psycopg.Error as error:
            raise as_provider_error(error, self._schema) from None


async def _all(conn: Connection, query: sql.Composed, values: tuple[Any, ...] = ()) -> list[TupleRow]:
    return await (await conn.execute(query, values)).fetchall()


async def _with_wraps(conn: Connection, schema: str, rows: Iterable[TupleRow]) -> list[RootRow]:
    rows = list(rows)
    query = sql.SQL("SELECT root_id, kek_uri, kek_version, blob FROM {} WHERE root_id = ANY(%s) ORDER BY verified_at DESC").format(
        table(schema, "root_wrap")
    )
    wraps: dict[int, list[WrapRow]] = {}
    for root_id, *wrap in await _all(conn, query, ([row[0] for row in rows],)):
        wraps.setdefault(root_id, []).append(WrapRow(*wrap))
    return [
        RootRow(root_id, scope, tenant, purpose, generation, state, tuple(wraps.get(root_id, ())), age)
        for root_id, scope, tenant, purpose, generation, state, age in rows
    ]
