"""One leg: reading is held as often as it is released, and what is written is never copied where it is long."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from typing import Any, cast

import pytest

from phiproxy.net.leg import BUFFER, LONG_WRITE, Leg, write_all
from phiproxy.wire.messages import message
from tests.harness.server import PostgresServer
from tests.net.peer import startup
from tests.net.serving import bare_settings, buffered, listener_of, serving


class Transport:
    """Counts what a leg asks of a transport; the fault that matters is a hold that is taken back once too often."""

    def __init__(self) -> None:
        self.reading = True
        self.limit = 0

    def set_write_buffer_limits(self, high: int) -> None:
        self.limit = high

    def is_closing(self) -> bool:
        return False

    def set_protocol(self, protocol: object) -> None:
        """Take note of nothing."""

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


def test_reading_goes_on_after_the_last_of_several_holds() -> None:
    leg, transport = Leg(), Transport()
    leg.connection_made(cast("Any", transport))
    assert transport.limit == BUFFER
    leg.hold()
    leg.hold()
    leg.release()
    assert not transport.reading
    leg.release()
    assert transport.reading


async def test_what_is_put_off_comes_in_pieces_with_a_turn_of_the_loop_between() -> None:
    leg, transport, taken = Leg(), Transport(), list[bytes]()
    leg.connection_made(cast("Any", transport))
    leg.deliver(taken.append)
    rest = bytes(range(256)) * 8 + b"end"
    leg.put_off(rest, 1024)
    assert not taken
    for pieces in (1, 2):
        await asyncio.sleep(0)
        assert len(taken) == pieces
        assert not transport.reading
    leg.hold()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(taken) == 2
    leg.release()
    await asyncio.sleep(0)
    assert b"".join(taken) == rest
    assert transport.reading


async def test_what_is_put_off_is_lost_with_the_socket() -> None:
    leg, transport, taken = Leg(), Transport(), list[bytes]()
    leg.connection_made(cast("Any", transport))
    leg.deliver(taken.append)
    leg.put_off(b"rest", 1024)
    leg.connection_lost(None)
    await asyncio.sleep(0)
    assert not taken


def test_who_does_not_read_holds_the_other_leg() -> None:
    client, server, transport = Leg(), Leg(), Transport()
    server.connection_made(cast("Any", transport))
    client.pause_writing()  # before there is a session
    client.peer = server
    client.pause_writing()
    assert not transport.reading
    client.resume_writing()
    assert transport.reading


def test_what_arrives_before_there_is_a_relay_waits() -> None:
    leg = Leg()
    leg.data_received(b"a")
    leg.data_received(b"b")
    assert leg.early == [b"a", b"b"]
    assert not leg.eof_received()


@pytest.mark.parametrize(
    ("sizes", "writes"),
    [
        ([1, 2, 3], [6]),
        ([LONG_WRITE], [LONG_WRITE]),
        ([1, 2, LONG_WRITE, 3, 4], [3, LONG_WRITE, 7]),
        ([BUFFER - 1, LONG_WRITE, BUFFER], [BUFFER - 1, LONG_WRITE, BUFFER]),
    ],
)
def test_long_parts_are_written_as_they_are_and_short_ones_together(sizes: list[int], writes: list[int]) -> None:
    out, written = [bytes([i]) * size for i, size in enumerate(sizes)], list[bytes]()
    assert write_all(written.append, out) is (sum(sizes) > LONG_WRITE)
    assert [len(part) for part in written] == writes
    assert b"".join(written) == b"".join(out)
    assert all(any(part is given for part in written) for given in out if len(given) >= BUFFER and sum(sizes) > LONG_WRITE)


async def test_what_was_written_is_let_go_of_piece_by_piece_once_it_is_through() -> None:
    leg, transport = Leg(), Transport()
    leg.connection_made(cast("Any", transport))
    leg.pause_writing()
    leg.let_go_of([bytes(LONG_WRITE // 2) for _ in range(5)])
    await asyncio.sleep(0)
    assert len(leg._written) == 5, "it is on its way"
    left = []
    leg.resume_writing()
    while leg._written:
        left.append(len(leg._written))
        await asyncio.sleep(0)
    assert left == [3, 1]


async def pushed(raw: socket.socket) -> None:
    """Write until the other end has taken nothing more for a second."""
    raw.setblocking(False)
    block, idle = b"y" * 32768, 0
    while idle < 50:
        try:
            raw.send(block)
            idle = 0
        except BlockingIOError:
            idle += 1
        await asyncio.sleep(0.02 if idle else 0)


@pytest.mark.parametrize("writer", ["client", "server"])
async def test_what_nobody_reads_is_not_held_in_the_kernel_either(postgres_server: PostgresServer, writer: str) -> None:
    """How far a client writes before it learns of an error in the middle of many rows must not be the proxy's doing."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        async with serving(bare_settings(postgres_server, upstream={"address": address})) as (proxy, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(startup("anybody"))
                backend, _ = await loop.sock_accept(server)
                with backend:
                    backend.setblocking(False)
                    assert await loop.sock_recv(backend, 1000) == startup("anybody")
                    backend.sendall(message(b"R", bytes(4)) + message(b"Z", b"I"))
                    client.setblocking(False)
                    assert len(await loop.sock_recv(client, 1000)) == 15
                    await pushed(client if writer == "client" else backend)
                    (relay,) = listener_of(proxy).relays
                    full = relay.server if writer == "client" else relay.client
                    assert full.transport is not None
                    queued = full.transport.get_extra_info("socket")
                    in_kernel = int.from_bytes(fcntl.ioctl(queued.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
                    assert 0 < in_kernel < 256 << 10  # 4 MiB where the system decides
                    assert buffered(proxy) < 512 << 10
