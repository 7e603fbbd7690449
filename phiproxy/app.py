"""The composition root: constructs everything, and runs the proxy until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter as MetricCounter

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.keys.registry import read_layout
from phiproxy.keys.trust import FaultKind
from phiproxy.live import Known, LiveDatabase, provider_of, read_known
from phiproxy.net.auth import Authenticator
from phiproxy.net.binding import check_certificates
from phiproxy.net.listener import Door, Listener, ShuttingDown
from phiproxy.net.places import Places
from phiproxy.net.relay import Services
from phiproxy.net.service import connect_service
from phiproxy.net.sockets import allow_descriptors, close_all, given, listen_on
from phiproxy.net.tasks import spawn, whenever
from phiproxy.net.tls import Offer, client_offer, upstream_context
from phiproxy.net.upstream import Connector
from phiproxy.net.verifiers import mock_secret, open_verifiers
from phiproxy.ops.logs import set_up_logging, tell_of_restart
from phiproxy.ops.memory import settle_memory
from phiproxy.ops.metrics import Metrics, MetricsServer
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.explain import DEFAULT_PATH, Explanation
from phiproxy.plan.explain import explain as explain_plan
from phiproxy.policy.load import load_settings
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings
from phiproxy.policy.values import Address
from phiproxy.readiness import Readiness
from phiproxy.session.startup import Admission
from phiproxy.session.state import Database
from phiproxy.sql.databases import guard_of
from phiproxy.sql.policies import load_policies

log = structlog.get_logger("phiproxy")

# A client takes two; these are for connections that are not let in yet, the service's own, files and the loop.
OTHER_DESCRIPTORS = 200


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine under uvloop where it is installed, else under plain asyncio."""
    try:
        import uvloop  # noqa: PLC0415 - optional: Windows has none
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a worker has from its supervisor, who listens and serves the metrics; ``worker`` as of ``Members``."""

    sockets: list[socket.socket]
    places: Places
    tell_readiness: Callable[[tuple[str, ...]], None]
    worker: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Another configuration, read and found to fit."""

    settings: Settings
    tls: Offer | None
    databases: tuple[tuple[LiveDatabase, Policy, Known], ...]


