"""Connections to the server: address by address, with TLS as configured, ready for a StartupMessage.

The answer to SSLRequest is read as exactly one byte from the bare socket, so that nothing in clear can be taken for what comes
through TLS (CVE-2021-23222); a server that says N where TLS is required is an error, never a silent downgrade.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import TypeVar

from phiproxy.errors import ProviderUnavailable
from phiproxy.net.sockets import keep_alive
from phiproxy.policy.settings import Upstream
from phiproxy.policy.values import Address
from phiproxy.wire.messages import SSL_REQUEST

_SSL_REQUEST = struct.pack("!II", 8, SSL_REQUEST)
P = TypeVar("P", bound=asyncio.BaseProtocol)


class UpstreamError(ProviderUnavailable):
    """The server does not do as it must (08006); its own text names addresses only."""

    sqlstate = "08006"
    anchor = "err-upstream"


class Unreachable(UpstreamError):
    """No server could be reached: 57P03, at which clients go on to the next of their hosts, as where nobody listens."""

    sqlstate = "57P03"


class Connector:
    """Opens connections to the first address that answers."""

    def __init__(self, settings: Upstream, context: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._context = context

    def each(self) -> list[Connector]:
        """Return one connector for every address."""
        return [Connector(self._settings.model_copy(update={"address": (one,)}), self._context) for one in self._settings.address]

    async def connect(self, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P, bool]:
        """Return (transport, protocol, whether TLS is used); Unreachable when no address gives one."""
        failures = []
        for address in self._settings.address:
            try:
                async with asyncio.timeout(self._settings.connect_timeout):
                    return await self._connect(address, protocol)
            except TimeoutError:
                failures.append(f"{address}: no answer within {self._settings.connect_timeout:g} s")
            except ssl.SSLCertVerificationError as error:
                failures.append(f"{address}: its certificate is not accepted ({error.verify_message})")
            except OSError as error:
                failures.append(f"{address}: {_reason(error)}")
        raise Unreachable("the PostgreSQL server cannot be reached: " + "; ".join(failures))

    async def _connect(self, address: Address, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P, bool]:
        loop = asyncio.get_running_loop()
        sock = await _open(address)
        try:
            # There is no TLS over a Unix socket: the server has none there, and libpq ignores sslmode, so the service login too.
            if self._context is None or address.path or not await self._asked_for_tls(sock):
                transport, made = await loop.create_connection(protocol, sock=sock)
                return transport, made, False
            transport, made = await loop.create_connection(protocol, sock=sock, ssl=self._context, server_hostname=address.host)
        except BaseException:
            sock.close()
            raise
        return transport, made, True

    async def _asked_for_tls(self, sock: socket.socket) -> bool:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, _SSL_REQUEST)
        answer = await loop.sock_recv(sock, 1)
        if answer == b"S":
            return True
        if answer == b"N" and self._settings.tls == "prefer":
            return False
        raise ConnectionError(0, "the server does not offer TLS" if answer == b"N" else "the server did not answer SSLRequest")


def _reason(error: OSError) -> str:
    """Say why in the system's own words; the event loop puts the address once more into some."""
    if error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


async def _open(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    if address.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)  # noqa: FBT003
        return await _connected(sock, address.path)
    error: OSError = OSError(0, "no address of this name")
    for family, kind, number, _, where in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, number)
        sock.setblocking(False)  # noqa: FBT003
        keep_alive(sock)
        try:
            return await _connected(sock, where)
        except OSError as failed:
            error = failed
    raise error


async def _connected(sock: socket.socket, where: object) -> socket.socket:
    try:
        await asyncio.get_running_loop().sock_connect(sock, where)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


class _Discard(asyncio.Protocol):
    """Waits for the other side to close."""

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
