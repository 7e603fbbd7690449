"""Read of a catalogue what matters, over the service connection, and notice when it is another one.

One transaction of plain SELECTs over pg_catalog: a snapshot of one moment. No regclass casts and, but for the guards, no pg_get_*
functions, which look names up afresh and fail when a table is dropped between two of them. What is read is what reaches protected
tables, what has a guard, and relations whose names were asked for: however many others there are, they cost nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import psycopg

from phiproxy.index.collations import identity_query
from phiproxy.net import clock
from phiproxy.net.code import Definitions, read_definitions
from phiproxy.net.reach import Ask, read_reach
from phiproxy.net.watch import Version, Watch, version_of
from phiproxy.policy import snapshot
from phiproxy.policy.catalog import Catalog, Relation
from phiproxy.policy.reach import PG_CLASS, Objects, Reach, reaching

log = logging.getLogger(__name__)
# A trigger on a table of the registry may have set another one in this session, with operators that answer otherwise.
_SEARCH_PATH = "SET LOCAL search_path TO pg_catalog"
_OTHERS = "SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relkind IN ('r','p','v','m','f')"
# Seconds. A name more or less in a list of thousands costs a look at that name.
OTHERS_EVERY = 60.0
_SCHEMAS = r"""
SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp\_%'
"""
_VIEWS = """
SELECT c.oid::int8, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c WHERE c.oid IN ({oids})
"""
_ASCII_CASE = """
SELECT pg_catalog.lower(pg_catalog.upper(a)) = a AND pg_catalog.upper(a) = pg_catalog.translate(a, 'abcdefghijklmnopqrstuvwxyz',
                                                                                    'ABCDEFGHIJKLMNOPQRSTUVWXYZ')
  FROM (VALUES ('abcdefghijklmnopqrstuvwxyz'::text)) v (a)
