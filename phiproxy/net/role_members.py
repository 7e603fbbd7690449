"""Which roles there are, and which are members of which, as the server has it now; GRANT may be said past the proxy."""

import difflib
from typing import Any

import psycopg
import structlog

from phiproxy.access.rules import Memberships, matches
from phiproxy.policy.model import Policy

log = structlog.get_logger("phiproxy.database")
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


async def unknown_roles(conn: psycopg.AsyncConnection[Any], policy: Policy) -> list[str]:
    """Return, for people, the names in the policy's rules and break-glass that no role of the server has; psycopg.Error."""
    access = policy.access
    if access is None:
        return []
    cursor = await conn.execute("SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles")
    there = [str(name) for (name,) in await cursor.fetchall()]
    places: list[tuple[tuple[str | int, ...], str]] = [
        (("rules", number, "roles", at), name) for number, rule in enumerate(access.rules) for at, name in enumerate(rule.roles)
    ]
    glass = access.break_glass
    places += [(("break_glass", "roles", at), name) for at, name in enumerate(glass.roles if glass is not None else ())]
    by_token = access.tokens is not None and access.tokens.roles is not None
    found = []
    for place, name in places:
        if not any(matches(name, role) for role in there):
            near = difflib.get_close_matches(name, there, 1)
            meant = f' (is it "{near[0]}"?)' if near else ""
            only = ", so only a token can have it" if by_token else ""
            found.append(f'{policy.at("access", *place)}: no role of the server is called "{name}"{only}{meant}')
    return found


async def read_roles(conn: psycopg.AsyncConnection[Any], policy: Policy) -> Memberships:
    """Read pg_auth_members, and log the names in the policy's rules that no role has; psycopg.Error.

    What is served goes on, since a role may be made later, or have gone; ``check`` fails.
    """
    for complaint in await unknown_roles(conn, policy):
        log.warning("a rule holds for nobody", database=policy.database, complaint=complaint)
    return await read_memberships(conn)
