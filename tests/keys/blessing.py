"""Rows that a test writes into a registry as if phiproxy had done it: the manifests say what is there then."""

from __future__ import annotations

from psycopg import AsyncConnection

from phiproxy.keys.anchoring import establish
from phiproxy.keys.manifest import RegistryKey
from phiproxy.keys.registry_checked_on_read import read_counter


async def bless(dsn: str, key: RegistryKey, schema: str = "phiproxy") -> None:
    """Take every row as it is into the manifests; the counter is one more."""
    async with await AsyncConnection.connect(dsn) as conn:
        before = await read_counter(conn, schema, key)
        await conn.execute(f"DELETE FROM {schema}.manifest".encode())
        await establish(conn, schema, key, before.value + 1)
