"""Accepting clients: the first bytes of a connection, TLS, the StartupMessage, and who is let in.

The bare socket is peeked at before TLS, because a stream that is upgraded in place may lose what was already buffered
(protocol.md, Startup). A first packet that is none of the known ones closes the connection silently.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from phiproxy.errors import ConfigError, PhiproxyError, WireError, place_of
from phiproxy.net.relay import Relay, Services, Side
from phiproxy.net.tasks import spawn
from phiproxy.net.tls import ALPN
from phiproxy.net.upstream import Connector, cancel
from phiproxy.policy.settings import Limits
from phiproxy.policy.values import Address
from phiproxy.session.core import Database, Session
from phiproxy.session.startup import Admission, admit
from phiproxy.wire.messages import CANCEL_REQUEST, GSSENC_REQUEST, MAX_STARTUP, SSL_REQUEST, Startup, decode_startup, error_response

log = structlog.get_logger("phiproxy.listener")


class Refused(PhiproxyError):
    """A connection that is not let in, with its own SQLSTATE."""

    anchor = "err-connection"

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.code = sqlstate


@dataclass(frozen=True, slots=True)
class Door:
    """What the listener must know to let a client in."""

    connector: Connector
    limits: Limits
    tls: ssl.SSLContext | None
    tls_required: bool
    database: Callable[[str], tuple[Database, Services] | None]
    unlisted_refused: bool


class _First(Side):
    """A client's side until its StartupMessage is whole."""

    def __init__(self) -> None:
        super().__init__()
        self.packet: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Collect one untyped packet; what comes behind it is kept for the relay."""
        super().data_received(data)
        if self.packet.done():
            return
        have = b"".join(self.early)
        if len(have) < 4:
            return
        (length,) = struct.unpack_from("!I", have)
        if not 8 <= length <= MAX_STARTUP:
            self.packet.set_exception(WireError("the first packet has an impossible length"))
        elif len(have) >= length:
            self.early = [have[length:]] if len(have) > length else []
            self.packet.set_result(have[:length])

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any longer."""
        super().connection_lost(exc)
        if not self.packet.done():
            self.packet.cancel()


