"""Makes databases in the engine that are like the server's: their locale, extensions and types, with the server's own oids.

A database is named by a digest of all that went into it, and is never changed: when the types of the server's are others, another
one is made. So two workers that know different catalogues do not disturb each other, and a statement sees one state of them.

Types have the oids that they have in the server. So everything on the wire that holds an oid is the same on both sides: rows go
from the server into the engine byte for byte, arrays and composites too, and results and their descriptions come back so.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from phiproxy.engine import locked_down
from phiproxy.engine.access import Access
from phiproxy.engine.definitions import Definitions, Extension, TypeDefinition
from phiproxy.engine.failures import EngineUnavailable
from phiproxy.engine.identity import Identity, database_options, identity_query, read_identity
from phiproxy.errors import ConfigError

PREFIX = "phiproxy_"
_UNFINISHED = "_unfinished"
# Databases that nobody uses any longer are dropped when there are more than so many.
MOST = 8
# Of pg_advisory_lock: one database is made at a time.
_LOCK = 0x7068_6970_726F_7879
Connection = psycopg.AsyncConnection[Any]
# Where types go whose oid another one must have: far above what any server has given away.
_ASIDE = 4_200_000_000
_OIDS = """
SELECT t.oid::int8, t.typarray::int8 FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE n.nspname = %s AND t.typname = %s
"""


@dataclass(frozen=True, slots=True)
class Created:
    """A database of the engine. ``missing``: qualified names of the server's types that could not be made, by their oids."""

    name: str
    identity: Identity
    missing: dict[int, str]


def name_of(wanted: Identity, definitions: Definitions) -> str:
    """Return the name of the database that is like the server's."""
    alike = (wanted.encoding, wanted.collate, wanted.ctype, wanted.provider, wanted.locale, wanted.rules)
    return PREFIX + hashlib.blake2b(repr((alike, definitions.digest)).encode(), digest_size=12).hexdigest()


async def make_database(access: Access, wanted: Identity, definitions: Definitions) -> Created:
    """Make the database that is like the server's, unless it is there.

    EngineUnavailable where the engine is not there; ConfigError where it cannot have such a database.
    """
    name = name_of(wanted, definitions)
    async with connect(access) as conn, _one_at_a_time(conn):
        if not await _exists(conn, name):
            await _make(access, conn, name, wanted, definitions)
            await _drop_unused(conn, name)
    async with connect(access, name) as conn:
        version = conn.info.server_version
        (row,) = await _rows(conn, identity_query(version))
        present = {oid for (oid,) in await _rows(conn, "SELECT oid::int8 FROM pg_catalog.pg_type WHERE oid >= 16384")}
        missing = {t.oid: t.qualified for t in definitions.all_types if t.oid not in present}
        return Created(name, read_identity(version, row), missing)


async def drop_all(access: Access) -> None:
    """Drop every database that was made: what a server of the operator's own is left with."""
    async with connect(access) as conn, _one_at_a_time(conn):
        for name in await _names(conn):
            await conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.asynccontextmanager
async def connect(access: Access, database: str | None = None) -> Any:
    """Connect as the administrator, autocommit; EngineUnavailable where that is not possible."""
    conninfo = access.conninfo() if database is None else access.conninfo(database)
    try:
        conn = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        raise EngineUnavailable("the engine is not there", hint="try again") from error
    try:
        yield conn
    except psycopg.OperationalError as error:
        if not conn.closed:
            raise
        raise EngineUnavailable("the engine ended", hint="try again") from error
    finally:
        await conn.close()


@contextlib.asynccontextmanager
async def _one_at_a_time(conn: Connection) -> Any:
    await conn.execute("SELECT pg_catalog.pg_advisory_lock(%s::int8)", (_LOCK,))
    yield
    await conn.execute("SELECT pg_catalog.pg_advisory_unlock(%s::int8)", (_LOCK,))


async def _make(access: Access, conn: Connection, name: str, wanted: Identity, definitions: Definitions) -> None:
    unfinished = name + _UNFINISHED
    await conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(unfinished)))
    options = [
        sql.SQL("{} = {}").format(sql.SQL(option), sql.Literal(value))
        for option, value in database_options(wanted, conn.info.server_version)
    ]
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(sql.Identifier(unfinished), sql.SQL(" ").join(options))
    try:
        await conn.execute(create)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        reason = error.diag.message_primary or "it says nothing"
        raise ConfigError(
            f"the engine cannot have a database like the server's: {reason}",
            hint="the engine's machine needs the server's locale, and its PostgreSQL the server's providers",
        ) from None
    async with connect(access, unfinished) as inside:
        await _fill(inside, definitions)
        for statement in locked_down.lock_database(unfinished, definitions.schemas):
            await inside.execute(statement)
    await conn.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(name)))


