"""A client that speaks the protocol by hand, so that a test may say what no driver would."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

SSL = struct.pack("!II", 8, 80877103)
GSSENC = struct.pack("!II", 8, 80877104)


def startup(user: str, database: str | None = None, others: Mapping[str, str] | None = None, *, version: int = 0x30000) -> bytes:
    """Return a StartupMessage."""
    named = {"user": user, **({"database": database} if database is not None else {}), **(others or {})}
    body = struct.pack("!I", version) + b"".join(f"{k}\0{v}\0".encode() for k, v in named.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def cancel_request(pid: int, key: bytes) -> bytes:
    """Return a CancelRequest."""
    return struct.pack("!III", 12 + len(key), 80877102, pid) + key


@dataclass
class Peer:
    """One connection. ``async with await Peer.open(port) as peer``."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        """Connect; ``tls`` begins with TLS at once, without SSLRequest."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls is not None else None
        )
        return cls(reader, writer)

    def say(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)

    async def byte(self) -> bytes:
        """Read the one byte that answers SSLRequest and GSSENCRequest."""
        async with asyncio.timeout(120):
            return await self.reader.readexactly(1)

    async def message(self) -> tuple[str, bytes]:
        """Read one typed message: its tag and its payload."""
        async with asyncio.timeout(120):
            head = await self.reader.readexactly(5)
            return chr(head[0]), await self.reader.readexactly(int.from_bytes(head[1:], "big") - 4)

    async def rest(self, within: float = 120) -> bytes:
        """Read to the end: what still came before the proxy closed; TimeoutError when it did not close."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read()
        except ConnectionError:  # closed with something unread behind it: a reset
            return b""

    async def error(self) -> dict[str, str]:
        """Read messages up to an ErrorResponse and return its fields."""
        while True:
            tag, payload = await self.message()
            if tag == "E":
                return fields(payload)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """Serve connections with ``handler``, close each after it; yields the port. At the end waits for those still served."""
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            served.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)
        if served:
            await asyncio.wait(served, timeout=120)


@asynccontextmanager
async def silent_server(first: bytes = b"") -> AsyncIterator[int]:
    """Listen and answer whatever comes with ``first``, once, and then say nothing until the other leg goes; yields the port."""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(4096):
            writer.write(first)
        while await reader.read(1 << 20):
            pass

    async with listening(keep) as port:
        yield port


def fields(payload: bytes) -> dict[str, str]:
    """Return the fields of an ErrorResponse by their letters."""
    return {part[:1].decode(): part[1:].decode() for part in payload.split(b"\0") if part}
