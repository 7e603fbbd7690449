"""A bare byte forwarder on uvloop, the limit for a proxy in Python: ``python -m benchmarks.forwarder PORT SERVER_PORT``."""

from __future__ import annotations

import asyncio
import sys

import uvloop


class Pipe(asyncio.Protocol):
    """One side of the forwarder."""

    def __init__(self) -> None:
        self.other: Pipe | None = None
        self.early: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def join(self, other: Pipe) -> None:
        """Take the other side, and give it what came before there was one."""
        self.other = other
        assert other.transport is not None
        for data in self.early:
            other.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on."""
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)  # type: ignore[union-attr]

    def pause_writing(self) -> None:
        """This side does not read fast enough: take nothing more from the other."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side has caught up."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Door(Pipe):
    """The client's side: connects to the server when it is made."""

    port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the server's side."""
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        _, there = await asyncio.get_running_loop().create_connection(Pipe, "127.0.0.1", self.port)
        there.join(self)
        self.join(there)


async def serve(port: int, server_port: int) -> None:
    """Forward, forever."""
    Door.port = server_port
    server = await asyncio.get_running_loop().create_server(Door, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
