"""Two sockets and one Session: what arrives is fed to the session, what it leaves is written at once, one write per chunk.

The only decisions here are about flow: a leg that cannot take more pauses the reading of the other, the two directions
independently; a session that needs keys or a catalogue pauses both. Any exception that is not expected closes both sides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hmac import compare_digest

import structlog

from phiproxy.errors import PhiproxyError, place_of, public_text
from phiproxy.net import clock
from phiproxy.net.cancel_requests import cancel_request
from phiproxy.net.held_until_recorded import Unrecorded
from phiproxy.net.leg import BUFFER, LONG_WRITE, Leg, write_all
from phiproxy.net.session_needs import Needs, Services
from phiproxy.net.statement_times import Measured, StatementTimes, Trace
from phiproxy.net.tasks import spawn
from phiproxy.policy.setting_values import Address
from phiproxy.session import audited_executions, holding
from phiproxy.session.core import Session
from phiproxy.session.needs import Need, NeedEngine, NeedRelease, NeedWork, Work
from phiproxy.session.phases import AUTHENTICATING, CLOSED, LOGGED_IN, TRANSPARENT
from phiproxy.session.trail import not_recorded
from phiproxy.wire.messages import TERMINATE, error_response

log = structlog.get_logger("phiproxy.relay")

# After work of so many seconds on what one socket had, others have their turn: uvloop reads up to 8 MB of one socket in a turn.
LONG_WORK = 0.002
# So much it hands over at once.
_READ_AT_ONCE = 256 * 1024
# What is taken in one turn of what a client, or the server, sends at once, in bytes: some milliseconds of sealing, or of opening.
SEALED_AT_ONCE, OPENED_AT_ONCE = 16 * 1024, 64 * 1024
# How long a closed socket may take for what is still to be sent before the rest of it is given up.
LINGER = 10.0
# How long the server may work in silence for a client that has closed its sending half. Whether it still listens cannot be seen
# (a process that died looks the same), so what takes longer is cancelled, as for a client that is gone.
HALF_CLOSED = 5.0
# Between two long values that are given back, each of which takes a moment, a neighbour's question goes to the server and back.
RESPITE = 0.005
_READY_FOR_QUERY = b"Z\0\0\0\x05"


class ServerGone(PhiproxyError, sqlstate="08006", anchor="err-upstream"):
    """The server's socket closed without a word (08006)."""


