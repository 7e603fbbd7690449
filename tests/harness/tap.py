"""A TCP tap: forwards every byte between the proxy and the server and remembers it."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Self, cast

import uvloop

from tests.harness.waiting import PATIENCE


@dataclass
class Recording:
    """What one connection carried."""

    upstream: bytearray = field(default_factory=bytearray)
    downstream: bytearray = field(default_factory=bytearray)


class _End(asyncio.Protocol):
    """One end of a connection: what arrives is remembered, and handed to the other end as it is.

    A protocol of the loop, not a pair of streams with a task each: whatever the tests' proxies ask passes here.
    """

    def __init__(self, record: bytearray) -> None:
        self._record = record
        self._ended = False
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write to."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Remember it and hand it on."""
        self._record += data
        if (to := self._to()) is not None:
            to.write(data)

    def eof_received(self) -> bool:
        """Pass the end on: each direction closes by itself."""
        self._ended = True
        assert self.other is not None
        if self.other._ended:
            self.close()
            self.other.close()
        elif (to := self._to()) is not None:
            to.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end, once it has sent what it was given."""
        self.lost.set()
        assert self.other is not None
        self.other.close()

    def pause_writing(self) -> None:
        """Take nothing more that would be written here."""
        if (of := self._to()) is not None:
            of.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if (of := self._to()) is not None:
            of.resume_reading()

    def close(self) -> None:
        """Close this end, once it has sent what it was given."""
        if self.transport is not None:
            self.transport.close()

    def _to(self) -> asyncio.Transport | None:
        assert self.other is not None
        there = self.other.transport
        return None if there is None or there.is_closing() else there


class Tap:
    """Listens on a port of its own; an event loop in a thread, so that sync and async tests use it alike."""

    host = "127.0.0.1"
    # Sockets of all taps of this process. The proxies that talk through them are other processes, which connect when they like.
    sockets: ClassVar[set[socket.socket]] = set()

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self._recordings: list[Recording] = []
        self._loop = uvloop.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._ends: set[_End] = set()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="tap")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        self._loop.close()

    @classmethod
    def descriptors(cls) -> set[int]:
        """Return the numbers of the sockets of all taps of this process."""
        return {number for own in cls.sockets.copy() if (number := own.fileno()) >= 0}

    @property
    def connections(self) -> int:
        """How many connections were made since the last reset or are still recorded."""
        return len(self._recordings)

    def upstream(self) -> list[bytes]:
        """What went to the server, connection by connection: a value may not be searched across two of them."""
        return [bytes(r.upstream) for r in list(self._recordings)]

    def downstream(self) -> list[bytes]:
        """What came from the server, connection by connection."""
        return [bytes(r.downstream) for r in list(self._recordings)]

    def upstream_bytes(self) -> bytes:
        """All that went to the server."""
        return b"".join(self.upstream())

    def reset(self) -> None:
        """Forget what was recorded; living connections go on and are recorded from here."""
        done = threading.Event()

        def forget() -> None:
            for recording in self._recordings:
                recording.upstream.clear()
                recording.downstream.clear()
            done.set()

        self._loop.call_soon_threadsafe(forget)
        assert done.wait(PATIENCE)

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()  # that have begun

        async def serve(client: socket.socket) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._carry(client)
            except OSError:
                pass  # the server is down: the proxy sees the closed connection
            finally:
                tasks.discard(task)

        def accept() -> None:
            client, _ = listening.accept()
            Tap.sockets.add(client)
            self._loop.create_task(serve(client))  # is kept in tasks once it has begun

        # Not asyncio's server, which leaves a socket open that it has accepted just before it is closed.
        with socket.create_server((self.host, 0)) as listening:
            self.port = listening.getsockname()[1]
            self._loop.add_reader(listening, accept)
            self._ready.set()
            await self._stop.wait()
            self._loop.remove_reader(listening)
        await self._end(tasks)

    async def _end(self, serving: set[asyncio.Task[None]]) -> None:
        """Leave no task and no socket behind: what the loop does not close would be found in whichever test comes later."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in serving:  # one that has not begun yet would leave its socket
                task.cancel()
            await asyncio.wait(others, timeout=0.01)
        for end in self._ends:
            assert end.transport is not None
            end.transport.abort()  # also one that still has something to send
        for end in self._ends:
            await end.lost.wait()
        for _ in range(2):
            await asyncio.sleep(0)  # the loop closes their sockets
        Tap.sockets.difference_update([own for own in Tap.sockets.copy() if own.fileno() < 0])

    async def _carry(self, client: socket.socket) -> None:
        recording = Recording()
        self._recordings.append(recording)
        server = socket.socket()
        Tap.sockets.add(server)
        one, other = _End(recording.upstream), _End(recording.downstream)
        one.other, other.other = other, one
        try:
            for own in (client, server):
                own.setblocking(False)
            await self._loop.sock_connect(server, self.target)
            # The server's end first: it says nothing before the client does.
            for end, own in ((other, server), (one, client)):
                await self._loop.create_connection(lambda end=end: end, sock=own)  # type: ignore[misc]
                self._ends.add(end)
            if other.lost.is_set():
                one.close()
            for end in (one, other):
                await end.lost.wait()
                self._ends.discard(end)
        finally:
            for end, own in ((one, client), (other, server)):
                if end.transport is None:
                    own.close()
                end.close()