"""


class CatalogReader:
    """Reads the catalogue of one database, and knows what it has read.

    Its connections are idle, outside of a transaction. Every method raises psycopg.Error.
    """

    def __init__(self) -> None:
        self._watch = Watch()
        self._version: Version | None = None
        self._others, self._others_at = frozenset[str](), -math.inf
        self._asked: tuple[list[int], list[str]] = ([], [])
        self._asked_version = ""
        self._definitions: Definitions | None = None

    async def same(self, conn: psycopg.AsyncConnection[Any], *, temporary: bool = False, apart: bool = False) -> bool:
        """Tell whether what was read last is still so; ``temporary``: of temporary tables too.

        ``apart``: the connection is for such questions only, so that nobody's triggers run in it.
        """
        if self._version is None:
            return False
        if apart:
            version = await self._watch.version(partial(_rows, conn, prepare=None))
        else:
            async with conn.transaction():
                await conn.execute(_SEARCH_PATH)
                version = await self._watch.version(partial(_rows, conn))
        return version[:2] == self._version[:2] and not (temporary and version.temporary != self._version.temporary)

    async def asked_same(self, conn: psycopg.AsyncConnection[Any]) -> bool:
        """Tell whether relations that were read since somebody asked for their names are still so.

        Of all else another process tells, that has the same protected tables. The connection is for such questions only.
        """
        if not self._asked[1]:
            return True
        return await version_of(partial(_rows, conn, prepare=None), *self._asked) == self._asked_version

    async def read(
        self, conn: psycopg.AsyncConnection[Any], protected: Collection[tuple[str, str]], names: Iterable[str] | None = ()
    ) -> Catalog:
        """Read what reaches protected tables, (schema, table) each, and those that have a guard, and what has one of the names.

        ``names`` are those of relations and indexes; all are read where it is None.
        """
        ask = partial(_rows, conn)
        async with conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await conn.execute(_SEARCH_PATH)
            definitions = await self._read_definitions(ask, conn.info.server_version)
            reach, setters = await _read_reach(ask, definitions, frozenset(protected))
            known = None if names is None else {*names, *(table for _, table in protected), *reach.names}
            oids = [node.oid for node in reach.nodes if node.catalogue == PG_CLASS]
            relations = await _relations(ask, snapshot.ALL if known is None else snapshot.some(known, oids))
            views = await _views(conn, [r.oid for r in relations if r.kind in ("v", "m") and r.name in reach.names])
            ((ascii_case,),) = await ask(_ASCII_CASE)
            ((collation,),) = await ask(identity_query(conn.info.server_version))
            schemas = frozenset(name for (name,) in await ask(_SCHEMAS))
            if clock.now() - self._others_at > OTHERS_EVERY:
                self._others = frozenset(name for (name,) in await ask(_OTHERS))
                self._others_at = clock.now()
            self._watch = Watch(
                oids=[r.oid for r in relations if not r.schema.startswith("pg_temp_")],
                names=known or (),
                nodes=reach.nodes | setters.nodes,
                types=[own.oid for own in definitions.types],
                seen=self._watch.seen,
            )
            version = await self._watch.version(ask)
            asked = sorted({*(names or ())} - {table for _, table in protected})
            own = [r.oid for r in relations if not {r.name, *(i.name for i in r.indexes)}.isdisjoint(asked)]
            self._asked, self._asked_version = (own, asked), await version_of(ask, own, asked)
        catalog = Catalog(
            _digest(reach, setters, sorted(views.items()), ascii_case, collation, sorted(schemas), definitions.digest),
            conn.info.server_version,
            relations,
            reach.names,
            definitions.dynamic,
            views,
            definitions.replaced,
            ascii_case,
            collation,
            definitions.types,
            definitions.collations,
            frozenset(setters.names),
            definitions.signatures,
            None if known is None else frozenset(known),
            schemas,
            self._others,
        )
        # While somebody is changing a view it cannot be read, and if that is rolled back nothing is another one than before.
        self._version = None if catalog.views_were_locked else version
        return catalog

    async def _read_definitions(self, ask: Ask, server_version: int) -> Definitions:
        known, version = self._definitions, self._version
        if known is None or version is None or (await self._watch.version(ask)).definitions != version.definitions:
            known = self._definitions = await read_definitions(ask, server_version)
        return known


async def _read_reach(ask: Ask, definitions: Definitions, protected: frozenset[tuple[str, str]]) -> tuple[Reach, Reach]:
    found = await _relations(ask, snapshot.some({table for _, table in protected}, ()))
    tables = {r.oid: r.qualified for r in found if (r.schema, r.name) in protected or r.guards}
    if not tables:
        return reaching(Objects(), {}, sorted(definitions.always) if protected else ()), Reach({}, frozenset())
    return await read_reach(ask, tables, definitions.code, sorted(definitions.always))


async def read_catalog(
    conn: psycopg.AsyncConnection[Any], protected: Collection[tuple[str, str]], names: Iterable[str] | None = ()
) -> Catalog:
    """Read once, as ``CatalogReader.read``. Raises psycopg.Error."""
    return await CatalogReader().read(conn, protected, names)


async def _views(conn: psycopg.AsyncConnection[Any], oids: list[int]) -> dict[int, str]:
    """Read the stored queries of these views; none where one of them is locked or dropped just now: then all of them stay refused.

    Unlike all else here this takes a lock on each view, and nobody may wait for a client that changes one.
    """
    if not oids:
        return {}
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout TO '50ms'")
            await conn.execute("SET LOCAL search_path TO pg_catalog, pg_temp")  # what is not in it is written with its schema
            return {oid: text for oid, text in await _rows(conn, _VIEWS.format(oids=",".join(map(str, oids)))) if text is not None}
    except psycopg.errors.Error as error:
        if conn.closed:
            raise
        log.debug("the stored queries of views could not be read: %s", error.sqlstate)
        return {}


def _digest(reach: Reach, setters: Reach, *more: object) -> int:
    content = (sorted(reach.names.items()), sorted(setters.names), *more)
    return int.from_bytes(hashlib.blake2b(repr(content).encode(), digest_size=8).digest())


async def _rows(
    conn: psycopg.AsyncConnection[Any], query: str, parameters: Any = None, *, prepare: bool | None = False
) -> list[tuple[Any, ...]]:
    """Return the rows of a query; it is prepared only where that is sure to be what is executed: triggers may prepare too."""
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query.encode(), parameters, prepare=prepare)
        return await cursor.fetchall()


async def _relations(ask: Ask, query: str) -> tuple[Relation, ...]:
    rows = await ask(query)
    # Thousands of tables are a second of work: not on the loop, where sessions wait.
    return await asyncio.to_thread(lambda: tuple(snapshot.relation(text) for (text,) in rows))
