"""What the registry records of the database's collation: its family of characters, its version, and where the server differs.

Compared over all code points when an index depends on it; else over those that Unicode has given to characters, since constants in
statements are computed by the proxy too.
"""

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
from phiproxy.keys.authenticated_tables import Connection, one_row
from phiproxy.keys.layout_rows import read_collation
from phiproxy.keys.registry import record_event
from phiproxy.keys.registry_checked_on_read import Change
from phiproxy.keys.registry_schema import table

# One answer for all databases of a server with the same collation: (host, port, collation, extent).
_observed: dict[tuple[str, int, str, Extent], Collation] = {}
_MOST = 64


async def observe(conn: Connection, extent: Extent = "all") -> Collation:
    """Ask the server what its default collation makes of characters. The family is empty where no table is like it."""
    (identity,) = await one_row(conn, identity_query(conn.info.server_version).encode())
    cache_key = (conn.info.host, conn.info.port, str(identity), extent)
    if cache_key not in _observed:
        if len(_observed) >= _MOST:
            _observed.clear()
        _observed[cache_key] = await _observe(conn, str(identity), extent)
    return _observed[cache_key]


async def _observe(conn: Connection, identity: str, extent: Extent) -> Collation:
    if conn.info.parameter_status("server_encoding") != "UTF8":
        return Collation(identity, Characters(""), extent)  # the tables are of Unicode
    collation = summarised(await one_row(conn, summary_query(extent).encode()), extent)
    characters = Characters(collation.family)
    if collation.family and not collation.same:
        rows = await (await conn.execute(detail_query().encode())).fetchall()
        characters = compared(collation.family, observed(rows, collation.digits))
    return Collation(identity, characters, extent)


async def record(change: Change, *, indexed: bool) -> list[tuple[str, str]]:
    """Record the collation unless it is recorded as it is; ``indexed``: an index depends on it.

    ConfigError where one does and the server follows the rules of a language, which phiproxy has no table of.
    """
    conn, schema = change.conn, change.schema
    recorded = await read_collation(conn, schema)
    (identity,) = await one_row(conn, identity_query(conn.info.server_version).encode())
    extent: Extent = "all" if indexed else "assigned"
    if recorded is None or recorded.identity != identity or (indexed and recorded.extent != "all"):
        now = await observe(conn, extent)
        await change.before("meta")
        await conn.execute(sql.SQL('UPDATE {} SET "collation" = %s').format(table(schema, "meta")), (now.dump(),))
        change.became("meta", fields=(..., ..., now.dump()))
        told = (recorded.told if recorded is not None else None, now.told)
        await record_event(conn, schema, "collation compared", str(identity), told)
        done = [("collation compared", now.told)]
    else:
        now, done = recorded, []
    if indexed and not now.characters.family:
        raise ConfigError(
            "the database's default collation maps upper and lower case by the rules of a language, or its encoding is not UTF8",
            hint="lower(), upper(), digits and citext in indexes need C, C.UTF-8 or a collation of another language",
        )
    return done
