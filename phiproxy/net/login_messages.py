"""Typed messages of one leg while there is no relay yet: the few of a login, awaited one by one."""

import asyncio
import struct

from phiproxy.errors import WireError
from phiproxy.net.leg import BUFFER, Leg

_HEADER = struct.Struct("!BI")


class LoginMessages:
    """Takes a leg's bytes until ``end`` gives them back. ConnectionError when the other end is gone."""

    def __init__(self, leg: Leg, max_message: int) -> None:
        self._leg = leg
        self._max_message = max_message
        self._buffer = b"".join(leg.early)
        self._news = asyncio.Event()
        self._held = False
        leg.early = []
        leg.relay = self

    def received(self, leg: Leg, data: bytes) -> None:
        """Keep what arrived; more than a login has to say waits in the kernel."""
        self._buffer += data
        if len(self._buffer) > BUFFER and not self._held:
            self._held = True
            leg.hold()
        self._news.set()

    def said_all(self, _leg: Leg) -> bool:
        """Who says no more does not log in."""
        return False

    def lost(self, _leg: Leg) -> None:
        """Nothing more comes."""
        self._news.set()

    def say(self, *messages: bytes) -> None:
        """Send messages in one write."""
        transport = self._leg.transport
        if transport is None or self._leg.lost or transport.is_closing():
            raise ConnectionResetError("the other end is gone")
        transport.write(b"".join(messages))

    async def next(self) -> tuple[bytes, bytes]:
        """Return the next message: tag and payload. WireError when its length cannot be that of one."""
        while True:
            size = self._whole()
            if size:
                frame, self._buffer = self._buffer[:size], self._buffer[size:]
                return frame[:1], frame[_HEADER.size :]
            if self._leg.lost:
                raise ConnectionResetError("the other end is gone")
            self._news.clear()
            await self._news.wait()

    def _whole(self) -> int:
        """Return the size of the first message with its header, 0 while it is incomplete."""
        if len(self._buffer) < _HEADER.size:
            return 0
        _, length = _HEADER.unpack_from(self._buffer)
        if not 4 <= length <= self._max_message:
            raise WireError("a message of the login has an impossible length")
        return int(length + 1) if len(self._buffer) > length else 0

    async def close(self, patience: float = 1.0) -> None:
        """Close the leg and wait until it is closed, for TLS says goodbye first."""
        transport = self._leg.transport
        if transport is None or self._leg.lost:
            return
        transport.close()
        try:
            async with asyncio.timeout(patience):
                while not self._leg.lost:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            transport.abort()

    def end(self, unread: bytes = b"") -> None:
        """Leave the leg to the relay, with ``unread`` before what was not taken."""
        rest = unread + self._buffer
        self._buffer = b""
        self._leg.early = [rest] if rest else []
        self._leg.relay = None
        if self._held:
            self._leg.release()
