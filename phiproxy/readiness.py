"""Is this proxy able to serve? PostgreSQL is asked, and the KEK for each root key of each registry, again and again.

What is found is a few words without names: anybody may ask ``/readyz``. The log names what it is about.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import psycopg
import structlog

from phiproxy.errors import ConfigError, NotAuthentic, ProviderUnavailable
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.keys.tenant_keks import Kek
from phiproxy.keys.unwrap_check import as_error, decisive, opening_roots, unopened
from phiproxy.net.standing_connection import StandingConnection
from phiproxy.net.tls import upstream_context
from phiproxy.net.upstream import Connector, UpstreamError
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings

log = structlog.get_logger("phiproxy.ready")

STARTING = "not asked yet"
SERVER = "PostgreSQL does not answer"
REGISTRY = "the key registry cannot be read"
DENIED = "the KEK does not open the registry's root keys"
SILENT = "the key provider does not answer"
UNRECORDED = "nothing takes the audit log's records"

EVERY = 2.0
PATIENCE = 3.0
# Of a KEK that may be paid by the call, and has to answer for every root key: less often, and still within ``keys.cache.ttl``.
KEKS_EVERY = 30.0
PER_ROOT = 0.5


class _Database(NamedTuple):
    policy: Policy
    kek: Kek
    trust: Trust | None
    server: StandingConnection


class Readiness:
    """What ``/readyz`` answers: ``reasons`` against it, none when the proxy is ready. Read from any thread.

    ``databases`` are policies with their KEKs, which are closed by whoever opened them, and what is believed of their registries:
    without that, rows are taken as they are. ``changed`` is told new reasons, ``recording`` tells whether the audit log lets
    protected values be served.
    """

    def __init__(
        self,
        settings: Settings,
        databases: Iterable[tuple[Policy, Kek, Trust | None]],
        changed: Callable[[tuple[str, ...]], None] = lambda _reasons: None,
        recording: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._recording = recording
        self._changed = changed
        self._databases = [_Database(*each, StandingConnection(settings, each[0].database)) for each in databases]
        # Each worker has a turn of its own, and what one of them finds counts for all.
        self._keks_every = min(KEKS_EVERY * settings.worker_count, settings.keys.cache.ttl)
        self._connector = Connector(settings.upstream, upstream_context(settings.upstream))
        self._keys: dict[str, str] = {}
        self._keys_due: dict[str, float] = {}
        self._why: dict[str, str] = {}
        self.reasons: tuple[str, ...] = (STARTING,)

    async def watch(self) -> None:
        """Look again and again, forever."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(EVERY)
        finally:
            for each in self._databases:
                await each.server.close()

    async def look(self) -> None:
        """Ask PostgreSQL, and the KEKs whose turn it is."""
        answers = await asyncio.gather(self._upstream(), *(self._database(each) for each in self._databases))
        unrecorded = () if self._recording() else (UNRECORDED,)
        reasons = tuple(sorted({reason for reasons in (*answers, unrecorded) for reason in reasons}))
        if reasons != self.reasons:
            if reasons:
                log.warning("not ready", reasons=reasons, why=sorted(set(self._why.values())))
            elif self.reasons != (STARTING,):
                log.info("ready again")
            self.reasons = reasons
            self._changed(reasons)

    async def _upstream(self) -> tuple[str, ...]:
        """Ask for a connection where clients get theirs, unless the service login has the same way."""
        if self._databases and self._settings.service.address is None:
            return ()
        try:
            async with asyncio.timeout(PATIENCE):
                transport, _, _ = await self._connector.connect(asyncio.Protocol)
        except (UpstreamError, TimeoutError):
            return (SERVER,)
        transport.abort()
        return ()

    async def _database(self, of: _Database) -> tuple[str, ...]:
        name, now = of.policy.database, asyncio.get_running_loop().time()
        due = now >= self._keys_due.get(name, now)
        ask_roots = partial(opening_roots, schema=self._settings.service.schema_, trust=of.trust)
        try:
            roots = await of.server.ask(ask_roots if due else partial(_alive, of), PATIENCE)
        except (TimeoutError, psycopg.OperationalError, psycopg.InterfaceError, ConfigError) as error:
            self._why[name] = error.message if isinstance(error, ConfigError) else type(error).__name__
            return (SERVER,)
        except psycopg.Error as error:
            self._why[name] = f"SQLSTATE {error.sqlstate}"
            return (REGISTRY,)
        except NotAuthentic as error:
            self._why[name] = error.message
            return (REGISTRY,)
        self._why.pop(name, None)
        if roots is not None:
            await self._ask_kek(of, roots)
        reason = self._keys.get(name)
        return () if reason is None else (reason,)

    async def _ask_kek(self, of: _Database, roots: list[RootRow]) -> None:
        name, before = of.policy.database, self._keys.get(of.policy.database)
        failed = decisive(await unopened(of.kek, of.policy.deployment, roots), of.kek)
        if not failed:
            self._keys.pop(name, None)
        else:
            error = as_error(failed, of.kek.uri)
            self._keys[name] = SILENT if isinstance(error, ProviderUnavailable) else DENIED
            if self._keys[name] != before:
                log.error("the root keys cannot be unwrapped", database=name, why=[each.text for each in failed[:10]])
        # Trouble is looked at again soon, so that its end is noticed.
        every = EVERY if failed else self._keks_every
        self._keys_due[name] = asyncio.get_running_loop().time() + max(every, PER_ROOT * len(roots))


async def _alive(of: _Database, conn: psycopg.AsyncConnection[Any]) -> None:
    """See that the server answers, and that the registry's counter is there and authentic: nothing else is served."""
    if of.trust is None:
        await conn.execute("SELECT 1")
    else:
        async with of.trust.reading(conn):
            pass
