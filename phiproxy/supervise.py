"""``workers: N``: the process that owns the listening sockets and the metrics, and keeps N workers that serve (``net.workers``)."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from phiproxy.errors import PhiproxyError
from phiproxy.net.places import SharedPlaces
from phiproxy.net.sockets import close_all, given, listen_on
from phiproxy.net.tasks import spawn, whenever
from phiproxy.net.workers import Configuration, Supervisor
from phiproxy.ops.logs import set_up_logging, tell_of_restart
from phiproxy.ops.metrics import MetricsServer, WorkersMetrics
from phiproxy.policy.load import load_settings
from phiproxy.policy.settings import Settings
from phiproxy.sql.policies import load_policies

log = structlog.get_logger("phiproxy")


def serve(settings: Settings, *, path: Path | None = None) -> None:
    """Serve with several processes until told to end; raises PhiproxyError when that cannot start."""
    set_up_logging(settings.log)
    # Plain asyncio: there is nothing to be quick about here.
    asyncio.run(_serve(settings, path))


async def _serve(settings: Settings, path: Path | None) -> None:
    configuration = Configuration(settings, tuple(load_policies(settings)))
    sockets = listen_on(settings.listen, settings.unix_socket_permissions)
    places = SharedPlaces.create(settings.worker_count)
    try:
        with _metrics_directory() as directory:
            metrics = WorkersMetrics(directory)

            def gone(index: int, pid: int) -> None:
                places.forget(index)
                metrics.forget(pid)

            supervisor = Supervisor(
                configuration,
                settings.worker_count,
                sockets=sockets,
                places=places.descriptor,
                environment=metrics.environment,
                gone=gone,
            )
            addresses = [str(address) for address in given(settings.listen, sockets)]
            await _supervise(supervisor, settings, path, metrics, addresses)
    finally:
        close_all(sockets)
        places.close()
    log.info("stopped")


@contextmanager
def _metrics_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="phiproxy-metrics-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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
    told = spawn(ending.wait(), "told to end")
    try:
        starting = spawn(supervisor.start(), "start")
        await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            log.info("listening", addresses=addresses, workers=settings.worker_count)
            reloading = spawn(whenever(reload, lambda: _reload(supervisor, path), "reload"), "follow SIGHUP")
            await told
            reloading.cancel()
            log.info("draining", seconds=settings.limits.drain_timeout)
            draining = spawn(supervisor.drain(settings.limits.drain_timeout), "drain")
            stopping = spawn(at_once.wait(), "stop")
            await asyncio.wait([draining, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
        else:
            starting.cancel()
    finally:
        told.cancel()
        await supervisor.stop()
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
