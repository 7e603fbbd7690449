"""Read of a catalogue what matters, over the service connection, and notice when it is another one.

One transaction of plain SELECTs over pg_catalog: a snapshot of one moment. No regclass casts and, but for the guards, no pg_get_*
functions, which look names up afresh and fail when a table is dropped between two of them. What is read is what reaches protected
tables, what has a guard, and relations whose names were asked for: however many others there are, they cost nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg

from phiproxy.index.collations import identity_query
from phiproxy.net import clock
from phiproxy.net.catalog_watch import ROLES, Look, Version, Watch, version_of
from phiproxy.net.database_objects import Definitions, read_definitions
from phiproxy.net.dependency_reader import NO_DEPENDENTS, Ask, ReadDependents, read_dependents
from phiproxy.policy import catalog_rows
from phiproxy.policy.catalog import ANY_DDL, Catalog, Relation
from phiproxy.policy.dependencies import PG_CLASS, PG_EVENT_TRIGGER, Objects, dependents_of

log = logging.getLogger(__name__)
# A trigger on a table of the registry may have set another one in this session, with operators that answer otherwise.
_SEARCH_PATH = "SET LOCAL search_path TO pg_catalog"
_OTHERS = "SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relkind IN ('r','p','v','m','f')"
# Seconds. A name more or less in a list of thousands costs a look at that name.
OTHERS_EVERY = 60.0
# How often, and after how many seconds, it is tried to read views that somebody has locked.
VIEW_ATTEMPTS, VIEW_PAUSE = 4, 0.1
_SCHEMAS = r"""
SELECT pg_catalog.json_object_agg(n.oid, n.nspname)::text FROM pg_catalog.pg_namespace n
 WHERE n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp\_%'
"""
# Which schemas on a search path somebody may use.
_PATHS = rf"""
SELECT pg_catalog.md5(pg_catalog.concat(
         (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', n.nspname, n.nspowner, n.nspacl), '|' ORDER BY n.oid)
            FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp\_%'),
         (SELECT pg_catalog.string_agg(m::text, '|' ORDER BY m.roleid, m.member, m.grantor) FROM pg_catalog.pg_auth_members m),
         (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.oid, r.rolsuper, r.rolinherit), '|' ORDER BY r.oid)
            FROM {ROLES})))
"""
_VIEWS = """
SELECT c.oid::int8, pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c WHERE c.oid IN ({oids})
"""
_ASCII_CASE = """
SELECT pg_catalog.lower(pg_catalog.upper(a)) = a AND pg_catalog.upper(a) = pg_catalog.translate(a, 'abcdefghijklmnopqrstuvwxyz',
                                                                                    'ABCDEFGHIJKLMNOPQRSTUVWXYZ')
  FROM (VALUES ('abcdefghijklmnopqrstuvwxyz'::text)) v (a)
