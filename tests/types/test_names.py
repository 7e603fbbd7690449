"""Names of types in messages."""

from __future__ import annotations

import pytest

from phiproxy.policy.column_types import BUILTIN, builtin, named_type
from phiproxy.types.names import sql_name
from tests.harness.server import PostgresServer


def test_as_the_server_says(postgres_server: PostgresServer) -> None:
    with postgres_server.connect("postgres") as conn:
        for name, row in BUILTIN.items():
            assert conn.execute(
                "SELECT format_type(%s, NULL), typlen FROM pg_type WHERE oid = %s", (row.oid, row.oid)
            ).fetchone() == (
                sql_name(builtin(name)),
                row.size,
            )


@pytest.mark.parametrize(("declared", "shown"), [("varchar(5)", "character varying"), ("int4[]", "integer[]"), ("date", "date")])
def test_without_a_length(declared: str, shown: str) -> None:
    assert sql_name(named_type(declared)) == shown
