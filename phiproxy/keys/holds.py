"""A moment in which no proxy sends a statement over some tables: these are switched from plain to sealed columns in it, or back.

Whoever switches puts a row into ``hold`` and waits until every live proxy is in its ``confirmed``: then nothing of theirs is under
way that touches the tables. It takes the row away in the transaction that switches. So a proxy whose patience ends asks for the
row's lock first: it gets that when the transaction has ended, one way or the other.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

import psycopg
from psycopg import sql

from phiproxy.keys.authenticated_tables import Connection, one_row
from phiproxy.keys.key_state_changes import notify
from phiproxy.keys.registry_schema import table

STEP: Final = 0.05
MARGIN: Final = 1.0
"""Seconds before its end at which a hold is no longer relied on by who has placed it."""


class Hold(NamedTuple):
    """A hold: its number, the seconds that are left of it, and whether the session that has placed it is still there.

    ``names``: of the relations that are switched, and of what depends on them, without schemas.
    """

    id: int
    seconds: float
    is_alive: bool
    names: tuple[str, ...] = ()


def _sql(text: str, schema: str) -> sql.Composed:
    return sql.SQL(text).format(hold=table(schema, "hold"), proxy=table(schema, "proxy"))


async def place_hold(conn: Connection, schema: str, names: Iterable[str], seconds: float) -> int:
    """Ask all proxies to hold their statements that name one of these for at most so long. psycopg.Error."""
    query = (
        "INSERT INTO {hold} (names, ends_at)"
        " VALUES (%s, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s)) RETURNING id"
    )
    (number,) = await one_row(conn, _sql(query, schema), (sorted(names), seconds))
    await notify(conn, schema)
    return int(number)


async def unconfirmed(conn: Connection, schema: str, number: int, lease: float) -> int:
    """Return how many live proxies do not hold their statements yet. psycopg.Error."""
    query = (
        "SELECT pg_catalog.count(*) FROM {proxy} p WHERE p.seen_at > pg_catalog.clock_timestamp()"
        " - pg_catalog.make_interval(secs => %s) AND NOT EXISTS (SELECT FROM {hold} h WHERE h.id = %s AND p.id = ANY (h.confirmed))"
    )
    return int((await one_row(conn, _sql(query, schema), (lease, number)))[0])


async def end_hold(conn: Connection, schema: str, number: int) -> bool:
    """Take a hold away, in whatever transaction this is; False where it has ended already, or is about to. psycopg.Error."""
    query = "DELETE FROM {hold} WHERE id = %s AND ends_at > pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => %s)"
    return (await conn.execute(_sql(query, schema), (number, MARGIN))).rowcount == 1


async def withdraw_hold(conn: Connection, schema: str, number: int) -> None:
    """Take a hold away that was of no use, and let the proxies know. psycopg.Error."""
    await conn.execute(_sql("DELETE FROM {hold} WHERE id = %s", schema), (number,))
    await notify(conn, schema)


async def current_hold(conn: Connection, schema: str, number: int | None = None) -> Hold | None:
    """Return the hold that there is now, the last of several, or the one of this number; else None. psycopg.Error.

    None in a registry of an older version too.
    """
    query = (
        "SELECT h.id, extract(epoch FROM h.ends_at - pg_catalog.clock_timestamp())::float8,"
        " EXISTS (SELECT FROM pg_catalog.pg_stat_get_backend_idset() b WHERE pg_catalog.pg_stat_get_backend_pid(b) = h.backend),"
        " h.names FROM {hold} h WHERE %s::int8 IS NULL OR h.id = %s ORDER BY h.id DESC LIMIT 1"
    )
    try:
        row = await (await conn.execute(_sql(query, schema), (number, number))).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if row is None else Hold(int(row[0]), float(row[1]), bool(row[2]), tuple(row[3]))


async def confirm_hold(conn: Connection, schema: str, number: int, member: int) -> None:
    """Say that a proxy's statements are held. psycopg.Error."""
    query = "UPDATE {hold} SET confirmed = confirmed || %s::int8 WHERE id = %s AND NOT %s = ANY (confirmed)"
    await conn.execute(_sql(query, schema), (member, number, member))


async def no_hold(conn: Connection, schema: str) -> None:
    """Wait until there is no hold: what is read then is as it was left. psycopg.Error."""
    while (hold := await current_hold(conn, schema)) is not None:
        if hold.seconds < 0 or not hold.is_alive:
            await outlast_hold(conn, schema, hold.id)
        else:
            await asyncio.sleep(STEP)


async def outlast_hold(conn: Connection, schema: str, number: int) -> None:
    """Wait for a transaction that takes a hold away, and see that the hold is gone. psycopg.Error."""
    await conn.execute(_sql("DELETE FROM {hold} WHERE id = %s", schema), (number,))