"""


# Where nothing else has changed, relations are as they were read, and hang together as they did.
_OTHER_PARTS = frozenset({"code", "types", "remote", "paths"})


class CatalogReader:
    """Reads one database's catalogue and knows what it read; connections are idle, outside a transaction. Raises psycopg.Error.

    ``also`` gives, for the server's version, what is asked with it for somebody else, one row each: those are the ``answers``.
    ``apart``, of a connection: it is for the questions of a reader only, so that nobody's triggers run in it. They are prepared
    there, since to plan one takes the server several times as long as to answer it. ``once``: nobody is going to ask whether what
    it read is still so.
    """

    def __init__(self, also: Callable[[int], Sequence[str]] | None = None, *, once: bool = False) -> None:
        self._once = once
        self.answers: tuple[tuple[Any, ...], ...] = ()
        self._also = also
        self._watch = Watch()
        self._version: Version | None = None
        self._others, self._others_at = frozenset[str](), -math.inf
        self._asked: tuple[list[int], list[str]] = ([], [])
        self._asked_version: str | None = None
        self._definitions: Definitions | None = None
        self._tables: _Tables | None = None

    async def same(self, conn: psycopg.AsyncConnection[Any], *, temporary: bool = False, apart: bool = False) -> bool:
        """Tell whether what was read last is still so; ``temporary``: of temporary tables too."""
        if self._version is None:
            return False
        if apart:
            look = await self._watch.look(partial(_rows, conn, prepare=True))
        else:
            async with conn.transaction():
                await conn.execute(_SEARCH_PATH)
                look = await self._watch.look(partial(_rows, conn))
        return self._is_same(look, temporary=temporary)

    def _is_same(self, look: Look, *, temporary: bool) -> bool:
        if self._version is None or not look.version.changed(self._version) <= (set() if temporary else {"temporary"}):
            return False
        self._watch.seen = look.seen
        return True

    async def asked_same(self, conn: psycopg.AsyncConnection[Any]) -> bool:
        """Tell whether relations that were read since somebody asked for their names are still so.

        Of all else another process tells, that has the same protected tables. The connection is ``apart``.
        """
        if not self._asked[1]:
            return True
        version = await version_of(partial(_rows, conn, prepare=True), *self._asked)
        if self._asked_version is None and await self.same(conn, apart=True):
            self._asked_version = version  # all is as it was read, and was so when this was asked
        return version == self._asked_version

    async def read(
        self,
        conn: psycopg.AsyncConnection[Any],
        protected: Collection[tuple[str, str]],
        names: Iterable[str] | None = (),
        *,
        apart: bool = False,
    ) -> Catalog:
        """Read what reaches protected tables, (schema, table) each, and those that have a guard, and what has one of the names.

        ``names`` are those of relations and indexes; all are read where it is None. What was read before and is still so is not
        read again.
        """
        catalog = await self._read(conn, frozenset(protected), names, lambda _: False, apart=apart)
        assert catalog is not None
        return catalog

    async def read_changes(
        self, conn: psycopg.AsyncConnection[Any], protected: Collection[tuple[str, str]], names: Iterable[str], *, temporary: bool
    ) -> Catalog | None:
        """Read as ``read`` does where the connection is ``apart``; None where what was read last is still so, as ``same`` tells."""
        return await self._read(conn, frozenset(protected), names, partial(self._is_same, temporary=temporary), apart=True)

    async def _read(
        self,
        conn: psycopg.AsyncConnection[Any],
        protected: frozenset[tuple[str, str]],
        names: Iterable[str] | None,
        enough: Callable[[Look], bool],
        *,
        apart: bool,
    ) -> Catalog | None:
        ask, server_version = partial(_rows, conn, prepare=apart), conn.info.server_version
        async with conn.transaction():
            await conn.execute(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; {_SEARCH_PATH}")
            before = await self._watch.look(ask) if self._version is not None else None
            if before is not None and enough(before):
                return None
            changed = before.version.changed(self._version) if before is not None and self._version is not None else None
            definitions = await self._read_definitions(ask, server_version, changed)
            tables = await self._read_tables(ask, definitions, protected, names, changed)
            dependents, setters, relations = tables.reached.dependents, tables.reached.setters, tables.relations
            statistics = tables.reached.statistics
            views = await _views(conn, [r.oid for r in relations if r.kind in ("v", "m") and r.name in dependents.names])
            if self._also is not None:
                self.answers = tuple([(await ask(question))[0] for question in self._also(server_version)])
            one_row = f"SELECT ({_ASCII_CASE}), ({identity_query(server_version)}), ({_SCHEMAS}), ({_PATHS})"
            ((ascii_case, collation, by_oid, paths),) = await ask(one_row)
            named = {int(oid): str(name) for oid, name in json.loads(by_oid).items()}
            schemas = frozenset(named.values())
            if clock.now() - self._others_at > OTHERS_EVERY:
                self._others = frozenset(name for (name,) in await ask(_OTHERS))
                self._others_at = clock.now()
            watch = Watch(
                oids=[r.oid for r in relations if not r.schema.startswith("pg_temp_")],
                names=tables.names or (),
                nodes=dependents.nodes | setters.nodes | statistics.nodes,
                types=[own.oid for own in definitions.types],
                schemas=named,
                seen=self._watch.seen,
            )
            look = before
            if not (self._once or (before is not None and watch.asks_the_same(self._watch))):
                look = await watch.look(ask)
            version = None
            if look is not None:
                version, watch.seen = look
        asked = sorted({*(names or ())} - {table for _, table in protected})
        own = [r.oid for r in relations if not {r.name, *(i.name for i in r.indexes)}.isdisjoint(asked)]
        setting = definitions.dynamic | setters.names.keys()
        setting |= {ANY_DDL for node in setters.nodes if node.catalogue == PG_EVENT_TRIGGER}
        content = (
            sorted(dependents.names.items()), sorted(setting), sorted(views.items()), ascii_case, collation,
            sorted(schemas), paths, definitions.digest, sorted(statistics.names),
        )  # fmt: skip
        catalog = Catalog(
            int.from_bytes(hashlib.blake2b(repr(content).encode(), digest_size=8).digest()),
            server_version,
            relations,
            dependents.names,
            definitions.dynamic,
            views,
            definitions.replaced,
            ascii_case,
            collation,
            definitions.types,
            definitions.collations,
            setting,
            definitions.signatures,
            tables.names,
            schemas,
            self._others,
            paths,
            statistics.names,
        )
        self._watch, self._definitions, self._tables = watch, definitions, tables
        self._asked, self._asked_version = (own, asked), None
        # While somebody is changing a view it cannot be read, and if that is rolled back nothing is another one than before.
        self._version = None if catalog.unread_views else version
        return catalog

    async def _read_definitions(self, ask: Ask, server_version: int, changed: frozenset[str] | None) -> Definitions:
        if changed is None:
            return await read_definitions(ask, server_version)
        return await read_definitions(ask, server_version, self._definitions, changed)

    async def _read_tables(
        self,
        ask: Ask,
        definitions: Definitions,
        protected: frozenset[tuple[str, str]],
        names: Iterable[str] | None,
        changed: frozenset[str] | None,
    ) -> _Tables:
        """Read relations, and what depends on protected ones; of what is still as it was read only what is wanted in addition."""
        before = self._tables if changed is not None and changed <= _OTHER_PARTS else None
        if before is not None and (before.protected != protected or before.names is None or before.has_temporary):
            before = None
        # What is going to be asked for is asked for at once: to plan the question takes the server longer than to answer it.
        foreseen = _foreseen(definitions, protected).union(names or ())
        first: tuple[Relation, ...] = ()
        if before is not None:
            guarding = before.guarding
        else:
            first = await _relations(ask, catalog_rows.ALL) if names is None else await _some(ask, foreseen)
            guarding = {r.oid: r.qualified for r in first if (r.schema, r.name) in protected or r.guards}
        reached = before.reached if before is not None and changed is not None and changed <= {"paths"} else None
        if reached is None:
            reached_before = before.reached if before is not None else None
            reached = await _read_dependents(ask, definitions, guarding, protected, reached_before)
        if names is None:
            return _Tables(protected, None, guarding, reached, first)
        wanted = foreseen.union(reached.dependents.names)
        oids = {node.oid for node in reached.dependents.nodes if node.catalogue == PG_CLASS}
        if before is None:
            known, more, oids = first, wanted - foreseen, oids - {r.oid for r in first}
        elif before.names is not None and before.names <= wanted and "code" not in (changed or ()):
            known, more, oids = before.relations, wanted - before.names, oids - before.oids
        else:  # of a DEFAULT it is told whether it calls what is volatile: another function may be
            known, more, oids = await _some(ask, wanted, oids), frozenset(), set()
        if more or oids:
            have = {r.oid for r in known}
            new = await _some(ask, more, oids)
            known = tuple(sorted((*known, *(r for r in new if r.oid not in have)), key=lambda r: r.oid))
        return _Tables(protected, wanted, guarding, reached, known)


@dataclass(frozen=True)
class _Tables:
    """What was read of relations. ``guarding``: the tables that are protected, or have a guard, by oid.

    ``names`` as of ``Catalog``.
    """

    protected: frozenset[tuple[str, str]]
    names: frozenset[str] | None
    guarding: Mapping[int, str]
    reached: ReadDependents
    relations: tuple[Relation, ...]

    @property
    def has_temporary(self) -> bool:
        """Whether a temporary table is among them: of those not every change is noticed."""
        return any(r.schema.startswith("pg_temp_") for r in self.relations)

    @property
    def oids(self) -> frozenset[int]:
        """Oids of what depends on protected tables, where those were asked for."""
        return frozenset(node.oid for node in self.reached.dependents.nodes if node.catalogue == PG_CLASS)


def _foreseen(definitions: Definitions, protected: frozenset[tuple[str, str]]) -> frozenset[str]:
    """Return names that are going to be read with these protected tables: theirs, of their arrays, and what reaches any table."""
    tables = [table for _, table in protected]
    return frozenset((*tables, *(f"_{table}" for table in tables), *(definitions.always if tables else ())))


async def _read_dependents(
    ask: Ask,
    definitions: Definitions,
    tables: Mapping[int, str],
    protected: frozenset[tuple[str, str]],
    before: ReadDependents | None,
) -> ReadDependents:
    if not tables:
        always = sorted(definitions.always) if protected else ()
        return ReadDependents(dependents_of(Objects(), {}, always), NO_DEPENDENTS)
    return await read_dependents(ask, tables, definitions.code, sorted(definitions.always), before, definitions.statistics)


async def read_catalog(
    conn: psycopg.AsyncConnection[Any], protected: Collection[tuple[str, str]], names: Iterable[str] | None = ()
) -> Catalog:
    """Read once, as ``CatalogReader.read``. Raises psycopg.Error."""
    return await CatalogReader(once=True).read(conn, protected, names)


async def _views(conn: psycopg.AsyncConnection[Any], oids: list[int]) -> dict[int, str]:
    """Read the stored queries of these views, but for those that are locked or dropped just now: they stay refused.

    Unlike all else here this takes a lock on each view, and on its tables, and nobody may wait for a client that changes one for
    long. A job changes tables for moments.
    """
    for _ in range(VIEW_ATTEMPTS if oids else 0):
        views = await _views_now(conn, oids, "50ms")
        if views is not None:
            return views
        await asyncio.sleep(VIEW_PAUSE)
    each = [await _views_now(conn, [oid], "1ms") for oid in oids]
    return {oid: text for views in each for oid, text in (views or {}).items()}


async def _views_now(conn: psycopg.AsyncConnection[Any], oids: list[int], patience: str) -> dict[int, str] | None:
    """Read the stored queries of these views; None where one of them is locked."""
    try:
        async with conn.transaction():
            await conn.execute(f"SET LOCAL lock_timeout TO '{patience}'".encode())
            await conn.execute("SET LOCAL search_path TO pg_catalog, pg_temp")  # what is not in it is written with its schema
            return {oid: text for oid, text in await _rows(conn, _VIEWS.format(oids=",".join(map(str, oids)))) if text is not None}
    except psycopg.errors.Error as error:
        if conn.closed:
            raise
        log.debug("the stored queries of views could not be read: %s", error.sqlstate)
        return None


async def _rows(
    conn: psycopg.AsyncConnection[Any], query: str, parameters: Any = None, *, prepare: bool = False
) -> list[tuple[Any, ...]]:
    """Return the rows of a query; it is prepared only where that is sure to be what is executed: triggers may prepare too."""
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query.encode(), parameters, prepare=prepare)
        return await cursor.fetchall()


async def _some(ask: Ask, names: Collection[str], oids: Collection[int] = ()) -> tuple[Relation, ...]:
    return await _relations(ask, catalog_rows.SOME, {"names": sorted(names), "oids": sorted(oids)})


async def _relations(ask: Ask, *query: Any) -> tuple[Relation, ...]:
    rows = await ask(*query)
    # Thousands of tables are a second of work: not on the loop, where sessions wait.
    return await asyncio.to_thread(lambda: tuple(catalog_rows.relation(text) for (text,) in rows))
