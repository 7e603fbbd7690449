"""Two sockets and one Session: what arrives is fed to the session, what it leaves is written at once, one write per chunk.

The only decisions here are about flow: a side that cannot take more pauses the reading of the other, the two directions
independently; a session that needs keys or a catalogue pauses both. Any exception that is not expected closes both sides.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol, cast

import structlog

from phiproxy.errors import KeyWant, PhiproxyError, place_of
from phiproxy.net import clock
from phiproxy.net.apart import apart
from phiproxy.net.tasks import spawn
from phiproxy.session.core import Need, NeedAnnouncement, NeedKeys, NeedWork, Session
from phiproxy.session.phases import CLOSED, READY, TRANSPARENT
from phiproxy.wire.messages import CANCEL_REQUEST, TERMINATE, error_response

log = structlog.get_logger("phiproxy.relay")

# asyncpg's own tests notice larger ones: a client that stops reading must stop the server soon (protocol.md, back-pressure).
BUFFER = 64 * 1024
# What comes from a client at once is taken in pieces of this size, so that the server is at work on one while the next is sealed.
PIECE = 32 * 1024
# What is longer is not put together before it is written.
LONG_WRITE = 1024 * 1024
# How long a closed socket may take for what is still to be sent before the rest of it is given up.
LINGER = 10.0
# How long the server may work in silence for a client that has closed its sending half. Whether it still listens cannot be seen
# (a process that died looks the same), so what takes longer is cancelled, as for a client that is gone.
HALF_CLOSED = 5.0
_IS_READY = b"Z\0\0\0\x05"


class ServerGone(PhiproxyError):
    """The server's socket closed without a word (08006)."""

    sqlstate = "08006"
    anchor = "err-upstream"


class QueryCanceled(PhiproxyError):
    """The client has cancelled a statement before it was sent (57014, as the server says it)."""

    sqlstate = "57014"


@dataclass(frozen=True, slots=True)
class Services:
    """What a session may ask for, handed in by app: net and keys never meet."""

    fetch_keys: Callable[[frozenset[KeyWant]], Awaitable[None]]
    refresh_catalog: Callable[[bool, frozenset[str]], Awaitable[None]]
    announce: Callable[[frozenset[str]], Awaitable[None]]


class Receiver(Protocol):
    """Who takes what a side receives: a relay, or before that the login."""

    def received(self, side: Side, data: bytes) -> None:
        """Take bytes."""

    def said_all(self, side: Side) -> bool:
        """Take note that the other end says no more; True when it still listens."""

    def lost(self, side: Side) -> None:
        """Take note that the socket is gone."""


