"""Which standbys have not replayed yet what the primary's registry says: their tables are as they were before.

The registry's epoch changes in the transaction that switches tables, so who sees it sees these as they are behind the switch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.net import clock
from phiproxy.net.failover import PATIENCE, UpstreamRoles, straight_to
from phiproxy.net.standing_connection import StandingConnection
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings

LONGEST_ARRIVAL: Final = 10.0
"""Seconds for which a new session waits until its server has what the primary has."""
STEP: Final = 0.1


class StandbyBehind(PhiproxyError, sqlstate="57P03", anchor="err-upstream"):
    """A session has come to a standby whose tables are not yet as the primary's registry says (57P03): its driver may try again."""


class Standbys:
    """The standbys of one database, among the servers whose ``roles`` are known."""

    def __init__(self, settings: Settings, database: str, roles: UpstreamRoles) -> None:
        self._settings, self._database, self._roles = settings, database, roles
        self._connections: dict[Address, StandingConnection] = {}
        # One question at a time. What a server has replayed it does not lose, unless it becomes another one.
        self._asking = asyncio.Lock()
        self._replayed: dict[Address, int] = {}

    async def behind(self, addresses: Collection[Address], epoch: int) -> frozenset[Address]:
        """Return those of these servers that may be standbys, and do not have this epoch yet, or do not say whether."""
        return frozenset([address for address in addresses if await self._is_behind(address, epoch)])

    async def arrive(self, address: Address, epoch: Callable[[], int]) -> None:
        """Return when a server has the epoch that a new session there is to begin with; StandbyBehind where that takes too long."""
        until = clock.now() + LONGEST_ARRIVAL
        while await self._is_behind(address, epoch()):
            if clock.now() > until:
                hint = "Connect again, or to another server: pg_stat_replication at the primary says how far behind it is."
                raise StandbyBehind(f"the standby at {address} is behind what was last changed of protected tables", hint=hint)
            await asyncio.sleep(STEP)

    async def close(self) -> None:
        """Close the connections; they are opened again where they are needed."""
        async with self._asking:
            for connection in self._connections.values():
                await connection.close()

    async def _is_behind(self, address: Address, epoch: int) -> bool:
        role = self._roles.roles.get(address, "primary")
        if role == "primary":
            return False
        if role is None:
            self._replayed.pop(address, None)
        if self._replayed.get(address, -1) < epoch:
            async with self._asking:
                if self._replayed.get(address, -1) < epoch:  # somebody else may have asked meanwhile
                    self._replayed[address] = await self._epoch_at(address)
        return self._replayed.get(address, -1) < epoch

    async def _epoch_at(self, address: Address) -> int:
        if address not in self._connections:
            self._connections[address] = StandingConnection(straight_to(self._settings, address), self._database)
        try:
            return await self._connections[address].ask(self._epoch, PATIENCE)
        except (TimeoutError, psycopg.Error, ConfigError):
            return -1

    async def _epoch(self, conn: psycopg.AsyncConnection[Any]) -> int:
        return await epoch_of(conn, self._settings.service.schema_)


async def epoch_of(conn: psycopg.AsyncConnection[Any], schema: str) -> int:
    """Return the epoch of the registry at a server. psycopg.Error."""
    row = await (await conn.execute(sql.SQL("SELECT epoch FROM {}").format(sql.Identifier(schema, "meta")))).fetchone()
    return 0 if row is None else int(row[0])
