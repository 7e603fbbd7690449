"""CancelRequests on their way to the server (manual 55.2.8): a client's own, and those of clients that are gone.

A client's comes as a first packet (``listener``); what the proxy itself does for the session is cancelled by ``Relay.cancel_work``.
"""

import asyncio
import struct

from phiproxy.net.upstream import Connector
from phiproxy.wire.messages import CANCEL_REQUEST


def cancel_request(key: bytes) -> bytes:
    """Return the packet for a session of this key, 4 bytes of process id and the secret."""
    return struct.pack("!II", len(key) + 8, CANCEL_REQUEST) + key


class _Discard(asyncio.Protocol):
    """Waits for the other end to close."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has taken the request."""
        if not self.closed.done():
            self.closed.set_result(None)


async def cancel(connector: Connector, packet: bytes, timeout: float = 10.0) -> None:
    """Forward a CancelRequest and wait until the server has closed: only then is the request delivered (manual 55.2.8).

    Where there are several servers each is asked: a server knows its own keys, and overhears the others.
    """
    outcomes = await asyncio.gather(*(_cancel(one, packet, timeout) for one in connector.each()), return_exceptions=True)
    failures = [outcome for outcome in outcomes if outcome is not None]
    if len(failures) == len(outcomes):
        raise failures[0]


async def _cancel(connector: Connector, packet: bytes, timeout: float) -> None:
    transport, protocol, _ = await connector.connect(_Discard)
    try:
        transport.write(packet)
        async with asyncio.timeout(timeout):
            await protocol.closed
    finally:
        transport.close()