class Side(asyncio.Protocol):
    """One socket of a relay; before ``relay`` is set it only buffers."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.relay: Receiver | None = None
        self.peer: Side | None = None
        self.early: list[bytes] = []
        self.lost = False
        self._holds = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=BUFFER)

    def data_received(self, data: bytes) -> None:
        """Hand over, or keep until there is a relay."""
        if self.relay is None:
            self.early.append(data)
        else:
            self.relay.received(self, data)

    def deliver(self, take: Callable[[bytes], None]) -> None:
        """Hand over what arrives from now on without a step between; uvloop keeps the method that a protocol has when it is set."""
        self.data_received = take  # type: ignore[assignment, method-assign]
        if self.transport is not None and not self.transport.is_closing():
            self.transport.set_protocol(self)

    def eof_received(self) -> bool:
        """The other end says no more; it may still listen. True keeps this end open (TLS cannot)."""
        return self.relay is not None and self.relay.said_all(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self.lost = True
        if self.relay is not None:
            self.relay.lost(self)

    def pause_writing(self) -> None:
        """This side does not read fast enough: stop taking from the other one."""
        if self.peer is not None:
            self.peer.hold()

    def resume_writing(self) -> None:
        """This side has caught up."""
        if self.peer is not None:
            self.peer.release()

    def hold(self) -> None:
        """Stop reading, once more."""
        self._holds += 1
        if self._holds == 1 and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def release(self) -> None:
        """Take back one hold; read again after the last."""
        self._holds -= 1
        if self._holds == 0 and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()


class Relay:
    """One client connection and its server connection."""

    def __init__(
        self, session: Session, client: Side, server: Side, services: Services | None, cancel: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self.session = session
        self.client = client
        self.server = server
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_activity = clock.now()
        self._services = services
        self._cancel = cancel
        self._now = clock.now
        self._terminated = False
        self._ready = b""
        self._choked = False
        self._needs = 0
        self._working: asyncio.Task[object] | None = None
        self._refusable = False
        self._taken = 0
        self._half_closed = False
        self._server_told = False
        assert client.transport is not None
        assert server.transport is not None
        self._to_client, self._to_server = client.transport.write, server.transport.write
        client.peer, server.peer = server, client

    def start(self) -> None:
        """Begin with what arrived before there was a relay."""
        for side, take in ((self.client, self._from_client), (self.server, self._from_server)):
            side.relay = self
            side.deliver(take)
            early, side.early = b"".join(side.early), []
            if early:
                take(early)
        for side in (self.client, self.server):
            if side.lost:
                self.lost(side)

    def received(self, side: Side, data: bytes) -> None:
        """Feed the session and write what it leaves."""
        (self._from_client if side is self.client else self._from_server)(data)

    def _from_client(self, data: bytes) -> None:
        session = self.session
        session.now = self.last_activity = self._now()
        self._terminated = data.endswith(TERMINATE)
        if session.phase is TRANSPARENT:
            self._ready = b""
            if session.gate is None:
                self._to_server(data)
                return
        for piece in (data,) if len(data) <= PIECE else (data[i : i + PIECE] for i in range(0, len(data), PIECE)):
            try:
                need = session.from_client(piece)
            except Exception as error:
                self._broken(error)
                return
            self._go_on(need)
            if self.ended.done():
                return
        if not session.quiet and session.client_frames.pending > LONG_WRITE:
            self._let_others_read(self.client)

    def _from_server(self, data: bytes) -> None:
        session = self.session
        session.now = self.last_activity = self._now()
        if session.phase is not READY:  # the first ReadyForQuery of all may be what makes it TRANSPARENT
            self._ready = data[-1:] if data[-6:-1] == _IS_READY else b""
        if session.phase is TRANSPARENT and not self._half_closed:
            self._to_client(data)
            return
        try:
            need = session.from_server(data)
        except Exception as error:
            self._broken(error)
            return
        self._go_on(need)
        if not session.quiet and session.server_frames.pending > LONG_WRITE:
            self._let_others_read(self.server)

    def _let_others_read(self, side: Side) -> None:
        """Read no more in this turn of what a long message is gathered from: uvloop reads up to 8 MB of one socket at once."""
        side.hold()
        asyncio.get_running_loop().call_soon(side.release)

    def _go_on(self, need: Need | None) -> None:
        session = self.session
        if session.quiet and not (self._choked or self._half_closed or (session.to_server and session.to_client)):
            out, write = (session.to_server, self._to_server) if session.to_server else (session.to_client, self._to_client)
            if out:
                write(out[0]) if len(out) == 1 else _write_all(write, out)
                out.clear()
            return
        self._write()
        if self._choked or session.blocked or session.later or self._working is not None:
            self._choke()
        if need is not None:
            self._await(need)
        elif self._half_closed:
            self._pass_end()

    @property
    def waiting(self) -> bytes:
        """The transaction status with which the server waits for the client; empty while it is at work.

        Where messages are not told apart the end of what came last must do: a ReadyForQuery nearly always ends a chunk.
        """
        session = self.session
        if session.phase is TRANSPARENT:
            return self._ready
        return b"" if session.busy else session.status

    def _choke(self) -> None:
        """Take nothing more from the client while the session must keep it: it waits for an answer to a query of its own.

        During work it is still listened to, since it may go away; what it says meanwhile is kept beside the message that waits.
        """
        pending = self.session.client_frames.pending
        full = pending - self._taken > BUFFER if self._working is not None else self.session.stalled and pending > BUFFER
        if full != self._choked:
            self._choked = full
            (self.client.hold if full else self.client.release)()

    def _write(self) -> None:
        session = self.session
        if session.to_server:
            out, session.to_server = session.to_server, []
            if self._server_told:
                self.close()  # only the proxy's own question can come behind the client's end: nobody needs its answer
                return
            _write_all(self._to_server, out)
        if session.to_client:
            out, session.to_client = session.to_client, []
            _write_all(self._to_client, out)
        if session.phase is CLOSED:
            self.close()

    def _await(self, need: Need) -> None:
        self._needs += 1
        self.client.hold()
        self.server.hold()
        spawn(self._meet(need), "need")

    async def _meet(self, need: Need) -> None:
        """Meet one need after the other until the session goes on."""
        assert self._services is not None
        following: Need | None = need
        try:
            while following is not None and not self.ended.done():
                failure: PhiproxyError | None = None
                try:
                    if isinstance(following, NeedKeys):
                        await self._services.fetch_keys(following.wants)
                    elif isinstance(following, NeedAnnouncement):
                        await self._services.announce(following.names)
                    elif isinstance(following, NeedWork):
                        await self._work(following)
                    else:
                        await self._services.refresh_catalog(following.changed, following.names)
                except PhiproxyError as error:
                    failure = error
                if self.ended.done():
                    return
                self.session.now = self._now()
                following = self.session.resume(failure, worked=isinstance(following, NeedWork))
                self._write()
                self._choke()
        except Exception as error:
            self._broken(error)
        finally:
            self._needs -= 1
            self.client.release()
            self.server.release()
        if self._half_closed:
            self._pass_end()

    async def _work(self, need: NeedWork) -> None:
        """Let work be done for the message that waits; QueryCanceled when the client cancels it. It ends with the session."""
        work, session = need.work, self.session
        self._taken = session.client_frames.pending
        if work.apart is not None:
            doing = apart.run(work.apart)
        else:
            assert work.steps is not None
            doing = apart.take(work.steps())
        self._working = task = spawn(doing, "work")
        self._refusable = work.refusable
        self.client.release()
        try:
            await asyncio.wait([task, self.ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._working = None
            self.client.hold()
        if not task.done():
            task.cancel()
            return
        try:
            work.done(await task)
        except asyncio.CancelledError:
            raise QueryCanceled("canceling statement due to user request") from None
        except Exception as error:
            work.failed(error)
        session.worked.append(work)

    def cancel_work(self, key: bytes) -> bool:
        """Cancel what is done for a message that was not sent yet; False where there is no such work, or the key is another."""
        known = self.session.backend_key
        if self._working is None or not self._refusable or known is None or not compare_digest(key, known):
            return False
        self._working.cancel()
        return True

    def _broken(self, error: Exception) -> None:
        """Fail whole: an unexpected exception is told by type and place only, and both sockets close."""
        log.error("internal error", type=type(error).__name__, place=place_of(error))
        client = self.client.transport
        if client is not None and not client.is_closing() and not self.session.inside:
            client.write(
                error_response(
                    "XX000", "phiproxy: internal error; the connection is closed (README#err-internal)", severity="FATAL"
                )
            )
        self.close()

    def protection_changed(self) -> None:
        """Let the session know that the policy of its database is another one now."""
        if not self.ended.done():
            self.session.protection_changed()
            self._write()

    def last_word(self, error: PhiproxyError) -> None:
        """Say a FATAL to the client and close; without it where it could end up inside of a message of the server's."""
        if self.ended.done():
            return
        if self.session.framed or self.waiting:  # inside of a long message, the session itself says nothing
            self.session.fatal(error)
            self._write()
        self.close()

    def said_all(self, side: Side) -> bool:
        """Take the end of what a side says; True when what it listens to is still to come.

        PostgreSQL answers what was said before the end, and so does the proxy, for a client whose leg has no TLS.
        """
        if side is not self.client or self.ended.done() or _encrypted(side):
            return False
        if self._half_closed:
            return True  # once more, after reading was held for a while
        self._half_closed = True
        self._pass_end()
        if not self.ended.done():
            spawn(self._wait_for_last_replies(), "half closed")
        return True

    def _pass_end(self) -> None:
        """Let the server know that the client says no more, or close where it waits for more."""
        session = self.session
        if self.ended.done() or self._needs or session.stalled:
            return
        server = self.server.transport
        assert server is not None
        # Where no ReadyForQuery is to be awaited, only the server knows when it has said all.
        open_end = session.phase is TRANSPARENT or session.pipeline.copy_in or session.group_open
        if open_end and not _encrypted(self.server):
            if not self._server_told:
                self._server_told = True
                server.write_eof()
        elif self.waiting:
            self.close()

    async def _wait_for_last_replies(self) -> None:
        """Let the server go on for a client that says no more, while it says something or the client has to read."""
        while not self.ended.done():
            client = self.client.transport
            reading = client is not None and client.get_write_buffer_size() > 0
            rest = HALF_CLOSED if reading or self._needs else self.last_activity + HALF_CLOSED - self._now()
            if rest <= 0:
                self._cancel_query()
                self.close()
            else:
                await asyncio.wait([self.ended], timeout=rest)

    def _cancel_query(self) -> None:
        """Cancel what the server may still be doing for a client that is gone."""
        key = self.session.backend_key
        if key is not None and self.session.busy and not self.waiting and not self._terminated:
            packet = struct.pack("!II", len(key) + 8, CANCEL_REQUEST) + key
            spawn(self._cancelled(packet), "cancel")

    def lost(self, side: Side) -> None:
        """One side is gone: the other goes too. A query that still runs for nobody is cancelled."""
        if side is self.client and not self.ended.done() and not self.server.lost:
            self._cancel_query()
        elif side is self.server and not self._half_closed and not self.session.server_said_fatal and self.session.framed:
            self.last_word(ServerGone("the PostgreSQL server closed the connection unexpectedly"))
        self.close()

    async def _cancelled(self, packet: bytes) -> None:
        try:
            await self._cancel(packet)
        except (PhiproxyError, OSError, TimeoutError) as error:
            log.warning("a query of a vanished client could not be cancelled", type=type(error).__name__)

    def close(self) -> None:
        """Close both sockets after what is written, once."""
        if self.ended.done():
            return
        self.ended.set_result(None)
        self.session.tell_doubtful()
        for side in (self.client, self.server):
            if side.transport is not None and not side.lost:
                if side.transport.get_write_buffer_size():
                    # The other end may never read it: a backend that waits to be read itself would stay forever.
                    asyncio.get_running_loop().call_later(LINGER, side.transport.abort)
                side.transport.close()

    @property
    def gone(self) -> bool:
        """Tell whether both sockets are closed and what was written to them is sent."""
        return all(side.lost or side.transport is None for side in (self.client, self.server))

    def abort(self) -> None:
        """Give up what is still to be sent."""
        for side in (self.client, self.server):
            if side.transport is not None and not side.lost:
                side.transport.abort()


def _write_all(write: Callable[[bytes], None], out: list[bytes]) -> None:
    """Write in one piece what is written at once, but for long parts, which would be copied for that."""
    size = sum(map(len, out))
    if size <= LONG_WRITE:
        write(b"".join(out))
        return
    small: list[bytes] = []
    for part in out:
        if len(part) <= BUFFER:
            small.append(part)
            continue
        if small:
            write(b"".join(small))
            small = []
        write(part)
    if small:
        write(b"".join(small))


def _encrypted(side: Side) -> bool:
    """Tell whether a leg has TLS, which cannot be closed one half at a time."""
    return side.transport is not None and side.transport.get_extra_info("ssl_object") is not None
