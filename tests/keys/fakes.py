"""A provider that can be told to fail, and what the tests of keys share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import AsyncConnectionPool

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import ProviderDenied, ProviderUnavailable
from phiproxy.keys.anchoring import unlock
from phiproxy.keys.key_service import KeyLimits, KeyService
from phiproxy.keys.lifecycle import Done, init
from phiproxy.keys.provider import Context, Wrapped, WrapsHere
from phiproxy.keys.registry import Connection, Registry
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.policy.registry_layout import WantedIdentity
from tests.harness.server import PostgresServer
from tests.keys.blessing import bless

DEPLOYMENT = "clinic-test"

MRN = WantedIdentity("d:mrn", "d:mrn", "varchar(12)", ("@",), (("public", "patients", "mrn"), ("public", "visits", "mrn")))
SSN = WantedIdentity("c:public.patients.ssn", "t:public.patients", "text", ("@", "right(@,4)"), (("public", "patients", "ssn"),))
TABLES = """
CREATE TABLE patients (id int, mrn bytea, ssn bytea, name text);
CREATE TABLE visits (id int, mrn bytea);
"""


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeProvider(WrapsHere):
    """A KEK in memory; ``fails`` makes every unwrap raise it, ``gate`` makes it wait, ``turn_over`` gives it a next version."""

    def __init__(self, uri: str = "fake:kek") -> None:
        self._keks = {"1": AESGCM(os.urandom(32))}
        super().__init__(uri)
        self.unwraps: list[Context] = []
        self.fails: type[ProviderDenied | ProviderUnavailable] | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def turn_over(self) -> None:
        self._keks[str(len(self._keks) + 1)] = AESGCM(os.urandom(32))

    async def version(self) -> str:
        return str(len(self._keks))

    async def wrap(self, root: bytes, context: Context) -> Wrapped:
        nonce, version = os.urandom(12), await self.version()
        return Wrapped(nonce + self._keks[version].encrypt(nonce, root, context.encode()), version)

    async def unwrap(self, blob: bytes, version: str, context: Context) -> bytes:
        self.unwraps.append(context)
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails("the provider says no")
        try:
            return self._keks[version].decrypt(blob[:12], blob[12:], context.encode())
        except (InvalidTag, KeyError):
            raise ProviderDenied("not mine") from None

    def covers(self, kek_uri: str) -> bool:
        return kek_uri == self.uri

    async def close(self) -> None:
        pass


@dataclass
class Site:
    """One empty database with the two tables, and a provider for its roots."""

    server: PostgresServer
    name: str
    provider: FakeProvider

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Run one statement as superuser and return its rows."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            cursor = conn.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    async def connect(self) -> Connection:
        return await Connection.connect(self.dsn)

    async def init(self, *wanted: WantedIdentity, **options: int) -> list[Done]:
        async with await self.connect() as conn:
            return (await init(conn, wanted or (MRN, SSN), DEPLOYMENT, self.provider, **options)).done  # type: ignore[arg-type]

    async def trust(self) -> Trust:
        """What a process that starts now believes of the registry; the unwrap that it takes is not counted, and does not fail."""
        asked, fails = len(self.provider.unwraps), self.provider.fails
        self.provider.fails = None
        try:
            async with await self.connect() as conn:
                return Trust("phiproxy", await unlock(conn, "phiproxy", DEPLOYMENT, self.provider, None))
        finally:
            del self.provider.unwraps[asked:]
            self.provider.fails = fails

    async def rewrite(self, statement: str, values: Sequence[object] = ()) -> None:
        """Run a statement over the registry's rows as if phiproxy had done it: the manifests say what is there then."""
        trust = await self.trust()
        self.run(statement, values)
        await bless(self.dsn, trust.key)

    @asynccontextmanager
    async def registry(self, trust: Trust | None = None) -> AsyncIterator[Registry]:
        trust = trust or await self.trust()
        async with AsyncConnectionPool(self.dsn, connection_class=Connection, min_size=0, max_size=8, open=False) as pool:
            yield Registry(pool, trust)

    @asynccontextmanager
    async def service(
        self, clock: Clock, limits: KeyLimits | None = None, tenant: str = ""
    ) -> AsyncIterator[tuple[KeyService, Keyring]]:
        async with self.registry() as registry:
            ring = Keyring(clock)
            layout = await registry.layout()
            yield (
                KeyService(registry, self.provider, ring, layout, deployment=DEPLOYMENT, clock=clock, limits=limits, tenant=tenant),
                ring,
            )
