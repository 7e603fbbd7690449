"""The key registry in a policy's database: reads its rows, leases uses, adds keys; knows no secrets.

Every statement is schema-qualified, every change compare-and-set, every commit synchronous: what was leased or
created must not be forgotten by a crash after a value under it has left.
"""

import getpass
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from phiproxy.crypto.keyring import KeyState
from phiproxy.errors import NotAuthentic, ProviderError, ProviderMisconfigured, ProviderUnavailable
from phiproxy.keys.authenticated_tables import (
    DATA_KEY,
    ROOT_KEY,
    ROOT_WRAP,
    Connection,
    Read,
    any_of,
    as_number,
    read_rows,
)
from phiproxy.keys.key_rows import DataKeyRow, RootRow, WrapRow
from phiproxy.keys.layout_rows import verified_layout
from phiproxy.keys.manifest import row_label, scope_group
from phiproxy.keys.provider import Purpose, Wrapped
from phiproxy.keys.registry_checked_on_read import CHANGING, Change, Trust, View
from phiproxy.keys.registry_schema import table
from phiproxy.policy.registry_layout import Layout

__all__ = ["Connection"]

# Asked for beside what is authenticated.
_USED: Final = ("t.used",)


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


async def record_event(
    conn: Connection, schema: str, what: str, subject: str, change: tuple[str | None, str | None] = (None, None)
) -> None:
    """Add an ``event`` row: the session user and the time are the database's, the OS user is ours."""
    query = sql.SQL('INSERT INTO {} (os_user, what, subject, "from", "to") VALUES (%s, %s, %s, %s, %s)')
    await conn.execute(query.format(table(schema, "event")), (os_user(), what, subject, *change))


async def insert_root(change: Change, root: RootRow, kek_uri: str, wrapped: Wrapped) -> int | None:
    """Insert a root key (its ``id`` is ignored) with one verified wrap; None when another one stands in its place."""
    query = sql.SQL(
        "INSERT INTO {} (scope, tenant, purpose, generation, state, format) VALUES (%s, %s, %s, %s, %s, 2)"
        " ON CONFLICT DO NOTHING RETURNING id"
    ).format(table(change.schema, "root_key"))
    values = (root.scope, root.tenant, root.purpose, root.generation, root.state)
    row = await (await change.conn.execute(query, values)).fetchone()
    if row is None:
        return None
    root_id: int = row[0]
    query = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, clock_timestamp())").format(table(change.schema, "root_wrap"))
    await change.conn.execute(query, (root_id, kek_uri, wrapped.version, wrapped.blob))
    change.added("root_key", *root.key, fields=(str(root_id), root.state, ...))
    change.added("root_wrap", root_id, kek_uri, wrapped.version, fields=(wrapped.blob.hex(), ...))
    subject = f"{root.purpose} root {root_id} of {root.scope}, generation {root.generation}"
    await record_event(change.conn, change.schema, "root key made", subject, (None, root.state))
    return root_id


async def insert_data_key(change: Change, row: DataKeyRow) -> bool:
    """Insert a data key; False when its id, its generation or an active key of its root is there already."""
    query = sql.SQL(
        "INSERT INTO {} (id, root_id, generation, wrapped, state, max_uses, mac, format) VALUES (%s, %s, %s, %s, %s, %s, %s, 2)"
        " ON CONFLICT DO NOTHING"
    ).format(table(change.schema, "data_key"))
    values = (row.id, row.root_id, row.generation, row.wrapped, row.state, row.max_uses, row.mac)
    if (await change.conn.execute(query, values)).rowcount != 1:
        return False
    numbers = str(row.root_id), str(row.generation)
    change.added("data_key", row.id, fields=(*numbers, row.wrapped.hex(), row.state, str(row.max_uses), row.mac.hex(), ...))
    subject = f"data key {row.id:08x} of root {row.root_id}, generation {row.generation}"
    await record_event(change.conn, change.schema, "data key made", subject, (None, row.state))
    return True


async def select_root(conn: Connection, schema: str, root_scope: tuple[str, str, Purpose]) -> RootRow | None:
    """Return the active root of (scope, tenant, purpose), as it is stored."""
    where = sql.SQL("t.scope = %s AND t.tenant = %s AND t.purpose = %s AND t.state = 'active'")
    roots = await select_roots(conn, schema, where, root_scope)
    # The owner of the tables says what is equal, by a column's collation or type; whose root it is, its key says.
    return next((root for root in roots if (root.scope, root.tenant, root.purpose) == root_scope), None)


