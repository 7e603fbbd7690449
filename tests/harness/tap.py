"""A TCP tap: forwards every byte between the proxy and the server and remembers it."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Recording:
    """What one connection carried."""

    upstream: bytearray = field(default_factory=bytearray)
    downstream: bytearray = field(default_factory=bytearray)


class Tap:
    """Listens on a port of its own; an event loop in a thread, so that sync and async tests use it alike."""

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self._recordings: list[Recording] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="tap")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

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
        done.wait(10)

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await self._carry(reader, writer)
            except OSError:
                pass  # the server is down: the proxy sees the closed connection
            except asyncio.CancelledError:
                pass  # the tap is closing; asyncio.streams would log a cancelled handler
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(accept, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        pending = list(tasks)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recording = Recording()
        self._recordings.append(recording)
        server_reader, server_writer = await asyncio.open_connection(*self.target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, server_writer, recording.upstream))
                group.create_task(_pump(server_reader, writer, recording.downstream))
        finally:
            server_writer.close()


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
