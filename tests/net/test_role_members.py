"""Memberships of roles, as a server has them."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.net.role_members import read_memberships
from tests.harness.server import PostgresServer


async def test_grants_are_read_directly_and_through_others(postgres_server: PostgresServer) -> None:
    names = ("member_a", "member_b", "member_c")
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn("postgres"), autocommit=True) as conn:
        for name in names:
            await conn.execute(f"CREATE ROLE {name}".encode())
        try:
            await conn.execute("GRANT member_b TO member_a")
            await conn.execute("GRANT member_c TO member_b")
            members = await read_memberships(conn)
            assert members.of("member_a") == names
            assert members.of("member_c") == ("member_c",)
            await conn.execute("REVOKE member_c FROM member_b")
            assert (await read_memberships(conn)).of("member_a") == names[:2]
        finally:
            for name in names:
                await conn.execute(f"DROP ROLE {name}".encode())


@pytest.mark.parametrize("operator", ["="])
async def test_operators_of_others_do_not_count(postgres_server: PostgresServer, operator: str) -> None:
    name = postgres_server.create_database()
    try:
        async with await psycopg.AsyncConnection.connect(postgres_server.dsn(name), autocommit=True) as conn:
            await conn.execute("CREATE FUNCTION lie(oid, oid) RETURNS bool LANGUAGE sql AS 'SELECT false'")
            await conn.execute(f"CREATE OPERATOR {operator} (LEFTARG = oid, RIGHTARG = oid, FUNCTION = lie)".encode())
            await conn.execute("SET search_path TO public, pg_catalog")
            assert ("pg_monitor", "pg_read_all_settings") in (await read_memberships(conn)).pairs
    finally:
        postgres_server.drop_database(name)
