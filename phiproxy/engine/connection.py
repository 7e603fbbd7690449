"""One connection of the role to the engine: login, bytes out, a run's results in; backpressure both ways, and cancelling."""

from __future__ import annotations

import asyncio
from collections import deque
from struct import pack, unpack_from
from typing import cast

from phiproxy.engine.access import ROLE, Access
from phiproxy.engine.failures import EngineUnavailable
from phiproxy.engine.run import Run, Said
from phiproxy.wire.framing import FrameBuffer
from phiproxy.wire.messages import (
    CANCEL_REQUEST,
    PROTOCOL_3_0,
    TERMINATE,
    decode_error_fields,
    decode_sasl_mechanisms,
    encode_sasl_initial_response,
    encode_startup,
    message,
)
from phiproxy.wire.scram import PLAIN, ScramClient

LOGIN_PATIENCE = 10.0
# Results that nobody has taken yet; more stop the engine.
_HIGH, _LOW = 1 << 20, 1 << 18
_SQLSTATE = ord("C")


class NoSuchDatabase(EngineUnavailable):
    """The engine was started again, and does not have the database any longer (57P03)."""


class Connection(asyncio.Protocol):
    """A connection to one database. ``said`` is what it holds; one run at a time."""

    def __init__(self, access: Access, database: str) -> None:
        self.said = Said()
        self.database = database
        self._access = access
        self._transport: asyncio.Transport | None = None
        self._key = b""
        self._logging_in: _Login | None = None
        self._run: Run | None = None
        self._results: deque[bytes] = deque()
        self._size = 0
        self._told = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, access: Access, database: str) -> Connection:
        """Connect and log in; NoSuchDatabase, or EngineUnavailable where the engine is not there."""
        conn = cls(access, database)
        conn._logging_in = login = _Login(access)
        try:
            async with asyncio.timeout(LOGIN_PATIENCE):
                loop = asyncio.get_running_loop()
                await loop.create_unix_connection(lambda: conn, access.socket)
                parameters = (("user", ROLE), ("database", database))
                conn.send(encode_startup(PROTOCOL_3_0, [(name.encode(), value.encode()) for name, value in parameters]))
                conn._key = await login.key
        except BaseException as error:
            if conn._transport is not None:
                conn._transport.abort()  # uvloop has closed it where this was cancelled: it would raise at a Terminate
            if isinstance(error, OSError):  # TimeoutError too
                raise EngineUnavailable("the engine is not there", hint="try again") from None
            raise
        finally:
            conn._logging_in = None
            if not login.key.done():
                login.key.cancel()
        return conn

    @property
    def closed(self) -> bool:
        """Tell whether it can no longer be used."""
        return self._transport is None or self._transport.is_closing()

    def start(self, run: Run) -> None:
        """Give what comes to this run from now on."""
        self._run = run
        self._results.clear()
        self._size = 0

    def send(self, data: bytes) -> None:
        """Send; the run of a connection that was lost between two of its parts has failed."""
        if self._transport is not None and data:
            self._transport.write(data)
        elif data:
            self._lose()

    async def drained(self) -> None:
        """Wait until the engine has taken most of what was sent."""
        await self._writable.wait()

    async def told(self) -> bytes | None:
        """Wait for more of the run's results; None where there are none for now: it is done, suspended or has failed."""
        while not self._results:
            run = self._run
            assert run is not None
            if run.done or run.suspended or run.failed is not None:
                return None
            self._told.clear()
            await self._told.wait()
        piece = self._results.popleft()
        self._size -= len(piece)
        if self._size < _LOW and self._transport is not None:
            self._transport.resume_reading()
        return piece

    async def settled(self) -> None:
        """Wait until the engine has answered all that was sent, and drop what it says."""
        run = self._run
        assert run is not None
        while not run.done and not self.closed:
            if await self.told() is None and not run.done:
                self._told.clear()
                await self._told.wait()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.write(TERMINATE)
            self._transport.close()

    async def cancel(self) -> None:
        """Have the engine end what it computes for this connection (CancelRequest), and hang up."""
        if self.closed:
            return
        try:
            async with asyncio.timeout(LOGIN_PATIENCE):
                reader, writer = await asyncio.open_unix_connection(self._access.socket)
                try:
                    writer.write(pack("!II", 16, CANCEL_REQUEST) + self._key)
                    await reader.read()
                finally:
                    writer.close()
        except OSError:
            pass  # it is gone, and what it computed with it
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """The engine has said something."""
        if self._logging_in is not None:
            self.send(self._logging_in.feed(data))
            return
        if self._run is None:
            return
        for piece in self._run.feed(data):
            self._results.append(piece)
            self._size += len(piece)
        if self._size > _HIGH and self._transport is not None:
            self._transport.pause_reading()
        self._told.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The engine has hung up."""
        self._transport = None
        if self._logging_in is not None:
            self._logging_in.fail(_gone())
        self._lose()
        self._writable.set()

    def _lose(self) -> None:
        """Have the run fail where it still waits for an answer."""
        if self._run is not None and self._run.failed is None and not self._run.done:
            self._run.failed = _gone()
        self._told.set()

    def pause_writing(self) -> None:
        """The engine does not keep up."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()


def _gone() -> EngineUnavailable:
    return EngineUnavailable("the engine ended while it computed", hint="try again")


class _Login:
    """What is said until the engine is ready: no password, or SCRAM. ``key`` becomes what a CancelRequest needs."""

    def __init__(self, access: Access) -> None:
        self.key: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._access = access
        self._frames = FrameBuffer()
        self._given = b""
        self._scram: ScramClient | None = None

    def fail(self, error: Exception) -> None:
        """End it."""
        if not self.key.done():
            self.key.set_exception(error)

    def feed(self, data: bytes) -> bytes:
        """Take what the engine says; returns the answer."""
        self._frames.feed(data)
        out = []
        while (frame := self._frames.next()) is not None:
            tag, start, end = frame
            payload = self._frames.data[start + 5 : end]
            self._frames.advance(end)
            if tag == ord("R"):
                out.append(self._authenticate(payload))
            elif tag == ord("K"):
                self._given = payload
            elif tag == ord("E"):
                state = dict(decode_error_fields(payload, 0, len(payload))).get(_SQLSTATE, b"").decode("ascii", "replace")
                error = NoSuchDatabase if state == "3D000" else EngineUnavailable
                self.fail(error(f"the engine refuses the proxy's login ({state})", hint="try again"))
            elif tag == ord("Z") and not self.key.done():
                self.key.set_result(self._given)
        return b"".join(out)

    def _authenticate(self, payload: bytes) -> bytes:
        (code,) = unpack_from("!I", payload)
        if code == 0:
            return b""
        if code == 10 and PLAIN in (offered := decode_sasl_mechanisms(payload, 4, len(payload))):
            self._scram = ScramClient(self._access.credentials, offered, None)
            return encode_sasl_initial_response(self._scram.mechanism, self._scram.first())
        if code == 11 and self._scram is not None:
            return message(b"p", self._scram.final(payload[4:]))
        if code == 12 and self._scram is not None and self._scram.accepts(payload[4:]):
            return b""
        self.fail(EngineUnavailable("the engine wants another kind of login than SCRAM-SHA-256 for the proxy's role, or none"))
        return b""
