"""A worker process: ``python -m phiproxy.worker DESCRIPTOR``, started by the supervisor and by nobody else (``net.workers``)."""

import asyncio
import contextlib
import json
import signal
import socket
import sys

import structlog

from phiproxy import app
from phiproxy.engine.access import Access
from phiproxy.errors import PhiproxyError
from phiproxy.net.client_slots import SharedSlots
from phiproxy.net.tasks import spawn
from phiproxy.net.workers import Channel, Drain, Prepare, Start, Stop, Take
from phiproxy.ops.logs import set_up_logging
from phiproxy.ops.memory import settle_memory
from phiproxy.policy.settings import Log
from phiproxy.reload import Prepared, prepare, take

log = structlog.get_logger("phiproxy.worker")


def main(descriptor: int) -> int:
    """Serve until told to end; returns the exit status."""
    set_up_logging(Log())  # until the supervisor says how
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what they mean, the supervisor says
    return int(app.run(_work(socket.socket(fileno=descriptor))))


async def _work(control: socket.socket) -> int:
    control.setblocking(False)  # noqa: FBT003
    channel = await Channel.over(control)
    start = await channel.next_order()
    if not isinstance(start, Start):
        return 1
    settings, policies = start.configuration
    set_up_logging(settings.log)
    structlog.contextvars.bind_contextvars(worker=start.index)
    sockets = [socket.socket(fileno=number) for number in start.sockets]
    for sock in sockets:
        sock.setblocking(False)  # noqa: FBT003
    inherited = app.Inherited(
        sockets,
        SharedSlots(start.slots, start.workers, start.index),
        lambda reasons: channel.report("readiness", "\n".join(reasons)),
        lambda head: channel.report("audit", json.dumps(head)),
        (start.group, start.index),
        start.engine if isinstance(start.engine, Access) else None,
    )
    try:
        async with app.Proxy(settings, policies, inherited) as proxy:
            settle_memory()
            channel.report("ready")
            await _obey(proxy, channel)
    except PhiproxyError as error:
        channel.report("failed", error.message)
        return 1
    finally:
        await channel.close()
    return 0


async def _obey(proxy: app.Proxy, channel: Channel) -> None:
    """Do what the supervisor says until it says that this is the end, or is gone itself."""
    prepared: Prepared | None = None
    drained: asyncio.Task[None] | None = None
    orders = spawn(channel.next_order(), "orders")
    while True:
        await asyncio.wait([orders] if drained is None else [orders, drained], return_when=asyncio.FIRST_COMPLETED)
        if drained is not None and drained.done():
            orders.cancel()
            return
        order = orders.result()
        if order is None or isinstance(order, Stop):
            return
        orders = spawn(channel.next_order(), "orders")
        if isinstance(order, Prepare):
            prepared = None
            try:
                prepared = await prepare(proxy.reloadable, *order.configuration)
                channel.report("prepared")
            except PhiproxyError as error:
                channel.report("unfit", error.message)
        elif isinstance(order, Take) and prepared is not None:
            take(proxy.reloadable, prepared)
            prepared = None
            channel.report("taken")
        elif isinstance(order, Drain):
            drained = spawn(proxy.drain(order.seconds), "drain")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(int(sys.argv[1])))
