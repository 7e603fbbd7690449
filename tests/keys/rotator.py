"""A process that rotates and rewraps without end, in children that its parent may kill at any moment (test_kill).

``python -m tests.keys.rotator DSN KEK-URI DEPLOYMENT``: for each line on standard input (seconds), forks a child, kills it after
that long with SIGKILL, and answers ``killed``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from psycopg_pool import AsyncConnectionPool

from phiproxy.keys import open_provider
from phiproxy.keys.anchoring import unlock
from phiproxy.keys.local import add_kek
from phiproxy.keys.manifest import RegistryKey
from phiproxy.keys.registry import Connection, Registry
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.keys.rewrap import rewrap
from phiproxy.keys.root_cache import unwrap_root
from phiproxy.keys.rotation import roll_data_key, rotate_root


def no_secrets(_reference: str) -> str:
    raise AssertionError("no secret is needed")


async def registry_key(dsn: str, kek: str, deployment: str) -> RegistryKey:
    provider = await open_provider(kek, no_secrets)
    async with await Connection.connect(dsn) as conn:
        return await unlock(conn, "phiproxy", deployment, provider, None)


async def rotate_for_ever(dsn: str, kek: str, deployment: str, key: RegistryKey) -> None:
    provider = await open_provider(kek, no_secrets)
    async with AsyncConnectionPool(dsn, connection_class=Connection, min_size=1, max_size=2, open=False) as pool:
        registry = Registry(pool, Trust("phiproxy", key))
        while True:
            roots = [r for r in await registry.all_roots() if r.purpose == "data" and r.state == "active"]
            for root in roots:
                secret = await unwrap_root(provider, deployment, root)
                await roll_data_key(registry, root, secret, 1000, await registry.active_key(root.id))
                await rotate_root(registry, provider, deployment, (root.scope, root.tenant, "data"), root, 1000)
            await add_kek(kek, no_secrets)
            await rewrap(registry, provider, deployment)


def main(dsn: str, kek: str, deployment: str) -> None:
    key = asyncio.run(registry_key(dsn, kek, deployment))  # once: a child has little time
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(rotate_for_ever(dsn, kek, deployment, key))
        time.sleep(float(line))
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            sys.stdout.write(f"ended by itself: {status}\n")
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            sys.stdout.write("killed\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
