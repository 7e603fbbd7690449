"""Which roles are members of which, as the server has it now: read again and again, since GRANT may be said past the proxy."""

from typing import Any

import psycopg

from phiproxy.access.rules import Memberships

_MEMBERS = """
SELECT DISTINCT m.rolname::pg_catalog.text, r.rolname::pg_catalog.text FROM pg_catalog.pg_auth_members a
  JOIN pg_catalog.pg_roles m ON m.oid OPERATOR(pg_catalog.=) a.member
  JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.roleid
"""


async def is_role(conn: psycopg.AsyncConnection[Any], name: str) -> bool:
    """Tell whether there is a role of this name; psycopg.Error."""
    cursor = await conn.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) %s::pg_catalog.name", [name])
    return await cursor.fetchone() is not None


async def read_memberships(conn: psycopg.AsyncConnection[Any]) -> Memberships:
    """Read pg_auth_members; psycopg.Error."""
    cursor = await conn.execute(_MEMBERS)
    return Memberships(await cursor.fetchall())
