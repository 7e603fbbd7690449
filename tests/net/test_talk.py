"""Messages of a login, one by one: whatever the chunks, and what is left for the relay."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from phiproxy.errors import WireError
from phiproxy.net.relay import BUFFER, Side
from phiproxy.net.talk import Talk
from phiproxy.wire.messages import message


class Transport:
    """Remembers what was done with it."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.closed = self.aborted = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == BUFFER

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def side_of(transport: Transport) -> Side:
    """Return a side that is connected."""
    side = Side()
    side.connection_made(cast("Any", transport))
    return side


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_messages_in_chunks_and_the_rest_for_the_relay(size: int) -> None:
    side = side_of(Transport())
    side.data_received(b"p\0\0")  # before anybody listened
    talk = Talk(side, 100)
    stream = (message(b"p", b"one") + message(b"X", b"") + b"rest")[3:]
    for start in range(0, len(stream), size):
        side.data_received(stream[start : start + size])
    assert [await talk.message(), await talk.message()] == [(b"p", b"one"), (b"X", b"")]
    talk.end(b"unread")
    assert side.early == [b"unreadrest"]
    side.data_received(b"more")
    assert b"".join(side.early) == b"unreadrestmore"


async def test_a_message_is_awaited() -> None:
    side = side_of(Transport())
    talk = Talk(side, 100)
    waiting = asyncio.ensure_future(talk.message())
    await asyncio.sleep(0)
    side.data_received(message(b"p", b"late"))
    assert await asyncio.wait_for(waiting, 5) == (b"p", b"late")


@pytest.mark.parametrize("length", [0, 3, 101, 0xFFFFFFFF])
async def test_an_impossible_length(length: int) -> None:
    side = side_of(Transport())
    talk = Talk(side, 100)
    side.data_received(b"p" + length.to_bytes(4, "big"))
    with pytest.raises(WireError):
        await talk.message()


async def test_the_other_end_goes() -> None:
    transport = Transport()
    side = side_of(transport)
    talk = Talk(side, 100)
    talk.say(b"a", b"b")
    assert transport.written == b"ab"
    waiting = asyncio.ensure_future(talk.message())
    await asyncio.sleep(0)
    side.connection_lost(None)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(ConnectionError):
        talk.say(b"c")


async def test_closing_waits_until_it_is_closed() -> None:
    transport = Transport()
    side = side_of(transport)
    closing = asyncio.ensure_future(Talk(side, 100).close())
    await asyncio.sleep(0)
    assert transport.closed
    assert not closing.done()
    side.connection_lost(None)
    await asyncio.wait_for(closing, 5)
    side = side_of(transport)
    await Talk(side, 100).close(patience=0.01)
    assert transport.aborted


async def test_more_than_a_login_has_to_say_waits_in_the_kernel() -> None:
    transport = Transport()
    side = side_of(transport)
    talk = Talk(side, 100)
    side.data_received(b"x" * BUFFER)
    assert transport.reading
    side.data_received(b"x")
    assert not transport.reading
    talk.end()
    assert transport.reading
