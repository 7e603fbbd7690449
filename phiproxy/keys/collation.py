"""What the registry records of the database's collation: its family of characters, its version, and where the server differs.

Compared over all code points when an index depends on it; else over those that Unicode has given to characters, since constants in
statements are computed by the proxy too.
"""

from __future__ import annotations

from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.index.characters import Characters
from phiproxy.index.collations import (
    Collation,
    Extent,
    compared,
    detail_query,
    identity_query,
    observed,
    summarised,
    summary_query,
)
from phiproxy.keys.registry import read_collation, record_event
from phiproxy.keys.schema import table
from phiproxy.keys.tables import Connection
from phiproxy.keys.trust import Change

# One answer for all databases of a server with the same collation: (host, port, collation, extent).
_observed: dict[tuple[str, int, str, Extent], Collation] = {}
_MOST = 64


async def observe(conn: Connection, extent: Extent = "all") -> Collation:
    """Ask the server what its default collation makes of characters. The family is empty where no table is like it."""
    (identity,) = await _row(conn, identity_query(conn.info.server_version))
    place = (conn.info.host, conn.info.port, str(identity), extent)
    if place not in _observed:
        if len(_observed) >= _MOST:
            _observed.clear()
        _observed[place] = await _observe(conn, str(identity), extent)
    return _observed[place]


async def _observe(conn: Connection, identity: str, extent: Extent) -> Collation:
    if conn.info.parameter_status("server_encoding") != "UTF8":
        return Collation(identity, Characters(""), extent)  # the tables are of Unicode
    found = summarised(await _row(conn, summary_query(extent)), extent)
    characters = Characters(found.family)
    if found.family and not found.same:
        rows = await (await conn.execute(detail_query().encode())).fetchall()
        characters = compared(found.family, observed(rows, found.digits))
    return Collation(identity, characters, extent)


async def record(change: Change, *, indexed: bool) -> list[tuple[str, str]]:
    """Record the collation unless it is recorded as it is; ``indexed``: an index depends on it.

    ConfigError where one does and the server follows the rules of a language, which phiproxy has no table of.
    """
    conn, schema = change.conn, change.schema
    known = await read_collation(conn, schema)
    (identity,) = await _row(conn, identity_query(conn.info.server_version))
    extent: Extent = "all" if indexed else "assigned"
    if known is None or known.identity != identity or (indexed and known.extent != "all"):
        now = await observe(conn, extent)
        await change.before("meta")
        await conn.execute(sql.SQL('UPDATE {} SET "collation" = %s').format(table(schema, "meta")), (now.dump(),))
        change.became("meta", fields=(..., ..., now.dump()))
        told = (known.told if known is not None else None, now.told)
        await record_event(conn, schema, "collation compared", str(identity), told)
        done = [("collation compared", now.told)]
    else:
        now, done = known, []
    if indexed and not now.characters.family:
        raise ConfigError(
            "the database's default collation maps upper and lower case by the rules of a language, or its encoding is not UTF8",
            hint="lower(), upper(), digits and citext in indexes need C, C.UTF-8 or a collation of another language",
        )
    return done


async def _row(conn: Connection, query: str) -> tuple[object, ...]:
    row = await (await conn.execute(query.encode())).fetchone()
    assert row is not None  # aggregates, and one database
    return row
