"""Memberships of roles, as a server has them."""

from __future__ import annotations

import psycopg
import pytest

from phiproxy.net.role_members import read_memberships, unknown_roles
from tests.harness.server import PostgresServer
from tests.policy.build import make_policy


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


@pytest.mark.parametrize("tokens", [False, True])
async def test_names_that_no_role_has(postgres_server: PostgresServer, tokens: bool) -> None:
    rules = [
        {"roles": ["pg_monitor", "pg_monitr", "pg_%"], "tables": ["*"], "show": "null"},
        {"roles": ["no_such_%"], "columns": ["public.t.a"], "show": "deny"},
    ]
    access: dict[str, object] = {"rules": rules, "break_glass": {"roles": ["Pg_Monitor"]}}
    if tokens:
        access["tokens"] = {"jwks": "keys.json", "audience": "a", "roles": "roles"}
    policy = make_policy({"public.t": {"a": {"type": "text"}}}, access=access)
    async with await psycopg.AsyncConnection.connect(postgres_server.dsn("postgres"), autocommit=True) as conn:
        only = ", so only a token can have it" if tokens else ""
        assert await unknown_roles(conn, policy) == [
            f'policy.yaml: no role of the server is called "pg_monitr"{only} (is it "pg_monitor"?)',
            f'policy.yaml: no role of the server is called "no_such_%"{only}',
            f'policy.yaml: no role of the server is called "Pg_Monitor"{only} (is it "pg_monitor"?)',
        ]
        assert await unknown_roles(conn, make_policy({"public.t": {"a": {"type": "text"}}})) == []