class Relay:
    """One client connection and its server connection."""

    def __init__(
        self,
        session: Session,
        client: Leg,
        server: Leg,
        services: Services | None,
        cancel: Callable[[bytes], Awaitable[None]],
        times: StatementTimes | None = None,
        about: Mapping[str, str] | None = None,
        address: Address | None = None,
    ) -> None:
        self.address = address
        self.session = session
        self.client = client
        self.server = server
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last_activity = clock.now()
        self._needs = Needs(session, client, services, self.ended, write=self._write, stop=self._stop)
        self._cancel = cancel
        self._now = clock.now
        self._terminated = False
        self._status_told = b""
        self._choked = False
        self._slow = False
        self._half_closed = False
        self._server_told = False
        # How many chunks of the client's come before one is measured; the one that is measured now; what is told of it.
        self._times = times if times is not None else StatementTimes()
        self._unmeasured = self._times.stride
        self._measured: Measured | None = None
        self.server_gone = False
        """The server's socket closed without a word."""
        self._about = about if about is not None else {}
        self._trace = Trace()
        assert client.transport is not None
        assert server.transport is not None
        self._to_client, self._to_server = client.transport.write, server.transport.write
        client.peer, server.peer = server, client
        # What waits until its record is durable; None without an audit log.
        self._unrecorded = Unrecorded(session, server, self._show, self._not_recorded) if session.trail is not None else None
        self._closing = False

    def start(self) -> None:
        """Begin with what arrived before there was a relay."""
        for leg, take in ((self.client, self._from_client), (self.server, self._from_server)):
            leg.relay = self
            leg.deliver(take)
            early, leg.early = b"".join(leg.early), []
            if early:
                take(early)
        for leg in (self.client, self.server):
            if leg.lost:
                self.lost(leg)

    def received(self, leg: Leg, data: bytes) -> None:
        """Feed the session and write what it leaves."""
        (self._from_client if leg is self.client else self._from_server)(data)

    def _from_client(self, data: bytes) -> None:
        session = self.session
        self._unmeasured -= 1
        if not self._unmeasured:
            self._measure(data)
            return
        session.now = self.last_activity = self._now()
        self._terminated = data.endswith(TERMINATE)
        if session.phase is TRANSPARENT:
            self._status_told = b""
            if session.gate is None:
                self._to_server(data)
                return
        if len(data) > SEALED_AT_ONCE:
            # The server is at work on one piece while the next is sealed.
            self.client.put_off(data[SEALED_AT_ONCE:], SEALED_AT_ONCE)
            data = data[:SEALED_AT_ONCE]
        try:
            need = session.from_client(data)
        except Exception as error:
            self._broken(error)
            return
        self._go_on(need)
        if not session.settled and session.client_frames.pending > LONG_WRITE:
            self._let_others_read(self.client)

    def _measure(self, data: bytes) -> None:
        """Do as ``_from_client``, and measure until it is answered."""
        self._unmeasured = self._times.stride + 1  # once for the call below
        begin = self._now()
        if self._measured is None and self.session.phase is not AUTHENTICATING:
            self._measured = Measured(self._times, self.session, data, begin, self._about, self._trace)
        self._from_client(data)
        if self._measured is not None:
            self._measured.planned(begin, self._now())

    def _measure_reply(self, measured: Measured, data: bytes) -> None:
        """Do as ``_from_server`` for what answers the statement that is measured."""
        self._measured, begin = None, self._now()
        self._from_server(data)
        now = self._now()
        measured.opened(begin, now)
        if self.waiting and not self._needs.count:
            measured.done(now)
        else:
            self._measured = measured

    def _from_server(self, data: bytes) -> None:
        if self._measured is not None:
            self._measure_reply(self._measured, data)
            return
        session = self.session
        session.now = self.last_activity = self._now()
        if session.phase is not LOGGED_IN:  # the first ReadyForQuery of all may be what makes it TRANSPARENT
            self._status_told = data[-1:] if data[-6:-1] == _READY_FOR_QUERY else b""
        if session.phase is TRANSPARENT and not self._half_closed:
            self._to_client(data)
            return
        if self._slow and len(data) > OPENED_AT_ONCE:
            self.server.put_off(data[OPENED_AT_ONCE:], OPENED_AT_ONCE)
            data = data[:OPENED_AT_ONCE]
        try:
            need = session.from_server(data)
        except Exception as error:
            self._broken(error)
            return
        self._go_on(need)
        taken, size = self._now() - session.now, len(data)
        if size >= SEALED_AT_ONCE:  # of less it cannot be told what more takes
            self._slow = taken * _READ_AT_ONCE > LONG_WORK * size
        if taken > LONG_WORK or (not session.settled and session.server_frames.pending > LONG_WRITE):
            self._let_others_read(self.server)

    def _let_others_read(self, leg: Leg) -> None:
        """Read no more in this turn of what takes long, or a long message is gathered from."""
        leg.hold()
        asyncio.get_running_loop().call_soon(leg.release)

    def _go_on(self, need: Need | None) -> None:
        session = self.session
        if self._unrecorded is not None and (session.to_client or session.unrecorded):
            self._unrecorded.keep()
        if session.settled and not (self._choked or self._half_closed or (session.to_server and session.to_client)):
            out, write = (session.to_server, self._to_server) if session.to_server else (session.to_client, self._to_client)
            if out:
                write(out[0]) if len(out) == 1 else write_all(write, out)
                out.clear()
            return
        self._write()
        if self._choked or session.blocked or session.later or self._needs.working is not None:
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
            return self._status_told
        return b"" if session.busy else session.status

    def _choke(self) -> None:
        """Take nothing more from the client while the session must keep it: it waits for an answer to a query of its own.

        During work it is still listened to, since it may go away; what it says meanwhile is kept beside the message that waits.
        """
        pending = self.session.client_frames.pending
        full = (
            pending - self._needs.taken > BUFFER if self._needs.working is not None else self.session.stalled and pending > BUFFER
        )
        if full != self._choked:
            self._choked = full
            (self.client.hold if full else self.client.release)()

    def _write(self) -> None:
        session = self.session
        if self.ended.done():
            return  # what is still computed is for nobody
        if self._unrecorded is not None:
            self._unrecorded.keep()
        if session.to_server:
            out, session.to_server = session.to_server, []
            if self._server_told:
                self.close()  # only the proxy's own question can come behind the client's end: nobody needs its answer
                return
            if write_all(self._to_server, out):
                self.server.let_go_of(out)
        if session.to_client:
            out, session.to_client = session.to_client, []
            if write_all(self._to_client, out):
                self.client.let_go_of(out)
        if session.released:
            released, session.released = session.released, []
            self._needs.computations.release(released)
        if session.phase is CLOSED:
            self.close()

    def _await(self, need: Need) -> None:
        self.client.hold()
        self.server.hold()
        self._needs.count += 1
        spawn(self._meet(need), "need")

    async def _meet(self, need: Need) -> None:
        following: Need | None = need
        try:
            while following is not None and not self.ended.done():
                begin = self._now()
                failure = await self._needs.meet(following)
                if self.ended.done():
                    return
                self.session.now = now = self._now()
                if self._measured is not None:
                    self._measured.waited(begin, now, engine=isinstance(following, NeedEngine | NeedRelease))
                following = self.session.resume(failure, worked=isinstance(following, NeedWork))
                self._write()
                self._choke()
                while self.session.over:
                    pause = RESPITE if isinstance(self.session.over.pop(), Work) else 0
                    await asyncio.sleep(pause)
                if following is not None and self.session.pipeline.copy_in:
                    await self._listen_to_server()
        except Exception as error:
            self._broken(error)
        finally:
            self._needs.count -= 1
            self.client.release()
            self.server.release()
        if self._half_closed:
            self._pass_end()

    async def _listen_to_server(self) -> None:
        """Read what the server has said between two pieces of work: a client that never stops to copy is told of its error so.

        It goes on once the server has taken what it was sent; that may wait until somebody has read what it says.
        """
        self.server.release()
        await asyncio.sleep(0)
        await self.server.drained()
        self.server.hold()

    def cancel_work(self, key: bytes) -> bool:
        """Cancel what is done for a message that was not sent yet; False where there is no such work, or the key is another."""
        own = self.session.login.backend_key
        return own is not None and compare_digest(key, own) and self._needs.cancel()

    def _broken(self, error: Exception) -> None:
        """Fail whole: an unexpected exception is told by type and place only, and both sockets close."""
        log.error("internal error", type=type(error).__name__, place=place_of(error))
        client = self.client.transport
        if client is not None and not client.is_closing() and not self.session.client_mid_message:
            text = public_text("internal error; the connection is closed", PhiproxyError.anchor)
            client.write(error_response(PhiproxyError.sqlstate, text, severity="FATAL"))
        self.close()

    def protection_changed(self) -> None:
        """Let the session know that the policy of its database is another one now."""
        if not self.ended.done():
            self.session.protection_changed()
            self._write()

    def ask_isolation(self) -> None:
        """Have the session ask the server for the isolation level of the transaction that it is in the midst of."""
        if self.ended.done() or self._half_closed:
            return
        holding.ask_isolation(self.session)
        self._write()
        self._choke()

    def last_word(self, error: PhiproxyError) -> None:
        """Say a FATAL to the client and close; without it where it could end up inside of a message of the server's."""
        if self.ended.done():
            return
        if self.session.framed or self.waiting:  # inside of a long message, the session itself says nothing
            self.session.fatal(error)
            self._write()
        self.close()

    def said_all(self, leg: Leg) -> bool:
        """Take the end of what a leg says; True when what it listens to is still to come.

        PostgreSQL answers what was said before the end, and so does the proxy, for a client whose leg has no TLS.
        """
        if leg is not self.client or self.ended.done() or leg.encrypted:
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
        if self.ended.done() or self._needs.count or session.stalled:
            return
        server = self.server.transport
        assert server is not None
        # Where no ReadyForQuery is to be awaited, only the server knows when it has said all.
        open_end = session.phase is TRANSPARENT or session.pipeline.copy_in or session.groups.is_open
        if open_end and not self.server.encrypted:
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
            fetching = self._needs.count and not self._needs.computing
            rest = HALF_CLOSED if reading or fetching else self.last_activity + HALF_CLOSED - self._now()
            if rest <= 0:
                self._cancel_query()
                self.close()
            else:
                await asyncio.wait([self.ended], timeout=rest)

    def _cancel_query(self) -> None:
        """Cancel what the server may still be doing for a client that is gone."""
        key = self.session.login.backend_key
        if key is not None and self.session.busy and not self.waiting and not self._terminated:
            spawn(self._cancelled(cancel_request(key)), "cancel")

    async def _stop(self) -> None:
        """Have the server cancel what it does, and wait until it was told so, for nothing else may be cancelled."""
        key = self.session.login.backend_key
        if key is not None:
            await self._cancelled(cancel_request(key))

    def lost(self, leg: Leg) -> None:
        """One leg is gone: the other goes too. A query that still runs for nobody is cancelled."""
        if leg is self.client and not self.ended.done() and not self.server.lost:
            self._cancel_query()
        elif leg is self.server and not self._half_closed and not self.session.server_said_fatal and self.session.framed:
            self.server_gone = not self.ended.done()
            self.last_word(ServerGone("the PostgreSQL server closed the connection unexpectedly"))
        self.close()

    async def _cancelled(self, packet: bytes) -> None:
        try:
            await self._cancel(packet)
        except (PhiproxyError, OSError, TimeoutError) as error:
            log.warning("a query of a vanished client could not be cancelled", type=type(error).__name__)

    def _show(self, out: list[bytes]) -> None:
        """Write what has waited for its record, and then close where that was to be."""
        if not self.ended.done():
            write_all(self._to_client, out)
            if self._closing:
                self.close()

    def _not_recorded(self) -> None:
        """End a conversation whose rows could not be recorded, and so were not shown."""
        if not self.ended.done():
            self.session.fatal(not_recorded())
            self._write()
            self.close()

    def close(self) -> None:
        """Close both sockets after what is written, once; after what waits for its record, where somebody is there to see it."""
        if self.ended.done():
            return
        if self._unrecorded is not None and self._unrecorded.waits:
            if not self.client.lost:
                self._closing = True
                return
            self._unrecorded.drop()
        self.ended.set_result(None)
        try:
            self._needs.computations.close()
            audited_executions.cut_off(self.session)
        finally:
            for leg in (self.client, self.server):
                _close(leg)

    @property
    def gone(self) -> bool:
        """Tell whether both sockets are closed and what was written to them is sent."""
        return all(leg.lost or leg.transport is None for leg in (self.client, self.server))

    def abort(self) -> None:
        """Give up what is still to be sent."""
        for leg in (self.client, self.server):
            if leg.transport is not None and not leg.lost:
                leg.transport.abort()


def _close(leg: Leg) -> None:
    if leg.transport is None or leg.lost:
        return
    if leg.transport.get_write_buffer_size():
        # The other end may never read it: a backend that waits to be read itself would stay forever.
        asyncio.get_running_loop().call_later(LINGER, leg.transport.abort)
    leg.transport.close()
