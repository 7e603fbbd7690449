"""Accepting clients, and who is let in: limits, TLS, policies; ``startup`` reads the first bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from phiproxy.errors import PhiproxyError, WireError, place_of
from phiproxy.net import clock
from phiproxy.net.auth import MAX_NAME, Authenticator, Login
from phiproxy.net.binding import peer_certificate, unbound
from phiproxy.net.places import OwnPlaces, Places
from phiproxy.net.relay import Relay, Services, Side
from phiproxy.net.sockets import readable
from phiproxy.net.startup import CertificateRequired, First, greet
from phiproxy.net.tasks import spawn
from phiproxy.net.tls import Offer
from phiproxy.net.upstream import Connector, cancel
from phiproxy.policy.settings import Limits
from phiproxy.session.core import Session
from phiproxy.session.gate import Guard
from phiproxy.session.startup import Admission, admit
from phiproxy.session.state import Counters, Database
from phiproxy.wire.messages import (
    CANCEL_HEADER,
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    SSL_REQUEST,
    Startup,
    decode_startup,
    error_response,
)
from phiproxy.wire.scram import LoginRefused

log = structlog.get_logger("phiproxy.listener")

# A worker with more clients than another lets that one be quicker: sessions last, so who gets them decides about their speed.
GIVE_WAY = 0.002


class Refused(PhiproxyError):
    """A connection that is not let in, or goes no further."""

    anchor = "err-connection"


class ShuttingDown(Refused):
    """The proxy ends (57P01, as the server says it)."""

    sqlstate = "57P01"


class CannotConnectNow(Refused):
    """The proxy ends, and takes no more sessions (57P03, as the server says it)."""

    sqlstate = "57P03"


class TooManyClients(Refused):
    """``limits.max_clients`` are there already (53300)."""

    sqlstate = "53300"


class NotServed(Refused):
    """A database without a policy where those are refused (3D000)."""

    sqlstate = "3D000"


class NoReplication(Refused):
    """Replication from a database with a policy (0A000)."""

    sqlstate = "0A000"


class IdleTooLong(Refused):
    """``limits.idle_timeout`` is over (57P05, as the server says it)."""

    sqlstate = "57P05"


@dataclass(frozen=True, slots=True)
class Door:
    """What the listener must know to let a client in."""

    connector: Connector
    limits: Limits
    tls: Offer | None
    tls_required: bool
    auth: Authenticator | None
    different_certificates: bool
    database: Callable[[str, Admission], tuple[Database, Services] | None]
    unlisted_refused: bool
    guard: Guard | None = None


class Listener:
    """Listening sockets and the connections that came through them."""

    def __init__(self, door: Door, places: Places | None = None) -> None:
        self.door = door
        self.places = places if places is not None else OwnPlaces()
        self.relays: set[Relay] = set()
        self._closing: set[Relay] = set()
        self.counters = Counters()
        self.clients = 0
        self.draining = False
        self._accepting: list[asyncio.Task[None]] = []
        self._serving: set[asyncio.Task[None]] = set()

    def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from listening sockets; they stay their owner's, who closes them after ``close``."""
        self._accepting += [spawn(self._accept(sock), "accept") for sock in sockets]

    def stop(self) -> None:
        """Take no more sessions. Connections are still taken: a session that has not ended yet may be cancelled through one."""
        self.draining = True

    async def close(self, error: PhiproxyError) -> None:
        """Take no more connections and end those there are, with a last word where one can be put."""
        self.stop()
        for relay in list(self.relays):
            relay.last_word(error)
        ending = {*self._accepting, *self._serving}
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending, timeout=5)
        closing = list(self._closing)
        for _ in range(50):
            if all(relay.gone for relay in closing):
                break
            await asyncio.sleep(0.02)
        for relay in closing:
            relay.abort()

    async def _accept(self, sock: socket.socket) -> None:
        while True:
            await readable(sock)
            if self.places.busier_than_others():
                await asyncio.sleep(GIVE_WAY)
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue  # another worker has it, or the client left
            except OSError as error:
                log.warning("accept failed", type=type(error).__name__)
                await asyncio.sleep(0.1)
                continue
            serving = spawn(self._serve(connection), "client")
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)

    async def _serve(self, sock: socket.socket) -> None:
        self.clients += 1
        side: First | None = None
        try:
            async with asyncio.timeout(self.door.limits.startup_timeout):
                side = await greet(sock, self.door.tls, required=self.door.tls_required)
                startup = decode_startup(await side.packet) if side is not None else None
            if side is None or startup is None:
                return
            if startup.code in (SSL_REQUEST, GSSENC_REQUEST):
                raise WireError("one more request for encryption")
            if startup.code == CANCEL_REQUEST:
                # What is still worked on here the server knows nothing of.
                if not any(relay.cancel_work(startup.body[CANCEL_HEADER:]) for relay in self.relays):
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

    async def _let_in(self, side: First, startup: Startup) -> None:
        if side.uncertified:
            raise CertificateRequired("connection requires a valid client certificate")
        if self.draining:
            raise CannotConnectNow("the proxy is shutting down")
        if not self.places.take(self.door.limits.max_clients):
            raise TooManyClients("sorry, too many clients already (limits.max_clients)")
        try:
            await self._admit(side, startup)
        finally:
            self.places.give_back()

    async def _admit(self, side: First, startup: Startup) -> None:
        login: Login | None = None
        if self.door.auth is not None:
            async with asyncio.timeout(self.door.limits.startup_timeout):
                login = await self.door.auth.let_in(side, startup)
        admission = login.admission if login is not None else admit(startup)
        # A server takes the first 63 bytes (up to 16, and 17 again), and a long name must not walk around a policy.
        name = admission.database.encode()[:MAX_NAME].decode("utf-8", "ignore")
        found = self.door.database(name, admission)
        if found is None and self.door.unlisted_refused:
            raise NotServed(f'database "{admission.database}" has no policy, and unlisted databases are refused')
        if found is not None and admission.replication:
            raise NoReplication("replication from a database with a policy is refused: it would hand out ciphertext only")
        await self._relay(side, admission, found, login)

    async def _relay(self, side: First, admission: Admission, found: tuple[Database, Services] | None, login: Login | None) -> None:
        database, services = found if found is not None else (None, None)
        transport, server, server_tls = await self.door.connector.connect(Side)
        certificate = peer_certificate(transport)
        session = Session(
            database,
            admission.database,
            max_message=self.door.limits.max_message,
            strip_plus=server_tls and side.certificate is None,
            counters=self.counters,
            guard=self.door.guard,
        )
        if login is not None:
            try:
                await login.go_on(side, server, certificate, self.door.limits.startup_timeout)
            except BaseException:
                transport.close()
                raise
        else:
            session.unbound = None if self.door.different_certificates else unbound(side.certificate, certificate)
            session.negotiation = admission.negotiation
            session.to_server.append(admission.packet)
        relay = Relay(session, side, server, services, lambda packet: cancel(self.door.connector, packet))
        self.relays.add(relay)
        try:
            relay.start()
            relay.received(side, b"")
            side.release()
            await self._until_ended(relay)
        finally:
            relay.close()
            self.relays.discard(relay)
            self._closing = {r for r in self._closing if not r.gone} | {relay}

    async def _until_ended(self, relay: Relay) -> None:
        idle = self.door.limits.idle_timeout
        while idle and not relay.ended.done():
            await asyncio.wait([relay.ended], timeout=max(0.01, relay.last_activity + idle - clock.now()))
            if relay.ended.done() or clock.now() - relay.last_activity < idle:
                continue
            if not relay.waiting:
                relay.last_activity = clock.now()  # the server is at work, which is not idleness
            else:
                relay.last_word(IdleTooLong("terminating connection due to idle timeout (limits.idle_timeout)"))
        # Not the future itself, which being cancelled would cancel, and the relay would take that for its end.
        await asyncio.wait([relay.ended])


def _say(side: Side | None, error: PhiproxyError) -> None:
    if side is not None and side.transport is not None and not side.transport.is_closing():
        detail = error.detail if isinstance(error, LoginRefused) else None
        words = error_response(error.sqlstate, error.public_text, detail=detail, hint=error.hint, severity="FATAL")
        side.transport.write(words)
