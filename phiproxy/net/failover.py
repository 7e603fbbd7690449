"""Which of the servers is the primary: they tell it themselves, in ParameterStatus (PostgreSQL 14+), so that no session asks.

A connection of the service login to each server is looked at twice a second. What a login shows of its server counts too: a session
that would begin on the wrong one is ended before the client may say anything, with 57P03, at which drivers try again. After a
failover ``listener`` ends the sessions of a demoted primary (57P01), and ``upstream`` waits for the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final, Literal

import psycopg
import structlog

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.net.standing_connection import StandingConnection
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings

log = structlog.get_logger("phiproxy.upstream")

Role = Literal["primary", "standby"]

EVERY: Final = 0.5
PATIENCE: Final = 1.0


class WrongServer(PhiproxyError, sqlstate="57P03", anchor="err-upstream"):
    """A session has come to a server of another role than ``upstream.target`` (57P03): its driver may try again at once."""


class NoLongerPrimary(PhiproxyError, sqlstate="57P01", anchor="err-upstream"):
    """The server of a session is no longer the primary (57P01)."""


class UpstreamRoles:
    """Of the addresses of ``upstream.address``; a role that is not known is None. ``demoted`` is told an address to leave."""

    def __init__(self, settings: Settings, database: str) -> None:
        upstream = settings.upstream
        self.target = upstream.target
        self.addresses = upstream.address
        self.roles: dict[Address, Role | None] = dict.fromkeys(upstream.address)
        self.demoted: Callable[[Address], None] = lambda _address: None
        self._turn = count()
        self._news = asyncio.Event()
        self._connections = {each: StandingConnection(straight_to(settings, each), database) for each in upstream.address}

    def candidates(self) -> Sequence[Address]:
        """Return where a new session may go, the best first. Empty: nowhere for now."""
        primaries, standbys, unknown = (
            [address for address in self.addresses if self.roles[address] == role] for role in ("primary", "standby", None)
        )
        if self.target == "any":
            return self.addresses
        if self.target == "primary":
            return [*primaries, *unknown]
        turn = next(self._turn) % len(standbys) if standbys else 0
        standbys = [*standbys[turn:], *standbys[:turn]]
        return [*standbys, *unknown] if self.target == "standby" else [*standbys, *unknown, *primaries]

    async def changed(self, within: float) -> None:
        """Wait until another role is known, at most so many seconds."""
        self._news.clear()
        try:
            async with asyncio.timeout(within):
                await self._news.wait()
        except TimeoutError:
            pass

    def failed(self, address: Address) -> None:
        """Take note that an address could not be connected to: what was known of it may be another server's past."""
        self._learn(address, None)

    def login_at(self, address: Address, *, standby: bool) -> PhiproxyError | None:
        """Take what a login shows of its server; return why the session must not go on there, if so."""
        role: Role = "standby" if standby else "primary"
        self._learn(address, role)
        if self.target in ("any", "prefer-standby", role):
            return None
        hint = "Connect again: phiproxy looks for it."
        return WrongServer(f"the server at {address} is a {role}, and upstream.target is {self.target}", hint=hint)

    async def watch(self) -> None:
        """Look at every server again and again, forever."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(EVERY)
        finally:
            for connection in self._connections.values():
                await connection.close()

    async def look(self) -> None:
        """Look at every server once, at the same time."""
        await asyncio.gather(*(self._look(address) for address in self.addresses))
        primaries = [address for address in self.addresses if self.roles[address] == "primary"]
        if len(primaries) > 1 and self.target != "any":
            log.error("two servers say that they are the primary", addresses=[str(address) for address in primaries])

    async def _look(self, address: Address) -> None:
        try:
            role = await self._connections[address].ask(_role, PATIENCE)
        except (TimeoutError, psycopg.Error, ConfigError):
            role = None
        self._learn(address, role)

    def _learn(self, address: Address, role: Role | None) -> None:
        before = self.roles[address]
        if role == before:
            return
        self.roles[address] = role
        self._news.set()
        log.info("a server is what it was not", address=str(address), role=role or "not known", before=before or "not known")
        if before == "primary" and role == "standby" and self.target == "primary":
            self.demoted(address)


async def _role(conn: psycopg.AsyncConnection[Any]) -> Role:
    """Ask nothing, behind which the server tells of settings that have changed."""
    await conn.execute("")
    told = conn.info.parameter_status
    # The second is how a primary is closed to writers without a restart, as some do before they switch over.
    return "standby" if told("in_hot_standby") == "on" or told("default_transaction_read_only") == "on" else "primary"


def straight_to(settings: Settings, address: Address) -> Settings:
    """Return settings whose service login goes to this server, whatever that is."""
    upstream = settings.upstream.model_copy(update={"address": (address,), "target": "any"})
    service = settings.service.model_copy(update={"address": None})
    return settings.model_copy(update={"upstream": upstream, "service": service})