async def select_roots(conn: Connection, schema: str, where: sql.Composable, values: tuple[Any, ...]) -> list[RootRow]:
    """Return the roots for which ``where`` holds (a condition over ``t``), with their wraps, as they are stored."""
    roots = await read_rows(conn, schema, ROOT_KEY, where, values)
    wraps = await read_rows(conn, schema, ROOT_WRAP, any_of("t.root_id"), (_ids(roots),))
    return _roots([(read, True) for read in roots], [(read, True) for read in wraps])


async def view_roots(view: View, where: sql.Composable, values: tuple[Any, ...]) -> list[RootRow]:
    """Return a snapshot's roots for which ``where`` (over ``t``) holds; each is as authentic as its own row and all its wraps."""
    roots = await view.rows(ROOT_KEY, where, values)
    wraps = await view.rows(ROOT_WRAP, any_of("t.root_id"), (_ids(read for read, _ in roots),))
    return _roots(roots, wraps)


def _age(created_at: str | None) -> float:
    """Return the age of what is authenticated: the server's own arithmetic may be what a trigger has left in the session."""
    return time.time() - as_number(created_at) / 1_000_000


def _ids(roots: Iterable[Read]) -> list[int]:
    return [as_number(read.row.fields[0]) for read in roots]


def _roots(roots: Iterable[tuple[Read, bool]], wraps: Iterable[tuple[Read, bool]]) -> list[RootRow]:
    of_root: dict[int, list[tuple[int, WrapRow, bool]]] = {}
    for read, ok in wraps:
        root_id, uri, version = read.row.key
        blob, verified_at = read.row.fields
        wrap = WrapRow(uri, version, bytes.fromhex(blob or ""))
        of_root.setdefault(as_number(root_id), []).append((as_number(verified_at), wrap, ok))
    root_rows = []
    for read, ok in roots:
        scope, tenant, purpose, generation = read.row.key
        own_id, state, created_at = read.row.fields
        own = sorted(of_root.get(as_number(own_id), ()), key=lambda w: w[0], reverse=True)
        row = RootRow(
            as_number(own_id), scope, tenant, cast("Purpose", purpose), as_number(generation), cast("KeyState", state),
            tuple(wrap for _, wrap, _ in own), _age(created_at), ok and all(fine for _, _, fine in own),
        )  # fmt: skip
        root_rows.append(row)
    return sorted(root_rows, key=lambda root: root.id)


async def select_data_keys(conn: Connection, schema: str, root_id: int) -> list[DataKeyRow]:
    """Return all data keys of a root, the oldest first, as they are stored."""
    reads = await read_rows(conn, schema, DATA_KEY, sql.SQL("t.root_id = %s"), (root_id,), extra=_USED)
    return [row for row in _data_keys([(read, True) for read in reads]) if row.root_id == root_id]


async def view_data_keys(view: View, where: sql.Composable, values: tuple[Any, ...]) -> list[DataKeyRow]:
    """Return the data keys for which ``where`` holds (a condition over ``t``) in a snapshot, and whether they are authentic."""
    return _data_keys(await view.rows(DATA_KEY, where, values, _USED))


def _data_keys(rows: Iterable[tuple[Read, bool]]) -> list[DataKeyRow]:
    data_keys = []
    for read, ok in rows:
        root_id, generation, wrapped, state, max_uses, mac, created_at = read.row.fields
        (used,) = read.extra
        most = as_number(max_uses)
        row = DataKeyRow(
            as_number(read.row.key[0]), as_number(root_id), as_number(generation), bytes.fromhex(wrapped or ""),
            cast("KeyState", state), most, bytes.fromhex(mac or ""), used if isinstance(used, int) else most, _age(created_at), ok,
        )  # fmt: skip
        data_keys.append(row)
    return sorted(data_keys, key=lambda row: row.generation)