async def _fill(conn: Connection, definitions: Definitions) -> None:
    for schema in definitions.schemas:
        await conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    await conn.execute("SET allow_system_table_mods = on")
    renumber = await _Renumber.over(conn)
    for extension in definitions.extensions:
        async with conn.transaction():
            await _create_extension(conn, extension)
            functions = await _functions_in_sql(conn)
            for one in definitions.types:
                if one.extension == extension.name:
                    await renumber.type(one)
            for text in functions:  # whose stored form has the oids of before
                await conn.execute(text.encode())
    for one in definitions.in_order():
        if one.sql:
            # One that needs what the engine does not have (a function of somebody's own) is missing, and those that need it too.
            with contextlib.suppress(psycopg.ProgrammingError, psycopg.NotSupportedError):
                async with conn.transaction():
                    await conn.execute(one.sql.encode())
                    await renumber.type(one)


async def _create_extension(conn: Connection, extension: Extension) -> None:
    text = sql.SQL("CREATE EXTENSION {} SCHEMA {} VERSION {}").format(
        sql.Identifier(extension.name), sql.Identifier(extension.schema), sql.Literal(extension.version)
    )
    try:
        await conn.execute(text)
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        reason = error.diag.message_primary or "it says nothing"
        raise ConfigError(
            f"compute.extensions: {extension.name} {extension.version} of the server is not to be had in the engine: {reason}"
        ) from None


async def _functions_in_sql(conn: Connection) -> list[str]:
    query = """
SELECT pg_catalog.pg_get_functiondef(p.oid) FROM pg_catalog.pg_proc p WHERE p.oid >= 16384 AND p.prosqlbody IS NOT NULL
"""
    return [text for (text,) in await _rows(conn, query)]


@dataclass(frozen=True)
class _Renumber:
    """Gives types the oids that they have in the server, everywhere in the catalogue that ``pg_get_catalog_foreign_keys`` names."""

    conn: Connection
    references: tuple[tuple[str, str, bool, str], ...]
    aside: list[int] = field(default_factory=list)

    @classmethod
    async def over(cls, conn: Connection) -> _Renumber:
        query = """
SELECT f.fktable::pg_catalog.text, f.fkcols[1], f.is_array, a.atttypid::pg_catalog.regtype::pg_catalog.text
  FROM pg_catalog.pg_get_catalog_foreign_keys() f
  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.fktable AND a.attname = f.fkcols[1]
 WHERE f.pktable = 'pg_catalog.pg_type'::pg_catalog.regclass
"""
        return cls(conn, tuple(await _rows(conn, query)))

    async def type(self, one: TypeDefinition) -> None:
        """Renumber a type that was made a moment ago, in the same transaction, with its array and its multirange."""
        for schema, name, oid, array_oid in one.oids:
            for position, then in enumerate((oid, array_oid)):
                rows = await _rows(self.conn, _OIDS, (schema, name))
                now = rows[0][position] if rows else 0
                if not now or not then or now == then:
                    continue
                if await _rows(self.conn, "SELECT FROM pg_catalog.pg_type WHERE oid = %s::int8::oid", (then,)):
                    self.aside.append(then)  # another one has it for now, or one that the server does not have
                    await self._oid(then, _ASIDE + len(self.aside))
                await self._oid(now, then)

    async def _oid(self, now: int, then: int) -> None:
        # One simple query: between two of these the catalogue is not consistent, and nothing else is looked up in it.
        statements = [f"UPDATE pg_catalog.pg_type SET oid = '{then}'::oid WHERE oid = '{now}'::oid"]
        for table, column, is_array, of in self.references:
            if of == "oidvector":
                value = f"array_to_string(array_replace({column}::oid[], '{now}'::oid, '{then}'::oid), ' ')::oidvector"
                statements.append(f"UPDATE {table} SET {column} = {value} WHERE '{now}'::oid = ANY ({column}::oid[])")
            elif is_array:
                value = f"array_replace({column}, '{now}'::oid, '{then}'::oid)"
                statements.append(f"UPDATE {table} SET {column} = {value} WHERE '{now}'::oid = ANY ({column})")
            else:
                statements.append(f"UPDATE {table} SET {column} = '{then}'::oid WHERE {column} = '{now}'::oid")
        statements += [
            f"UPDATE pg_catalog.pg_depend SET {end}objid = '{then}'::oid"
            f" WHERE {end}classid = '1247'::oid AND {end}objid = '{now}'::oid"
            for end in ("", "ref")
        ]
        await self.conn.execute("; ".join(statements).encode())


async def _exists(conn: Connection, name: str) -> bool:
    return bool(await _rows(conn, "SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)))


async def _names(conn: Connection) -> list[str]:
    query = r"SELECT datname FROM pg_catalog.pg_database WHERE datname LIKE 'phiproxy\_%' ORDER BY oid"
    return [name for (name,) in await _rows(conn, query)]


async def _drop_unused(conn: Connection, but: str) -> None:
    """Drop the oldest databases that nobody is connected to, where there are many."""
    for name in [name for name in await _names(conn) if name != but][: -MOST + 1]:
        with contextlib.suppress(psycopg.errors.ObjectInUse):
            await conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


async def _rows(conn: Connection, query: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(query.encode(), parameters, prepare=False)
        return await cursor.fetchall()
