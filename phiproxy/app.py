"""The composition root: constructs everything, and runs the proxy until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from phiproxy.audit_service import AuditService
from phiproxy.crypto.keyring import Keyring
from phiproxy.database_keys import provider_of
from phiproxy.database_snapshot import read_snapshot
from phiproxy.engine.access import Access
from phiproxy.engine.engine import Engine
from phiproxy.engine_for_sessions import running
from phiproxy.errors import ConfigError
from phiproxy.keys.layout_rows import read_layout
from phiproxy.measuring import Measuring
from phiproxy.net.channel_binding import check_certificates
from phiproxy.net.client_slots import ClientSlots
from phiproxy.net.failover import UpstreamRoles
from phiproxy.net.listener import Listener, ListenerSettings, ShuttingDown
from phiproxy.net.pooling_check import refuse_transaction_pooling
from phiproxy.net.relay import Relay
from phiproxy.net.role_members import is_role, read_memberships
from phiproxy.net.scram_login import Authenticator
from phiproxy.net.scram_verifiers import mock_secret, open_verifiers
from phiproxy.net.service_login import connect_service
from phiproxy.net.session_needs import Services
from phiproxy.net.sockets import allow_descriptors, close_all, given, listen_on
from phiproxy.net.standby_replay import Standbys
from phiproxy.net.tasks import spawn, whenever
from phiproxy.net.tls import client_offer, upstream_context
from phiproxy.net.upstream import Connector
from phiproxy.ops.logs import set_up_logging
from phiproxy.ops.memory import settle_memory
from phiproxy.ops.metrics import Metrics, MetricsServer
from phiproxy.ops.service_manager import ServiceManager
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.explanation import DEFAULT_PATH, Explanation, explain_for
from phiproxy.plan.explanation import explain as explain_plan
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.model import Policy
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings
from phiproxy.readiness import Readiness
from phiproxy.reload import Reloadable, certificates_matter, reload, tls_required
from phiproxy.served_database import KeyEvents, ServedDatabase
from phiproxy.session.startup_message import Admission
from phiproxy.session.state import Database
from phiproxy.session.state_parts import Fence
from phiproxy.session.trail import Trail
from phiproxy.sql.policy_files import load_policies
from phiproxy.sql.text.database_renames import guard_of
from phiproxy.telemetry import Sending
from phiproxy.tenant import Tenant

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
    slots: ClientSlots
    tell_readiness: Callable[[tuple[str, ...]], None]
    tell_head: Callable[[dict[str, Any]], None]
    worker: tuple[int, int] | None = None
    engine: Access | None = None


class Proxy:
    """A running proxy: databases, listener, metrics. ``async with`` starts it and takes it down."""

    def __init__(self, settings: Settings, policies: Sequence[Policy], inherited: Inherited | None = None) -> None:
        self.settings = settings
        self._inherited = inherited
        self.databases: dict[str, ServedDatabase] = {}
        self.addresses: list[Address] = []
        self._sockets: list[socket.socket] = []
        self.metrics = Metrics()
        self._policies = policies
        self._followers: list[asyncio.Task[Any]] = []
        self._metrics_server: MetricsServer | None = None
        self._sending: Sending | None = None
        self._listener: Listener | None = None
        self._connector: Connector | None = None
        self._roles: UpstreamRoles | None = None
        self._auth: Authenticator | None = None
        self._readiness: Readiness | None = None
        self._audit: AuditService | None = None
        self._engine: Engine | None = None
        self._running = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Proxy:
        """Open everything; ConfigError or ProviderError when something cannot be."""
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        settings = self.settings
        wanted = 2 * settings.limits.max_clients + OTHER_DESCRIPTORS
        if (allowed := allow_descriptors(wanted)) < wanted:
            log.warning("the limit of open files is too low for limits.max_clients", limit=allowed, wanted=wanted)
        self._roles = roles = await self._watched_roles()
        connector = Connector(settings.upstream, upstream_context(settings.upstream), roles)
        tls = client_offer(settings.tls)
        if certificates_matter(settings):
            await check_certificates(connector, tls)
        await self._open_databases()
        if settings.auth.mode == "scram":
            verifiers = await open_verifiers(settings, [policy.database for policy in self._policies])
            self._auth = Authenticator(verifiers, mock_secret(settings), connector, settings.service.user)
        self._connector = connector
        self._listener = Listener(
            ListenerSettings(
                connector=connector,
                limits=settings.limits,
                tls=tls,
                tls_required=tls_required(settings),
                auth=self._auth,
                different_certificates=settings.auth.different_certificates == "allow",
                database=self._database,
                unlisted_refused=settings.unlisted_databases == "refuse",
                guard=guard_of(self.databases) if self.databases else None,
                trail=self._trail if self._audit is not None else None,
                login_refused=self._audit.login_refused if self._audit is not None else None,
                slow_statements=settings.log.slow_statements,
                roles=roles,
            ),
            self._inherited.slots if self._inherited is not None else None,
        )
        if self._inherited is not None:
            self._listener.serve(self._inherited.sockets)
        else:
            self._sockets = listen_on(settings.listen, settings.unix_socket_permissions)
            self.addresses = given(settings.listen, self._sockets)
            self._listener.serve(self._sockets)
        self._start_measuring(self._listener)
        if self._inherited is None:
            log.info("listening", addresses=[str(a) for a in self.addresses], databases=sorted(self.databases))

    async def _open_databases(self) -> None:
        """Open the audit log and the databases of all policies."""
        settings = self.settings
        if settings.audit.enabled:
            await self._open_audit()
        if not self._policies:
            return
        provider = await provider_of(settings)
        await self._start_engine()
        for policy in self._policies:
            worker = self._inherited.worker if self._inherited is not None else None
            database = await ServedDatabase.open(settings, policy, provider, worker, self._engine)
            database.protection_changed = self._protection_changed
            database.held.relays = partial(self._relays, database.announcements.fence)
            database.held.left = partial(self._left, database.announcements.fence)
            if self._roles is not None:
                database.held.standbys = Standbys(settings, policy.database, self._roles)
            if self._audit is not None and (worker is None or worker[1] == 0):
                database.key_events = KeyEvents(self._audit.last_event(policy.database), self._audit.key_events)
            self.databases[policy.database] = database
            self._followers.append(spawn(database.follow(), f"follow {policy.database}"))
        await _refuse_poolers(settings, self._policies[0].database)

    async def _open_audit(self) -> None:
        inherited = self._inherited
        number = str(inherited.worker[1]) if inherited is not None and inherited.worker is not None else "0"
        self._audit = await AuditService.open(self.settings, self._policies, number)
        if inherited is not None:
            self._audit.log.told_head = inherited.tell_head
        log.info("audit log", key=self._audit.keys.signer.verifier.text)

    def _trail(self, admission: Admission, client: str, database: Database | None) -> Trail:
        assert self._audit is not None
        return self._audit.trail(admission, client, database.name if isinstance(database, Tenant) else "")

    def _start_measuring(self, listener: Listener) -> None:
        """Count, look whether it is ready, and tell who asks, or a collector; a worker's supervisor does the telling."""
        settings, inherited = self.settings, self._inherited
        if settings.metrics is not None or settings.telemetry.endpoint is not None:
            measuring = Measuring(
                self.metrics, listener, self.databases.values(), self._audit.log if self._audit is not None else None
            )
            self._followers += [spawn(measuring.watch(), "metrics"), spawn(measuring.watch_loop(), "event loop delay")]
        self._sending = Sending(settings.telemetry, self.metrics.registry if inherited is None else None, listener.times)
        if settings.metrics is None:
            return
        tell = inherited.tell_readiness if inherited is not None else lambda _reasons: None
        audit = self._audit
        recording = (lambda: not audit.log.failing) if audit is not None else lambda: True
        databases = [(d.policy, d.kek, d.trust) for d in self.databases.values()]
        self._readiness = Readiness(settings, databases, tell, recording)
        self._followers.append(spawn(self._readiness.watch(), "readiness"))
        if inherited is None:
            self._metrics_server = MetricsServer(settings.metrics.listen, self._reasons, self.metrics)
            self._metrics_server.start()

    async def _watched_roles(self) -> UpstreamRoles | None:
        if self.settings.upstream.target == "any":
            return None
        roles = UpstreamRoles(self.settings, self._policies[0].database if self._policies else "postgres")
        await roles.look()
        self._followers.append(spawn(roles.watch(), "roles of servers"))
        return roles

    async def _start_engine(self) -> None:
        """Start the engine, or use the supervisor's; ConfigError where it cannot be as configured."""
        if self._inherited is not None:
            access = self._inherited.engine
        else:
            access = await self._running.enter_async_context(running(self.settings, self._policies))
        if access is not None:
            workers = self.settings.worker_count if self._inherited is not None else 1
            self._engine = Engine(access, self.settings.compute, workers=workers)

    def _reasons(self) -> Sequence[str]:
        listener, readiness = self._listener, self._readiness
        if listener is None or listener.draining or readiness is None:
            return ("the proxy is shutting down",)
        return readiness.reasons

    def _database(self, name: str, admission: Admission) -> tuple[Database, Services] | None:
        live = self.databases.get(name)
        if live is None:
            return None
        tenant = live.session(admission)
        return tenant, tenant.services

    def _relays(self, fence: Fence) -> list[Relay]:
        """Return those of one database, whose sessions share its fence: by which name they were asked for does not matter."""
        relays = list(self._listener.relays) if self._listener is not None else []
        return [relay for relay in relays if relay.session.fence is fence]

    def _left(self, fence: Fence) -> list[int]:
        return self._listener.left_at_work(fence) if self._listener is not None else []

    def _protection_changed(self, changed: Database) -> None:
        for relay in list(self._listener.relays) if self._listener is not None else ():
            if relay.session.base is changed:
                relay.protection_changed()

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
        if self._sending is not None:
            await self._sending.stop()
        if self._auth is not None:
            await self._auth.verifiers.close()
        for database in self.databases.values():
            await database.close()
        if self._audit is not None:
            await self._audit.close()
        if self._engine is not None:
            await self._engine.close()
        await self._running.aclose()

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

    @property
    def reloadable(self) -> Reloadable:
        """What another configuration must fit, and what goes on with it."""
        return Reloadable(self.settings, self.databases, self._auth, self._connector, self._audit, self._listener)