class Registry:
    """The registry over a pool of service connections; a RegistryReader, and the only writer beside ``lifecycle``.

    What it returns was looked for in the manifests, and says whether it is ``authentic``. All of it raises ProviderUnavailable
    when the database does not answer, ProviderMisconfigured when it has no registry that this role may use, NotAuthentic when
    the registry as a whole does not verify.
    """

    def __init__(self, pool: AsyncConnectionPool[Connection], trust: Trust) -> None:
        self._pool = pool
        self.trust = trust
        self.schema = trust.schema

    async def layout(self) -> Layout:
        """Return the registry's layout; see ``verified_layout``."""
        async with self.reading() as view:
            return await verified_layout(view)

    async def data_keys(self, ids: frozenset[int]) -> list[DataKeyRow]:
        """Return the rows of these data key ids; ids that are not there are left out."""
        async with self.reading() as view:
            return [row for row in await view_data_keys(view, any_of("t.id"), (list(ids),)) if row.id in ids]

    async def roots(self, ids: frozenset[int]) -> list[RootRow]:
        """Return these root keys with their wraps."""
        async with self.reading() as view:
            return [root for root in await view_roots(view, any_of("t.id"), (list(ids),)) if root.id in ids]

    async def all_roots(self) -> list[RootRow]:
        """Return every root key of the registry with its wraps, in the order they were made."""
        async with self.reading() as view:
            return await view_roots(view, sql.SQL("true"), ())

    async def roots_of(self, scope: str, tenant: str, purpose: Purpose) -> list[RootRow]:
        """Return all generations of the root of a place, the oldest first; NotAuthentic when one of them is not there any more."""
        async with self.reading() as view:
            where = sql.SQL("t.scope = %s AND t.tenant = %s AND t.purpose = %s")
            rows = await view_roots(view, where, (scope, tenant, purpose))
            # The owner of the tables says what is equal, by a column's collation or type; whose root it is, its key says.
            roots = [root for root in rows if (root.scope, root.tenant, root.purpose) == (scope, tenant, purpose)]
            present = {row_label("root_key", (scope, tenant, purpose, str(root.generation))) for root in roots}
            if await view.missing(scope_group(scope, tenant), "root_key", (scope, tenant, purpose), present):
                raise NotAuthentic(f"a {purpose} root key of {scope} is missing in the key registry")
        return sorted(roots, key=lambda root: root.generation)

    async def root_at(self, scope: str, tenant: str, purpose: Purpose, generation: int | None = None) -> RootRow | None:
        """Return the root of this place and generation; without one, the active root. None when there is none, for certain."""
        roots = await self.roots_of(scope, tenant, purpose)
        candidates = [r for r in roots if (r.state == "active" if generation is None else r.generation == generation)]
        if not candidates and not all(root.authentic for root in roots):
            raise NotAuthentic(f"a {purpose} root key of {scope} is not authentic in the key registry")
        return max(candidates, key=lambda root: root.authentic, default=None)

    async def add_root(self, root: RootRow, kek_uri: str, wrapped: Wrapped) -> bool:
        """Insert a root key with its verified wrap; False when another one stands in its place."""
        async with self.changing() as change:
            return await insert_root(change, root, kek_uri, wrapped) is not None

    async def keys_of(self, root_id: int) -> list[DataKeyRow]:
        """Return all data keys of a root, the oldest first."""
        async with self.reading() as view:
            data_keys = await view_data_keys(view, sql.SQL("t.root_id = %s"), (root_id,))
        return [row for row in data_keys if row.root_id == root_id]

    async def active_key(self, root_id: int) -> DataKeyRow | None:
        """Return the root's active data key, or None."""
        async with self.reading() as view:
            data_keys = await view_data_keys(view, sql.SQL("t.root_id = %s AND t.state = 'active'"), (root_id,))
        own = [key for key in data_keys if key.root_id == root_id and key.state == "active"]
        return max(own, key=lambda key: key.authentic, default=None)

    async def lease(self, key_id: int, uses: int) -> int:
        """Take up to ``uses`` uses of an active data key from those that are left; 0 when there is none to take."""
        query = sql.SQL(
            "WITH k AS (SELECT id, used FROM {keys} WHERE id = %s AND state = 'active' AND used < max_uses FOR UPDATE)"
            " UPDATE {keys} d SET used = least(d.max_uses, k.used + %s) FROM k WHERE d.id = k.id"
            " RETURNING d.used - k.used"
        ).format(keys=table(self.schema, "data_key"))
        async with self.transaction() as conn:
            row = await (await conn.execute(query, (key_id, uses))).fetchone()
        return 0 if row is None else int(row[0])

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[View]:
        """One verified snapshot of the registry."""
        async with self._connection() as conn, self.trust.reading(conn) as view:
            yield view

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[Change]:
        """One transaction that changes the registry, with a synchronous commit."""
        async with self._connection() as conn, self.trust.changing(conn) as change:
            yield change

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction with a synchronous commit, for what is not authenticated: leases, events, the epoch."""
        async with self._connection() as conn, conn.transaction():
            await conn.execute(CHANGING)
            yield conn

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Take a connection; psycopg's errors become ours, without what they may quote."""
        try:
            async with self._pool.connection() as conn:
                yield conn
        except psycopg.Error as error:
            raise as_provider_error(error, self.schema) from None
