"""Accepting clients, and who is let in: limits, TLS, policies; ``first_packet`` reads the first bytes."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from phiproxy.errors import PhiproxyError, WireError, place_of
from phiproxy.net import clock
from phiproxy.net.cancel_requests import cancel
from phiproxy.net.channel_binding import peer_certificate, unbound
from phiproxy.net.client_slots import ClientSlots, OwnSlots
from phiproxy.net.failover import NoLongerPrimary, UpstreamRoles
from phiproxy.net.first_packet import CertificateRequired, First, greet
from phiproxy.net.leg import Leg
from phiproxy.net.relay import Relay
from phiproxy.net.scram_login import MAX_NAME, Authenticator, Login
from phiproxy.net.session_log import SessionLog, Tallies, peer_of
from phiproxy.net.session_needs import Services
from phiproxy.net.sockets import readable
from phiproxy.net.statement_times import StatementTimes
from phiproxy.net.tasks import spawn
from phiproxy.net.tls import Offer
from phiproxy.net.upstream import Connector, Unreachable, UpstreamError
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Limits
from phiproxy.session.core import Session
from phiproxy.session.startup_message import Admission, admit
from phiproxy.session.state import Counters, Database
from phiproxy.session.state_parts import Fence
from phiproxy.session.trail import Trail
from phiproxy.session.unprotected_database import Guard
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
# So many sessions that have ended are remembered, for so many seconds, since something of them may be under way at the server.
MOST_LEFT, LEFT_FOR = 1000, 60.0


class Refused(PhiproxyError, anchor="err-connection"):
    """A connection that is not let in, or goes no further."""


class ShuttingDown(Refused, sqlstate="57P01"):
    """The proxy ends (57P01, as the server says it)."""


class CannotConnectNow(Refused, sqlstate="57P03"):
    """The proxy ends, and takes no more sessions (57P03, as the server says it)."""


class TooManyClients(Refused, sqlstate="53300"):
    """``limits.max_clients`` are there already (53300)."""


class NotServed(Refused, sqlstate="3D000"):
    """A database without a policy where those are refused (3D000)."""


class NoReplication(Refused, sqlstate="0A000"):
    """Replication from a database with a policy (0A000)."""


class IdleTooLong(Refused, sqlstate="57P05"):
    """``limits.idle_timeout`` is over (57P05, as the server says it)."""


@dataclass(frozen=True, slots=True)
class ListenerSettings:
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
    trail: Callable[[Admission, str, Database | None], Trail] | None = None
    login_refused: Callable[[str, str, str, str], None] | None = None
    slow_statements: float | None = None
    roles: UpstreamRoles | None = None


class Left(NamedTuple):
    """A session that has ended while the server was at work: the fence of its database, its process id there, and when it was."""

    fence: Fence
    process_id: int
    at: float


class Listener:
    """Listening sockets and the connections that came through them."""

    def __init__(self, settings: ListenerSettings, slots: ClientSlots | None = None) -> None:
        self.settings = settings
        self.slots = slots if slots is not None else OwnSlots()
        self.relays: set[Relay] = set()
        self._closing: set[Relay] = set()
        self._left: deque[Left] = deque(maxlen=MOST_LEFT)
        self.counters = Counters()
        self.tallies = Tallies()
        self.times = StatementTimes(settings.slow_statements)
        self.clients = 0
        self.draining = False
        self._accepting: list[asyncio.Task[None]] = []
        self._serving: set[asyncio.Task[None]] = set()
        if settings.roles is not None:
            settings.roles.demoted = self._leave

    def serve(self, sockets: Sequence[socket.socket]) -> None:
        """Accept from listening sockets; they stay their owner's, who closes them after ``close``."""
        self._accepting += [spawn(self._accept(sock), "accept") for sock in sockets]

    def _leave(self, address: Address) -> None:
        """End the sessions at a server that is no longer the primary."""
        for relay in list(self.relays):
            if relay.address == address:
                relay.last_word(NoLongerPrimary("terminating connection: the server is no longer the primary"))

    def left_at_work(self, fence: Fence) -> list[int]:
        """Return the process ids of a database's sessions that have ended of late while the server was at work."""
        since = clock.now() - LEFT_FOR
        return [left.process_id for left in self._left if left.fence is fence and left.at > since]

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
            if self.slots.busier_than_others():
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
        leg: First | None = None
        told = SessionLog(peer_of(sock), self.tallies)
        try:
            async with asyncio.timeout(self.settings.limits.startup_timeout):
                leg = await greet(sock, self.settings.tls, required=self.settings.tls_required)
                startup = decode_startup(await leg.packet) if leg is not None else None
            if leg is None or startup is None:
                return
            if startup.code in (SSL_REQUEST, GSSENC_REQUEST):
                raise WireError("one more request for encryption")
            if startup.code == CANCEL_REQUEST:
                # What is still worked on here the server knows nothing of.
                if not any(relay.cancel_work(startup.body[CANCEL_HEADER:]) for relay in self.relays):
                    await cancel(self.settings.connector, startup.body)
            else:
                told.encrypted = leg.encrypted
                await self._let_in(leg, startup, told)
        except (WireError, TimeoutError, OSError, asyncio.CancelledError):
            # A probe, a port scan, a client that went away: nothing that the operator could mend.
            pass
        except PhiproxyError as error:
            told.not_let_in(error, _outcome(error))
            self._count_upstream(error)
            _say(leg, error)
        except Exception as error:
            # Told by type and place only; this connection ends, the others never notice.
            log.error("internal error", type=type(error).__name__, place=place_of(error))
        finally:
            self.clients -= 1
            if leg is not None and leg.transport is not None:
                leg.transport.close()
            else:
                sock.close()

    def _count_upstream(self, error: PhiproxyError) -> None:
        if isinstance(error, UpstreamError):
            self.tallies.upstream_errors["unreachable" if isinstance(error, Unreachable) else "login"] += 1

    async def _let_in(self, leg: First, startup: Startup, told: SessionLog) -> None:
        told.admitted(startup)
        if leg.uncertified:
            raise CertificateRequired("connection requires a valid client certificate")
        if self.draining:
            raise CannotConnectNow("the proxy is shutting down")
        if not self.slots.take(self.settings.limits.max_clients):
            raise TooManyClients("sorry, too many clients already (limits.max_clients)")
        try:
            await self._admit(leg, startup, told)
        finally:
            self.slots.give_back()

    async def _admit(self, leg: First, startup: Startup, told: SessionLog) -> None:
        login: Login | None = None
        if self.settings.auth is not None:
            try:
                async with asyncio.timeout(self.settings.limits.startup_timeout):
                    login = await self.settings.auth.let_in(leg, startup)
            except PhiproxyError as error:
                self._tell_refused(leg, startup, error)
                raise
        admission = login.admission if login is not None else admit(startup)
        # A server takes the first 63 bytes (up to 16, and 17 again), and a long name must not walk around a policy.
        name = admission.database.encode()[:MAX_NAME].decode("utf-8", "ignore")
        served = self.settings.database(name, admission)
        if served is None and self.settings.unlisted_refused:
            raise NotServed(f'database "{admission.database}" has no policy, and unlisted databases are refused')
        if served is not None and admission.replication:
            raise NoReplication("replication from a database with a policy is refused: it would hand out ciphertext only")
        if served is not None:
            admission.check_taken()
        await self._relay(leg, admission, served, login, told)

    def _tell_refused(self, leg: First, startup: Startup, error: PhiproxyError) -> None:
        if self.settings.login_refused is not None:
            user = (startup.get(b"user") or b"").decode("utf-8", "replace")
            database = (startup.get(b"database") or b"").decode("utf-8", "replace")
            self.settings.login_refused(user, database or user, _address(leg), error.sqlstate)

    async def _relay(
        self,
        leg: First,
        admission: Admission,
        served: tuple[Database, Services] | None,
        login: Login | None,
        told: SessionLog,
    ) -> None:
        database, services = served if served is not None else (None, None)
        transport, server, server_tls, address = await self.settings.connector.connect_to(Leg)
        certificate = peer_certificate(transport)
        session = Session(
            database,
            admission.database,
            max_message=self.settings.limits.max_message,
            strip_plus=server_tls and leg.certificate is None,
            counters=self.counters,
            guard=self.settings.guard,
            trail=self.settings.trail(admission, _address(leg), database) if self.settings.trail is not None else None,
        )
        session.observer = told
        if self.settings.roles is not None:
            roles = self.settings.roles
            session.login.server_is = lambda standby: roles.login_at(address, standby=standby)
        try:
            if login is not None:
                await login.go_on(leg, server, certificate, self.settings.limits.startup_timeout)
            if services is not None:
                await services.arrive(address)
        except BaseException:
            transport.close()
            raise
        if login is None:
            session.login.unbound = None if self.settings.different_certificates else unbound(leg.certificate, certificate)
            session.login.negotiation = admission.negotiation
            session.to_server.append(admission.packet)
        relay = Relay(
            session,
            leg,
            server,
            services,
            lambda packet: cancel(self.settings.connector, packet),
            self.times,
            told.about,
            address,
        )
        self.relays.add(relay)
        try:
            relay.start()
            relay.received(leg, b"")
            leg.release()
            await self._until_ended(relay)
        finally:
            relay.close()
            self.tallies.upstream_errors["closed"] += relay.server_gone
            self.relays.discard(relay)
            if session.busy and database is not None:
                self._left.append(Left(session.fence, session.login.process_id, clock.now()))
            self._closing = {r for r in self._closing if not r.gone} | {relay}

    async def _until_ended(self, relay: Relay) -> None:
        idle = self.settings.limits.idle_timeout
        while idle and not relay.ended.done():
            await asyncio.wait([relay.ended], timeout=max(0.01, relay.last_activity + idle - clock.now()))
            if relay.ended.done() or clock.now() - relay.last_activity < idle:
                continue
            if not relay.waiting or relay.session.waiting is not None:
                relay.last_activity = clock.now()  # the server is at work, or the proxy for the client, which is not idleness
            else:
                relay.last_word(IdleTooLong("terminating connection due to idle timeout (limits.idle_timeout)"))
        # Not the future itself, which being cancelled would cancel, and the relay would take that for its end.
        await asyncio.wait([relay.ended])


def _address(leg: Leg) -> str:
    """Return where a client is: address and port, or ``local`` for a Unix socket."""
    name = leg.transport.get_extra_info("peername") if leg.transport is not None else None
    if not isinstance(name, tuple):
        return "local"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _outcome(error: PhiproxyError) -> str:
    if isinstance(error, LoginRefused):
        return "failed"
    return "no_server" if isinstance(error, UpstreamError) else "refused"


def _say(leg: Leg | None, error: PhiproxyError) -> None:
    if leg is not None and leg.transport is not None and not leg.transport.is_closing():
        detail = error.detail if isinstance(error, LoginRefused) else None
        words = error_response(error.sqlstate, error.public_text, detail=detail, hint=error.hint, severity="FATAL")
        leg.transport.write(words)