async def _refuse_poolers(settings: Settings, database: str) -> None:
    if not await refuse_transaction_pooling(settings, database):
        log.warning("whether upstream.address is a pooler is not known: the service login cannot come that way")


async def serve_until_told(settings: Settings, *, path: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM (which drains; a second one ends at once). SIGHUP reads policies and keys again."""
    ending, at_once, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        (at_once if ending.is_set() else ending).set()

    # From the beginning: unhandled it would end a proxy that is still starting.
    loop.add_signal_handler(signal.SIGHUP, told.set)
    manager = ServiceManager()
    async with Proxy(settings, load_policies(settings)) as proxy:
        settle_memory()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        reloading = spawn(whenever(told, lambda: manager.reload(reload(proxy.reloadable, path)), "reload"), "follow SIGHUP")
        alive = spawn(manager.keep_alive(), "watchdog")
        manager.ready()
        await ending.wait()
        reloading.cancel()
        manager.stopping()
        log.info("draining", seconds=settings.limits.drain_timeout)
        draining = spawn(proxy.drain(settings.limits.drain_timeout), "drain")
        stopping = spawn(at_once.wait(), "stop")
        await asyncio.wait([draining, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        alive.cancel()
    log.info("stopped")


def serve(settings: Settings, *, path: Path | None = None) -> None:
    """Run the proxy in this process; raises PhiproxyError when it cannot start."""
    set_up_logging(settings.log)
    with contextlib.suppress(KeyboardInterrupt):
        run(serve_until_told(settings, path=path))


def explain(
    settings: Settings, sql: str, *, database: str | None = None, path: Sequence[str] | None = None, role: str | None = None
) -> Explanation:
    """Return what the server would see of a statement, or its refusal, under the first policy or the one of ``database``.

    ``path`` is the session's search path, public where it is not given; ``role`` its current role: then ``shown`` says what of each
    column that is shown, and the statement is planned as for it. ConfigError where there is no such role.
    """
    return run(_explain(settings, sql, database, path, role))  # type: ignore[no-any-return]


async def planner_without_keys(settings: Settings, policy: Policy) -> Planner:
    """Return what a session plans with at this moment, but for keys: nothing is sealed or opened by it."""
    async with await connect_service(settings, policy.database) as conn:
        layout = await read_layout(conn, settings.service.schema_)
        snapshot = await read_snapshot(conn, settings, policy, layout, whole=True)
    engine = EngineFacts.configured(settings.compute)
    return Planner(snapshot.protection, snapshot.catalog, Ciphers(Keyring(lambda: 0.0)), engine)


async def _explain(settings: Settings, sql: str, database: str | None, path: Sequence[str] | None, role: str | None) -> Explanation:
    policies = load_policies(settings)
    policy = next((p for p in policies if database in (None, p.database)), None)
    if policy is None:
        raise ConfigError("no policy names this database" if database is not None else "the configuration lists no policy")
    planner = await planner_without_keys(settings, policy)
    searched = DEFAULT_PATH if path is None else tuple(path) if "pg_catalog" in path else ("pg_catalog", *path)
    text = sql.encode("utf-8")
    if role is None:
        return explain_plan(planner, text, policy.database, searched)
    async with await connect_service(settings, policy.database) as conn:
        own = (await read_memberships(conn)).of(role)
        if not await is_role(conn, role):
            raise ConfigError(f'there is no role "{role}" in the server')
    return explain_for(planner, text, policy.database, searched, own)
