"""What a worker calls: databases like the server's, and rests computed in them, so many at a time and so long at most.

::

    database = await engine.database(identity, definitions)
    async with database.computing(rest, session) as computation:
        async for rows in source:                    # DataRow messages, opened
            await computation.rows(rows)
        async for piece in computation.results(values):
            ...                                      # RowDescription, DataRow, CommandComplete: the client's as they are
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from phiproxy.engine import databases
from phiproxy.engine.access import Access
from phiproxy.engine.computation import Computation
from phiproxy.engine.connection import Connection, NoSuchDatabase
from phiproxy.engine.databases import Created
from phiproxy.engine.definitions import Definitions
from phiproxy.engine.failures import EngineTimeout
from phiproxy.engine.identity import Comparison, Identity, compare
from phiproxy.engine.pool import Pool
from phiproxy.engine.rest import Rest, Session
from phiproxy.engine.rows_into_engine import ColumnType, Counted, Source
from phiproxy.engine.run import Run
from phiproxy.errors import ConfigError, StatementRefused
from phiproxy.policy.settings import Compute

# What a failed run may take to be cleaned up before its connection is closed instead.
SETTLING = 5.0
# Sources whose types as SQL are remembered.
MOST_SHAPES = 1000
_TYPES = """
SELECT pg_catalog.format_type(c.oid::oid, c.typmod),
       CASE WHEN t.typarray <> 0 AND coalesce(b.typtype, t.typtype) NOT IN ('c', 'p')
                 AND coalesce(b.typcategory, t.typcategory) <> 'A'
            THEN pg_catalog.format_type(t.typarray, -1) ELSE '' END
  FROM ROWS FROM (pg_catalog.unnest(%s::int8[]), pg_catalog.unnest(%s::int4[])) WITH ORDINALITY AS c (oid, typmod, n)
  LEFT JOIN pg_catalog.pg_type t ON t.oid = c.oid::oid
  LEFT JOIN LATERAL (WITH RECURSIVE over (oid) AS (SELECT t.typbasetype UNION ALL SELECT o.typbasetype FROM over
                       JOIN pg_catalog.pg_type o ON o.oid = over.oid WHERE o.typtype = 'd')
                     SELECT i.typtype, i.typcategory FROM over JOIN pg_catalog.pg_type i ON i.oid = over.oid
                      WHERE i.typtype <> 'd') b ON t.typtype = 'd'
 ORDER BY c.n
"""


class Engine:
    """The engine as one worker uses it: ``workers`` share the sessions that the settings allow."""

    def __init__(self, access: Access, compute: Compute, *, workers: int = 1) -> None:
        self.access = access
        self.compute = compute
        self.pool = Pool(access, max(compute.limits.sessions // workers, 1))
        self._databases: dict[str, Database] = {}
        self._making = asyncio.Lock()
        self._settling: set[asyncio.Task[None]] = set()

    async def database(self, server: Identity, definitions: Definitions) -> Database:
        """Return the database that is like the server's, which is made where it is not there; the same for the same arguments.

        EngineUnavailable where the engine is not there now; ConfigError where it cannot have such a database, or is of another
        major version, which nobody has accepted.
        """
        wanted = definitions.with_extensions(self.compute.extensions)
        name = databases.name_of(server, wanted)
        async with self._making:
            if name not in self._databases:
                created = await databases.make_database(self.access, server, wanted)
                database = Database(self, created, server, wanted)
                if complaints := database.comparison.complaints(self.compute):
                    hint = "compute.binaries names another PostgreSQL; compute.allow_version accepts another major version"
                    raise ConfigError(f"the engine is not like the server: {'; '.join(complaints)}", hint=hint)
                self._databases[name] = database
                while len(self._databases) > databases.MOST:  # the oldest: its types have changed often since
                    self.pool.close(self._databases.pop(next(iter(self._databases))).created.name)
        return self._databases[name]

    def settle(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something behind a statement that is over."""
        task = asyncio.get_running_loop().create_task(work, name="settle a session of the engine")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def close(self) -> None:
        """Hang up everywhere."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=SETTLING)
        self.pool.close()


class Database:
    """One database of the engine. ``created`` says what it is, and which of the server's types it lacks."""

    def __init__(self, engine: Engine, created: Created, server: Identity, definitions: Definitions) -> None:
        self.created = created
        self._engine = engine
        self._server = server
        self._definitions = definitions
        self._timeout = engine.compute.limits.timeout
        self._types: dict[Source, tuple[ColumnType, ...]] = {}

    @property
    def comparison(self) -> Comparison:
        """How it differs from the server's: what ``check`` says, and what must not be answered."""
        return compare(self.created.identity, self._server)

    async def types(self, source: Source) -> tuple[ColumnType, ...]:
        """Return the types of a source's columns as SQL; StatementRefused where the engine does not have one of them."""
        types = self._types.get(source)
        if types is None:
            oids, typmods = [c.type_oid for c in source], [c.typmod for c in source]
            async with databases.connect(self._engine.access, self.created.name) as conn:
                rows = await (await conn.execute(_TYPES, (oids, typmods))).fetchall()
            for column, (name, _) in zip(source, rows, strict=True):
                if name == "???":
                    what = self.created.missing.get(column.type_oid, f"with the oid {column.type_oid}")
                    hint = "types of extensions listed in compute.extensions are there, and what is made of built-in parts"
                    raise StatementRefused(f"the engine does not have the type {what}", hint=hint)
            if len(self._types) >= MOST_SHAPES:
                self._types.clear()
            types = self._types[source] = tuple(ColumnType(*row) for row in rows)
        return types

    @contextlib.asynccontextmanager
    async def computing(self, rest: Rest, session: Session | None = None, narrowing: str = "") -> AsyncIterator[Computation]:
        """Give a session of the engine for one rest; where the client's is not known yet, ``begin`` is told of it.

        ``narrowing``: what the client could add where too many rows are opened.
        EngineTimeout where none becomes free in time; else as ``Computation``.
        """
        pool, limits = self._engine.pool, self._engine.compute.limits
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            await pool.enter(deadline)
        except TimeoutError:
            text = f"no session of the engine became free within {self._timeout:g} s (compute.limits.sessions)"
            raise EngineTimeout(text, hint="try again") from None
        conn, computation = None, None
        try:
            conn = await self._connection()
            types = await self.types(rest.source)
            computation = Computation(conn, Run(conn.said, rest, types, Counted(limits, narrowing)), self._timeout, deadline)
            if session is not None:
                computation.begin(session)
            yield computation
        finally:
            if computation is None or computation.is_free:
                pool.leave(conn)
            else:
                self._engine.settle(self._settle(computation))

    async def describe(self, rest: Rest, session: Session) -> list[bytes]:
        """Return what Describe of the statement is answered with: ParameterDescription, RowDescription, and that of a portal."""
        async with self.computing(rest, session) as computation:
            return [piece async for piece in computation.description()]

    async def _connection(self) -> Connection:
        try:
            return await self._engine.pool.connection(self.created.name)
        except NoSuchDatabase:
            self.created = await databases.make_database(self._engine.access, self._server, self._definitions)
            return await self._engine.pool.connection(self.created.name)

    async def _settle(self, computation: Computation) -> None:
        """Make a connection whose run did not come to its end usable again, or end it with what it computes."""
        conn = computation.conn
        try:
            async with asyncio.timeout(SETTLING):
                if not await computation.settle():
                    await conn.cancel()
        except TimeoutError:
            await conn.cancel()
        finally:
            self._engine.pool.leave(conn)
