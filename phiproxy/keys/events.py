"""The registry's events: what was done with keys, read on from where it was read last."""

from datetime import datetime
from typing import NamedTuple

from psycopg import sql

from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.registry_schema import table

AT_ONCE = 500


class Event(NamedTuple):
    """One row of ``event``; ``before`` and ``after`` are what was changed, in words. It holds no secret."""

    number: int
    at: datetime
    database_user: str
    os_user: str
    what: str
    subject: str
    before: str | None
    after: str | None


async def events_since(conn: Connection, schema: str, number: int) -> list[Event]:
    """Return the events behind a number, the oldest first, up to ``AT_ONCE``; raises psycopg.Error.

    From the first one on where there is none of that number: the registry was restored, or what says the number is wrong. To record
    some twice is better than none.
    """
    query = sql.SQL(
        'SELECT id, at, database_user, os_user, what, subject, "from", "to" FROM {0} WHERE id OPERATOR(pg_catalog.>)'
        " CASE WHEN EXISTS (SELECT FROM {0} WHERE id OPERATOR(pg_catalog.>=) %s) THEN %s ELSE 0 END ORDER BY id LIMIT %s"
    ).format(table(schema, "event"))
    rows = await (await conn.execute(query, (number, number, AT_ONCE))).fetchall()
    return [Event(*row) for row in rows]
