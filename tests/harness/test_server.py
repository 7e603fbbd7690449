"""What the tests' roles have for a password is as good as what PostgreSQL would have made of it, and cheaper."""

from __future__ import annotations

import secrets

import psycopg
import pytest

from tests.harness.server import PostgresServer


def test_a_role_logs_in_by_its_password_and_by_no_other(postgres_server: PostgresServer) -> None:
    role = f"made_{secrets.token_hex(4)}"
    for password in ("first", "sécond"):
        postgres_server.create_role(role, password)
        psycopg.connect(postgres_server.dsn(user=role, password=password)).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(postgres_server.dsn(user=role, password="another"))
    with postgres_server.connect() as conn:
        row = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,)).fetchone()
        conn.execute(f"DROP ROLE {role}".encode())
    assert row is not None
    assert str(row[0]).startswith("SCRAM-SHA-256$1:")
