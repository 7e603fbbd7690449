"""One of the two connections of a session: what arrives is handed on, what is to be written is written, and reading can be held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

# asyncpg's own tests notice larger ones: a client that stops reading must stop the server soon (spec/protocol 11).
BUFFER = 64 * 1024
# What is longer is not put together before it is written.
LONG_WRITE = 1024 * 1024


class Receiver(Protocol):
    """Who takes what a leg receives: a relay, or before that the login."""

    def received(self, leg: Leg, data: bytes) -> None:
        """Take bytes."""

    def said_all(self, leg: Leg) -> bool:
        """Take note that the other end says no more; True when it still listens."""

    def lost(self, leg: Leg) -> None:
        """Take note that the socket is gone."""


class Leg(asyncio.Protocol):
    """One of the two connections of a session, as a protocol of asyncio; before ``relay`` is set it only buffers."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.relay: Receiver | None = None
        self.peer: Leg | None = None
        self.early: list[bytes] = []
        self.lost = False
        self._holds = 0
        self._rest, self._piece = memoryview(b""), 0
        self._drained: asyncio.Event | None = None
        # Long parts that were written, until they are through.
        self._written: list[bytes] = []

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
        self._take_more()
        if self.relay is not None:
            self.relay.lost(self)

    @property
    def encrypted(self) -> bool:
        """Tell whether it has TLS, which cannot be closed one half at a time."""
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None

    def pause_writing(self) -> None:
        """This leg does not read fast enough: stop taking from the other one."""
        if self.peer is not None:
            self.peer.hold()
        self._drained = asyncio.Event()

    def resume_writing(self) -> None:
        """This leg has caught up."""
        if self.peer is not None:
            self.peer.release()
        self._take_more()

    async def drained(self) -> None:
        """Wait while this leg does not read fast enough."""
        if self._drained is not None:
            await self._drained.wait()

    def _take_more(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set()
        if self._written:
            self._let_go()

    def let_go_of(self, parts: list[bytes]) -> None:
        """Let go of what was written, once it is through, in pieces: where it ends at once, all others wait for that."""
        is_first = not self._written
        self._written += parts
        if is_first:
            asyncio.get_running_loop().call_soon(self._let_go)

    def _let_go(self) -> None:
        if self._drained is not None and not self.lost:
            return  # whoever takes more goes on
        size = 0
        while self._written and size < LONG_WRITE:
            size += len(self._written.pop())
        if self._written:
            asyncio.get_running_loop().call_soon(self._let_go)

    def hold(self) -> None:
        """Stop reading, once more."""
        self._holds += 1
        if self._holds == 1 and not self._rest and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def release(self) -> None:
        """Take back one hold; read again after the last, or first hand over what was put off."""
        self._holds -= 1
        if self._holds:
            return
        if self._rest:
            self._in_next_turn()
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def put_off(self, rest: bytes, piece: int) -> None:
        """Hand over the rest of what arrived in pieces of this size, one in each turn of the loop: others have theirs between.

        Until then nothing more is read, and while reading is held nothing is handed over.
        """
        self.hold()
        self._rest, self._piece = memoryview(rest), piece
        self.release()

    def _in_next_turn(self) -> None:
        asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if self._holds or not self._rest or self.lost or self.transport is None or self.transport.is_closing():
            return  # whoever holds it releases it
        piece, self._rest = bytes(self._rest[: self._piece]), self._rest[self._piece :]
        self._holds += 1  # without a pause: it is not reading
        self.data_received(piece)
        self.release()


def write_all(write: Callable[[bytes], None], out: list[bytes]) -> bool:
    """Write in one piece what is written at once, but for long parts, which would be copied for that; tell whether it was long."""
    size = sum(map(len, out))
    if size <= LONG_WRITE:
        write(b"".join(out))
        return False
    small: list[bytes] = []
    for part in out:
        if len(part) < BUFFER:
            small.append(part)
            continue
        if small:
            write(b"".join(small))
            small = []
        write(part)
    if small:
        write(b"".join(small))
    return True
