"""Connections to the server: address by address, with TLS as configured, ready for a StartupMessage.

The answer to SSLRequest is read as exactly one byte from the bare socket, so that nothing in clear can be taken for what comes
through TLS (CVE-2021-23222); a server that says N where TLS is required is an error, never a silent downgrade.
Which server is the primary, and what happens at a failover, is ``failover``; cancel requests are ``cancel_requests``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from phiproxy.errors import ProviderUnavailable
from phiproxy.net.sockets import keep_alive
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Upstream
from phiproxy.wire.messages import SSL_REQUEST

_SSL_REQUEST = struct.pack("!II", 8, SSL_REQUEST)
P = TypeVar("P", bound=asyncio.BaseProtocol)
# How often addresses are tried again while none has the wanted role, and nothing is heard of any.
_LOOK_AGAIN = 0.25


class Roles(Protocol):
    """Which servers have which role (``failover``)."""

    @property
    def target(self) -> str:
        """``upstream.target``."""

    def candidates(self) -> Sequence[Address]:
        """Return where a new session may go, the best first."""

    def failed(self, address: Address) -> None:
        """Take note that an address could not be connected to."""

    async def changed(self, within: float) -> None:
        """Wait until another role is known, at most so many seconds."""


class UpstreamError(ProviderUnavailable, sqlstate="08006", anchor="err-upstream"):
    """The server does not do as it must (08006); its own text names addresses only."""


class Unreachable(UpstreamError, sqlstate="57P03"):
    """No server could be reached: 57P03, at which clients go on to the next of their hosts, as where nobody listens."""


class Connector:
    """Opens connections to the first address that answers."""

    def __init__(self, settings: Upstream, context: ssl.SSLContext | None, roles: Roles | None = None) -> None:
        self._settings = settings
        self._context = context
        self._roles = roles

    def each(self) -> list[Connector]:
        """Return one connector for every address."""
        return [Connector(self._settings.model_copy(update={"address": (one,)}), self._context) for one in self._settings.address]

    async def connect(self, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P, bool]:
        """Return (transport, protocol, whether TLS is used); Unreachable when no address gives one."""
        return (await self.connect_to(protocol))[:3]

    async def connect_to(self, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P, bool, Address]:
        """Do as ``connect``, and return the address too.

        With ``roles`` the servers of the wanted role come first; while there is none, it is waited for: a failover takes seconds.
        """
        roles, clock = self._roles, asyncio.get_running_loop().time
        end = clock() + self._settings.connect_timeout
        while True:
            failures = []
            for address in roles.candidates() if roles is not None else self._settings.address:
                try:
                    async with asyncio.timeout(self._settings.connect_timeout):
                        return *await self._connect(address, protocol), address
                except TimeoutError:
                    failures.append(f"{address}: no answer within {self._settings.connect_timeout:g} s")
                except ssl.SSLCertVerificationError as error:
                    failures.append(f"{address}: its certificate is not accepted ({error.verify_message})")
                except OSError as error:
                    failures.append(f"{address}: {_reason(error)}")
                if roles is not None:
                    roles.failed(address)
            if roles is None or roles.target == "any" or (left := end - clock()) <= 0:
                raise Unreachable("the PostgreSQL server cannot be reached: " + ("; ".join(failures) or _none_of(roles)))
            await roles.changed(min(left, _LOOK_AGAIN))

    async def _connect(self, address: Address, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P, bool]:
        loop = asyncio.get_running_loop()
        sock = await _open(address)
        try:
            # There is no TLS over a Unix socket: the server has none there, and libpq ignores sslmode, so the service login too.
            if self._context is None or address.path or not await self._asked_for_tls(sock):
                transport, instance = await loop.create_connection(protocol, sock=sock)
                return transport, instance, False
            transport, instance = await loop.create_connection(protocol, sock=sock, ssl=self._context, server_hostname=address.host)
        except BaseException:
            sock.close()
            raise
        return transport, instance, True

    async def _asked_for_tls(self, sock: socket.socket) -> bool:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, _SSL_REQUEST)
        answer = await loop.sock_recv(sock, 1)
        if answer == b"S":
            return True
        if answer == b"N" and self._settings.tls == "prefer":
            return False
        raise ConnectionError(0, "the server does not offer TLS" if answer == b"N" else "the server did not answer SSLRequest")


def _none_of(roles: Roles | None) -> str:
    return "no address is configured" if roles is None else f"none is a {roles.target} (upstream.target)"


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