class Proxy:
    """A running proxy: databases, listener, metrics. ``async with`` starts it and takes it down."""

    def __init__(self, settings: Settings, policies: Sequence[Policy], inherited: Inherited | None = None) -> None:
        self.settings = settings
        self._inherited = inherited
        self.databases: dict[str, LiveDatabase] = {}
        self.addresses: list[Address] = []
        self._sockets: list[socket.socket] = []
        self.metrics = Metrics()
        self._policies = policies
        self._followers: list[asyncio.Task[Any]] = []
        self._metrics_server: MetricsServer | None = None
        self._listener: Listener | None = None
        self._connector: Connector | None = None
        self._auth: Authenticator | None = None
        self._readiness: Readiness | None = None

    async def __aenter__(self) -> Proxy:
        """Open everything; ConfigError or ProviderError when something cannot be."""
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close everything."""
        await self._stop()

    async def _start(self) -> None:
        settings = self.settings
        wanted = 2 * settings.limits.max_clients + OTHER_DESCRIPTORS
        if (allowed := allow_descriptors(wanted)) < wanted:
            log.warning("the limit of open files is too low for limits.max_clients", limit=allowed, wanted=wanted)
        connector = Connector(settings.upstream, upstream_context(settings.upstream))
        tls = client_offer(settings.tls)
        if _certificates_matter(settings):
            await check_certificates(connector, tls)
        if self._policies:
            provider = await provider_of(settings)
            for policy in self._policies:
                worker = self._inherited.worker if self._inherited is not None else None
                database = await LiveDatabase.open(settings, policy, provider, worker)
                database.protection_changed = self._protection_changed
                self.databases[policy.database] = database
                self._followers.append(spawn(database.follow(), f"follow {policy.database}"))
        if settings.auth.mode == "scram":
            verifiers = await open_verifiers(settings, [policy.database for policy in self._policies])
            self._auth = Authenticator(verifiers, mock_secret(settings), connector, settings.service.user)
        self._connector = connector
        self._listener = Listener(
            Door(
                connector=connector,
                limits=settings.limits,
                tls=tls,
                tls_required=_tls_required(settings),
                auth=self._auth,
                different_certificates=settings.auth.different_certificates == "allow",
                database=self._database,
                unlisted_refused=settings.unlisted_databases == "refuse",
                guard=guard_of(self.databases) if self.databases else None,
            ),
            self._inherited.places if self._inherited is not None else None,
        )
        if self._inherited is not None:
            self._listener.serve(self._inherited.sockets)
        else:
            self._sockets = listen_on(settings.listen, settings.unix_socket_permissions)
            self.addresses = given(settings.listen, self._sockets)
            self._listener.serve(self._sockets)
        if settings.metrics is not None:
            self._followers.append(spawn(self._measure(), "metrics"))
            tell = self._inherited.tell_readiness if self._inherited is not None else lambda _reasons: None
            self._readiness = Readiness(settings, [(d.policy, d.kek, d.trust) for d in self.databases.values()], tell)
            self._followers.append(spawn(self._readiness.watch(), "readiness"))
        if self._inherited is None:
            if settings.metrics is not None:
                self._metrics_server = MetricsServer(settings.metrics.listen, self._reasons, self.metrics)
                self._metrics_server.start()
            log.info("listening", addresses=[str(a) for a in self.addresses], databases=sorted(self.databases))

    def _reasons(self) -> Sequence[str]:
        listener, readiness = self._listener, self._readiness
        if listener is None or listener.draining or readiness is None:
            return ("the proxy is shutting down",)
        return readiness.reasons

    def _database(self, name: str, admission: Admission) -> tuple[Database, Services] | None:
        live = self.databases.get(name)
        if live is None:
            return None
        found = live.session(admission)
        return found, found.services

    def _protection_changed(self, changed: Database) -> None:
        """Let the sessions know that began under another policy or registry."""
        for relay in list(self._listener.relays) if self._listener is not None else ():
            if relay.session.database is changed:
                relay.protection_changed()

    async def _measure(self) -> None:
        """Copy the counters of sessions into metrics once a second, so that the hot path counts in plain integers."""
        seen, unwraps, refused = (0, 0, 0, 0), Counter[str](), Counter[str]()
        faults: Counter[FaultKind] = Counter()
        while True:
            await asyncio.sleep(1)
            assert self._listener is not None
            self.metrics.clients.set(self._listener.clients)
            c = self._listener.counters
            now = (c.forwarded, c.rewritten, c.refused, c.open_failures)
            for outcome, new, old in zip(("forwarded", "rewritten", "refused"), now, seen, strict=False):
                self.metrics.statements.labels(outcome).inc(new - old)
            self.metrics.open_failures.inc(now[3] - seen[3])
            seen = now
            watches = [database.watch for database in self.databases.values()]
            unwraps = _count(self.metrics.kek_unwraps, [watch.unwraps for watch in watches], unwraps)
            refused = _count(self.metrics.data_keys_refused, [watch.refused for watch in watches], refused)
            told: Counter[FaultKind] = sum((d.faults for d in self.databases.values()), Counter())
            for kind, count in (told - faults).items():
                self.metrics.registry_faults.labels(kind).inc(count)
            faults = told

    async def _stop(self) -> None:
        listener, self._listener = self._listener, None
        for task in self._followers:
            task.cancel()
        if listener is not None:
            await listener.close(ShuttingDown("terminating connection due to administrator command"))
        # Not before the listener has let go of them: a loop may not be told of a socket that is closed.
        close_all(self._sockets)
        if self._followers:
            await asyncio.wait(self._followers)
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.stop)
        if self._auth is not None:
            await self._auth.verifiers.close()
        for database in self.databases.values():
            await database.close()

    async def drain(self, timeout: float) -> None:
        """Take no more clients and let those that are at work finish, for at most ``timeout`` seconds."""
        listener = self._listener
        if listener is None:
            return
        listener.stop()
        deadline = asyncio.get_running_loop().time() + timeout
        while listener.relays and asyncio.get_running_loop().time() < deadline:
            for relay in list(listener.relays):
                if relay.waiting == b"I":
                    relay.last_word(ShuttingDown("terminating connection due to administrator command"))
            await asyncio.sleep(0.05)

    async def reload(self, path: Path | None) -> None:
        """Read policies and certificates again (SIGHUP). What is wrong is logged, and the proxy goes on as it was."""
        try:
            settings = load_settings(path) if path is not None else self.settings
            self.take(await self.prepare(settings, load_policies(settings)))
            tell_of_restart(self.settings, settings)
        except PhiproxyError as error:
            log.error("reload failed, nothing changed", complaints=error.message.split("\n"))
            return
        log.info("reloaded")

    async def prepare(self, settings: Settings, policies: Sequence[Policy]) -> Prepared:
        """See whether another configuration fits, and change nothing yet; PhiproxyError when it does not."""
        if {policy.database for policy in policies} != set(self.databases):
            # Sessions of such a database are open already, and go on without the policy, or with it.
            raise ConfigError("a policy for another database than before, or one less: that needs a restart")
        if settings.auth != self.settings.auth:
            raise ConfigError("auth is another than before: how clients log in changes with a restart only")
        tls = client_offer(settings.tls)
        if self._connector is not None and _certificates_matter(settings):
            await check_certificates(self._connector, tls)
        for policy in policies:
            await self.databases[policy.database].see_kek(settings, policy)
        fitting = [(self.databases[policy.database], policy) for policy in policies]
        databases = tuple([(database, policy, await database.fit(policy)) for database, policy in fitting])
        if self._auth is not None:
            self._auth.verifiers.reload()  # the last that may fail, since it takes what it reads
        return Prepared(settings, tls, databases)

    def take(self, prepared: Prepared) -> None:
        """Go on with a configuration that fits."""
        for database, policy, known in prepared.databases:
            database.take(policy, known)
        if self._listener is not None:
            required = _tls_required(prepared.settings)
            self._listener.door = replace(self._listener.door, tls=prepared.tls, tls_required=required)


def _count(metric: MetricCounter, counted: Iterable[Mapping[Any, int]], before: Mapping[str, int]) -> Counter[str]:
    """Raise a metric, label by label, by what was counted since ``before``; returns what was counted."""
    now = Counter[str]()
    for each in counted:
        now.update(each)
    for label, number in now.items():
        metric.labels(label).inc(number - before.get(label, 0))
    return now


def _certificates_matter(settings: Settings) -> bool:
    return settings.auth.mode == "passthrough" and settings.auth.different_certificates == "refuse"


def _tls_required(settings: Settings) -> bool:
    return settings.tls.mode in ("require", "verify-client")


async def serve_until_told(settings: Settings, *, path: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM (which drains; a second one ends at once). SIGHUP reads policies and keys again."""
    ending, at_once, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        (at_once if ending.is_set() else ending).set()

    # From the beginning: unhandled it would end a proxy that is still starting.
    loop.add_signal_handler(signal.SIGHUP, told.set)
    async with Proxy(settings, load_policies(settings)) as proxy:
        settle_memory()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        reloading = spawn(whenever(told, lambda: proxy.reload(path), "reload"), "follow SIGHUP")
        await ending.wait()
        reloading.cancel()
        log.info("draining", seconds=settings.limits.drain_timeout)
        draining = spawn(proxy.drain(settings.limits.drain_timeout), "drain")
        stopping = spawn(at_once.wait(), "stop")
        await asyncio.wait([draining, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
    log.info("stopped")


def serve(settings: Settings, *, path: Path | None = None) -> None:
    """Run the proxy in this process; raises PhiproxyError when it cannot start."""
    set_up_logging(settings.log)
    with contextlib.suppress(KeyboardInterrupt):
        run(serve_until_told(settings, path=path))


def explain(settings: Settings, sql: str, *, database: str | None = None, path: Sequence[str] | None = None) -> Explanation:
    """Return what the server would see of a statement, or its refusal, under the first policy or the one of ``database``.

    ``path`` is the session's search path, public where it is not given.
    """
    return run(_explain(settings, sql, database, path))  # type: ignore[no-any-return]


async def planner_without_keys(settings: Settings, policy: Policy) -> Planner:
    """Return what a session plans with at this moment, but for keys: nothing is sealed or opened by it."""
    async with await connect_service(settings, policy.database) as conn:
        layout = await read_layout(conn, settings.service.schema_)
        known = await read_known(conn, settings, policy, layout, whole=True)
    return Planner(known.protection, known.catalog, Ciphers(Keyring(lambda: 0.0)))


async def _explain(settings: Settings, sql: str, database: str | None, path: Sequence[str] | None) -> Explanation:
    policies = load_policies(settings)
    policy = next((p for p in policies if database in (None, p.database)), None)
    if policy is None:
        raise ConfigError("no policy names this database" if database is not None else "the configuration lists no policy")
    planner = await planner_without_keys(settings, policy)
    searched = DEFAULT_PATH if path is None else tuple(path) if "pg_catalog" in path else ("pg_catalog", *path)
    return explain_plan(planner, sql.encode("utf-8"), policy.database, searched)
