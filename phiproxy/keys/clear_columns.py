"""Which columns may be in clear yet: recorded when a filled table is registered, and forgotten once its column is sealed.

Without such a row a column of the policy is protected, and no proxy serves it in clear. So whoever can change a column's type
past phiproxy, but not use the KEK, gets nothing in clear by it.
"""

from collections.abc import Iterable

from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.keys.authenticated_tables import Connection, one_row
from phiproxy.keys.identities import Name, column_types, label
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.registry import record_event
from phiproxy.keys.registry_checked_on_read import Change
from phiproxy.keys.registry_schema import table
from phiproxy.policy.plaintext_guards import guard_name
from phiproxy.policy.registry_layout import column_of
from phiproxy.wire.oids import BYTEA_OID


async def record_filled(change: Change, names: Iterable[Name], binary: Iterable[Name]) -> list[tuple[str, str]]:
    """Let those of the named columns be in clear that hold rows in plaintext, and return what was done.

    For columns that are registered now, for the first time. ``binary`` are those whose declared type is ``bytea``.
    """
    columns = [name for name in names if column_of(name) == name]  # a field of a document is in clear with it
    filled = [name for name in await _in_plaintext(change.conn, columns, frozenset(binary)) if await _has_rows(change.conn, name)]
    return await allow_clear(change, filled)


async def record_asked(change: Change, names: Iterable[Name]) -> list[tuple[str, str]]:
    """Let the named columns be in clear: an operator says that they hold plaintext. ConfigError for one that does not."""
    wanted = list(names)
    # Of any type: what is bytea may be encrypted by another scheme.
    plain = await _in_plaintext(change.conn, wanted, frozenset(wanted))
    if sealed := [name for name in wanted if name not in plain]:
        raise ConfigError(f"{label(sealed[0])} is not a column in plaintext: it is not there, or it is sealed")
    return await allow_clear(change, wanted)


async def allow_clear(change: Change, names: Iterable[Name]) -> list[tuple[str, str]]:
    """Let these columns be in clear, and return what was done: nothing for one that may already."""
    done = []
    for name in sorted(set(names) - (await read_layout(change.conn, change.schema)).clear):
        query = sql.SQL('INSERT INTO {} ("schema", "table", "column") VALUES (%s, %s, %s)')
        await change.conn.execute(query.format(table(change.schema, "clear_column")), name)
        change.added("clear_column", *name, fields=())
        await record_event(change.conn, change.schema, "column left in clear", label(name))
        done.append(("column left in clear", label(name)))
    return done


async def forbid_clear(change: Change, names: Iterable[Name]) -> None:
    """Let these columns never be in clear again: they are sealed."""
    for name in sorted(set(names)):
        await change.before("clear_column", *name)
        query = sql.SQL('DELETE FROM {} WHERE "schema" = %s AND "table" = %s AND "column" = %s')
        await change.conn.execute(query.format(table(change.schema, "clear_column")), name)
        change.deleted("clear_column", *name)
        await record_event(change.conn, change.schema, "column sealed", label(name))


async def _in_plaintext(conn: Connection, names: Iterable[Name], binary: frozenset[Name]) -> list[Name]:
    """Return those of the columns that exist in their plain type and without a guard, as a document with sealed fields has one."""
    types = await column_types(conn, names)
    return [n for n, oid in types.items() if (oid != BYTEA_OID or n in binary) and not await _has_guard(conn, n)]


async def _has_guard(conn: Connection, name: Name) -> bool:
    query = (
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND k.conname = %s)"
    )
    return (await one_row(conn, query.encode(), (*name[:2], guard_name(name[2]))))[0] is True


async def _has_rows(conn: Connection, name: Name) -> bool:
    """Tell whether a table has a row; where row-level security may hide some, it may."""
    place = sql.Identifier(*name[:2])
    hidden = sql.SQL("SELECT pg_catalog.row_security_active({}::text)").format(sql.Literal(place.as_string(conn)))
    if (await one_row(conn, hidden))[0]:
        return True
    return (await one_row(conn, sql.SQL("SELECT EXISTS (SELECT FROM {})").format(place)))[0] is True
