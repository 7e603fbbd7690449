"""A TCP tap: forwards every byte between the proxy and the server and remembers it."""

from __future__ import annotations

import asyncio
import socket
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import ClassVar, Self

from tests.harness.waiting import PATIENCE


@dataclass
class Recording:
    """What one connection carried."""

    upstream: bytearray = field(default_factory=bytearray)
    downstream: bytearray = field(default_factory=bytearray)


class Tap:
    """Listens on a port of its own; an event loop in a thread, so that sync and async tests use it alike."""

    host = "127.0.0.1"
    # Sockets of all taps of this process. The proxies that talk through them are other processes, which connect when they like.
    sockets: ClassVar[set[socket.socket]] = set()

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self._recordings: list[Recording] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._transports: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
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
        for transport in self._transports:
            transport.abort()  # also one that still has something to send
        for _ in range(2):
            await asyncio.sleep(0)  # the loop closes their sockets
        Tap.sockets.difference_update([own for own in Tap.sockets.copy() if own.fileno() < 0])

    async def _carry(self, client: socket.socket) -> None:
        async with self._open(client) as (reader, writer):
            recording = Recording()
            self._recordings.append(recording)
            server = socket.socket()
            Tap.sockets.add(server)
            async with self._open(server, self.target) as (server_reader, server_writer), asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, server_writer, recording.upstream))
                group.create_task(_pump(server_reader, writer, recording.downstream))

    @asynccontextmanager
    async def _open(
        self, own: socket.socket, target: tuple[str, int] | None = None
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        own.setblocking(False)
        try:
            if target is not None:
                await self._loop.sock_connect(own, target)
            reader, writer = await asyncio.open_connection(sock=own)
        except BaseException:
            own.close()
            raise
        self._transports.add(writer.transport)
        try:
            yield reader, writer
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray) -> None:
    """Forward until the end, then pass the end on: each direction closes by itself."""
    try:
        while data := await reader.read(65536):
            record += data
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()
