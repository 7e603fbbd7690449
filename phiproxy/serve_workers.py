"""``workers: N``: the process that owns the listening sockets and the metrics, and keeps N workers that serve (``net.workers``)."""

import asyncio
import signal
import tempfile
from pathlib import Path
from typing import Any

import structlog

from phiproxy.audit_service import SUPERVISOR, AuditService
from phiproxy.engine.access import Access
from phiproxy.engine_for_sessions import running
from phiproxy.errors import PhiproxyError
from phiproxy.net.client_slots import SharedSlots
from phiproxy.net.sockets import close_all, given, listen_on
from phiproxy.net.tasks import spawn, whenever
from phiproxy.net.workers import Configuration, Supervisor
from phiproxy.ops.logs import set_up_logging, tell_of_restart
from phiproxy.ops.metrics import MetricsServer, WorkersMetrics
from phiproxy.ops.service_manager import ServiceManager
from phiproxy.policy.load import load_settings
from phiproxy.policy.settings import Settings
from phiproxy.sql.policy_files import load_policies
from phiproxy.telemetry import Sending

log = structlog.get_logger("phiproxy")


def serve(settings: Settings, *, path: Path | None = None) -> None:
    """Serve with several processes until told to end; raises PhiproxyError when that cannot start."""
    set_up_logging(settings.log)
    # Plain asyncio: there is nothing to be quick about here.
    asyncio.run(_serve(settings, path))


async def _serve(settings: Settings, path: Path | None) -> None:
    configuration = Configuration(settings, tuple(load_policies(settings)))
    audit = None
    if settings.audit.directory is not None:
        audit = await AuditService.open(settings, configuration.policies, SUPERVISOR)
    try:
        async with running(settings, configuration.policies) as engine:
            await _serve_with(configuration, engine, path, audit)
    finally:
        if audit is not None:
            await audit.close()
    log.info("stopped")


async def _serve_with(configuration: Configuration, engine: Access | None, path: Path | None, audit: AuditService | None) -> None:
    settings = configuration.settings
    sockets = listen_on(settings.listen, settings.unix_socket_permissions)
    slots = SharedSlots.create(settings.worker_count)
    try:
        with tempfile.TemporaryDirectory(prefix="phiproxy-metrics-", ignore_cleanup_errors=True) as directory:
            metrics = WorkersMetrics(Path(directory))

            def gone(index: int, pid: int) -> None:
                slots.forget(index)
                metrics.forget(pid)

            supervisor = Supervisor(
                configuration,
                settings.worker_count,
                sockets=sockets,
                slots=slots.descriptor,
                environment=metrics.environment,
                gone=gone,
                engine=engine,
            )
            if audit is not None:
                spawn(_sign_heads(supervisor, audit, settings.audit.checkpoint), "heads")
            addresses = [str(address) for address in given(settings.listen, sockets)]
            await _supervise(supervisor, settings, path, metrics, addresses)
    finally:
        close_all(sockets)
        slots.close()


async def _sign_heads(supervisor: Supervisor, audit: AuditService, interval: float) -> None:
    """Sign how far the workers' logs go, so that none of them can be cut off or taken away unnoticed; forever."""
    heads: dict[str, dict[str, Any]] = {}

    def told(head: dict[str, Any]) -> None:
        heads[head["file"].split(".", 2)[2]] = head  # by proxy and writer

    supervisor.told_head = told
    while True:
        await asyncio.sleep(interval)
        audit.heads(list(heads.values()))


async def _supervise(
    supervisor: Supervisor, settings: Settings, path: Path | None, metrics: WorkersMetrics, addresses: list[str]
) -> None:
    ending, at_once, reload = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        (at_once if ending.is_set() else ending).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    # From the beginning: unhandled it would end a supervisor whose workers are still starting.
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    server = None
    if settings.metrics is not None:
        server = MetricsServer(settings.metrics.listen, lambda: supervisor.reasons, metrics)
        server.start()
    sending = Sending(settings.telemetry, metrics.registry, None)
    told = spawn(ending.wait(), "told to end")
    try:
        starting = spawn(supervisor.start(), "start")
        await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            log.info("listening", addresses=addresses, workers=settings.worker_count)
            manager = ServiceManager()
            again = whenever(reload, lambda: manager.reload(_reload(supervisor, path)), "reload")
            following = [spawn(again, "follow SIGHUP"), spawn(manager.keep_alive(), "watchdog")]
            manager.ready()
            await told
            following[0].cancel()
            manager.stopping()
            log.info("draining", seconds=settings.limits.drain_timeout)
            draining = spawn(supervisor.drain(settings.limits.drain_timeout), "drain")
            stopping = spawn(at_once.wait(), "stop")
            await asyncio.wait([draining, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            following[1].cancel()
        else:
            starting.cancel()
    finally:
        told.cancel()
        await supervisor.stop()
        await sending.stop()
        if server is not None:
            await asyncio.to_thread(server.stop)


async def _reload(supervisor: Supervisor, path: Path | None) -> None:
    """Read the files again (SIGHUP); all workers take what they say, or none does."""
    try:
        before = supervisor.configuration.settings
        settings = load_settings(path) if path is not None else before
        complaints = await supervisor.reload(Configuration(settings, tuple(load_policies(settings))))
    except PhiproxyError as error:
        complaints = error.message.split("\n")
    if complaints:
        log.error("reload failed, nothing changed", complaints=complaints)
    else:
        tell_of_restart(before, settings)
        log.info("reloaded")