class Listener:
    """Listening sockets and the connections that came through them."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.relays: set[Relay] = set()
        self.clients = 0
        self.draining = False
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []

    def open(self, addresses: tuple[Address, ...]) -> list[Address]:
        """Listen; return the addresses with the ports that were given. ConfigError when one cannot be had."""
        found = []
        for address in addresses:
            sock = _listening(address)
            self._sockets.append(sock)
            self._accepting.append(spawn(self._accept(sock), f"accept {address}"))
            port = address.port if address.path else sock.getsockname()[1]
            found.append(Address(address.host, port, address.path))
        return found

    def stop(self) -> None:
        """Take no more connections."""
        self.draining = True
        for task in self._accepting:
            task.cancel()
        for sock in self._sockets:
            sock.close()

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(sock)
            except OSError as error:
                log.warning("accept failed", type=type(error).__name__)
                await asyncio.sleep(0.1)
                continue
            spawn(self._serve(connection), "client")

    async def _serve(self, sock: socket.socket) -> None:
        self.clients += 1
        side: _First | None = None
        try:
            async with asyncio.timeout(self.door.limits.startup_timeout):
                side = await self._greet(sock)
                startup = decode_startup(await side.packet) if side is not None else None
            if side is None or startup is None:
                return
            if startup.code == CANCEL_REQUEST:
                await cancel(self.door.connector, startup.body)
            else:
                await self._let_in(side, startup)
        except (WireError, TimeoutError, OSError, asyncio.CancelledError):
            # A probe, a port scan, a client that went away: nothing that the operator could mend.
            pass
        except PhiproxyError as error:
            _say(side, error)
        except Exception as error:
            # Told by type and place only; this connection ends, the others never notice.
            log.error("internal error", type=type(error).__name__, place=place_of(error))
        finally:
            self.clients -= 1
            if side is not None and side.transport is not None:
                side.transport.close()
            else:
                sock.close()

    async def _greet(self, sock: socket.socket) -> _First | None:
        """Answer SSLRequest and GSSENCRequest on the bare socket; return the side that the startup packet comes from."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)  # noqa: FBT003
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for _ in range(3):
            first = await _peek(sock)
            if not first:
                return None
            if first[0] == 0x16:
                return await self._tls(sock, direct=True)
            code = struct.unpack_from("!I", first, 4)[0] if len(first) >= 8 and first[:4] == b"\0\0\0\x08" else 0
            if code not in (SSL_REQUEST, GSSENC_REQUEST):
                break
            await loop.sock_recv(sock, 8)
            if code == GSSENC_REQUEST or self.door.tls is None:
                await loop.sock_sendall(sock, b"N")
                continue
            if len(first) > 8:
                raise WireError("bytes in clear behind an SSLRequest")
            await loop.sock_sendall(sock, b"S")
            return await self._tls(sock, direct=False)
        _, side = await loop.connect_accepted_socket(_First, sock)
        return side

    async def _tls(self, sock: socket.socket, *, direct: bool) -> _First:
        if self.door.tls is None:
            raise WireError("TLS is not offered")
        transport, side = await asyncio.get_running_loop().connect_accepted_socket(_First, sock, ssl=self.door.tls)
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        if direct and chosen != ALPN:
            transport.close()
            raise WireError("direct TLS without ALPN postgresql")
        return side

    async def _let_in(self, side: _First, startup: Startup) -> None:
        assert side.transport is not None
        client_tls = side.transport.get_extra_info("ssl_object") is not None
        if self.draining:
            raise Refused("57P01", "the proxy is shutting down")
        if self.clients > self.door.limits.max_clients:
            raise Refused("53300", "sorry, too many clients already (limits.max_clients)")
        if self.door.tls_required and not client_tls:
            raise Refused("28000", "this proxy takes connections with TLS only")
        admission = admit(startup)
        found = self.door.database(admission.database)
        if found is None and self.door.unlisted_refused:
            raise Refused("3D000", f'database "{admission.database}" has no policy, and unlisted databases are refused')
        if found is not None and admission.replication:
            raise Refused("0A000", "replication from a database with a policy is refused: it would hand out ciphertext only")
        await self._relay(side, admission, found, client_tls=client_tls)

    async def _relay(
        self, side: _First, admission: Admission, found: tuple[Database, Services] | None, *, client_tls: bool
    ) -> None:
        database, services = found if found is not None else (None, None)
        _, server, server_tls = await self.door.connector.connect(Side)
        session = Session(
            database, admission.database, max_message=self.door.limits.max_message, strip_plus=server_tls and not client_tls
        )
        session.negotiation = admission.negotiation
        session.to_server.append(admission.packet)
        relay = Relay(session, side, server, services, lambda packet: cancel(self.door.connector, packet))
        self.relays.add(relay)
        try:
            relay.start()
            relay.received(side, b"")
            await self._until_ended(relay)
        finally:
            relay.close()
            self.relays.discard(relay)

    async def _until_ended(self, relay: Relay) -> None:
        idle = self.door.limits.idle_timeout
        loop = asyncio.get_running_loop()
        while idle and not relay.ended.done():
            await asyncio.wait([relay.ended], timeout=max(0.01, relay.last_activity + idle - loop.time()))
            if not relay.ended.done() and loop.time() - relay.last_activity >= idle:
                relay.last_word(Refused("57P05", "terminating connection due to idle timeout (limits.idle_timeout)"))
        await relay.ended


def _say(side: Side | None, error: PhiproxyError) -> None:
    if side is not None and side.transport is not None and not side.transport.is_closing():
        state = error.code if isinstance(error, Refused) else error.sqlstate
        side.transport.write(error_response(state, error.public_text, hint=error.hint, severity="FATAL"))


async def _peek(sock: socket.socket) -> bytes:
    """Return at least 8 bytes of what waits on a socket without taking them, fewer only for TLS's first byte or the end."""
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        loop.add_reader(sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sock.fileno())
        first = sock.recv(9, socket.MSG_PEEK)
        if not first or first[0] == 0x16 or len(first) >= 8:
            return first
        # Readable stays true while a part of the packet waits: look again a little later, within startup_timeout.
        await asyncio.sleep(0.005)


def _listening(address: Address) -> socket.socket:
    try:
        if address.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            _remove_stale(address.path)
            sock.bind(address.path)
            sock.listen(1024)
        else:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            sock = socket.create_server((address.host, address.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or type(error).__name__}") from None
    sock.setblocking(False)  # noqa: FBT003
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any longer."""
    if not Path(path).is_socket():
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink(missing_ok=True)
    finally:
        probe.close()
