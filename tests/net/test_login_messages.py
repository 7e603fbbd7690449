"""Messages of a login, one by one: whatever the chunks, and what is left for the relay."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from phiproxy.errors import WireError
from phiproxy.net.leg import BUFFER, Leg
from phiproxy.net.login_messages import LoginMessages
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


def leg_of(transport: Transport) -> Leg:
    """Return a leg that is connected."""
    leg = Leg()
    leg.connection_made(cast("Any", transport))
    return leg


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_messages_in_chunks_and_the_rest_for_the_relay(size: int) -> None:
    leg = leg_of(Transport())
    leg.data_received(b"p\0\0")  # before anybody listened
    messages = LoginMessages(leg, 100)
    stream = (message(b"p", b"one") + message(b"X", b"") + b"rest")[3:]
    for start in range(0, len(stream), size):
        leg.data_received(stream[start : start + size])
    assert [await messages.next(), await messages.next()] == [(b"p", b"one"), (b"X", b"")]
    messages.end(b"unread")
    assert leg.early == [b"unreadrest"]
    leg.data_received(b"more")
    assert b"".join(leg.early) == b"unreadrestmore"


async def test_a_message_is_awaited() -> None:
    leg = leg_of(Transport())
    messages = LoginMessages(leg, 100)
    waiting = asyncio.ensure_future(messages.next())
    await asyncio.sleep(0)
    leg.data_received(message(b"p", b"late"))
    assert await asyncio.wait_for(waiting, 60) == (b"p", b"late")


@pytest.mark.parametrize("length", [0, 3, 101, 0xFFFFFFFF])
async def test_an_impossible_length(length: int) -> None:
    leg = leg_of(Transport())
    messages = LoginMessages(leg, 100)
    leg.data_received(b"p" + length.to_bytes(4, "big"))
    with pytest.raises(WireError):
        await messages.next()


async def test_the_other_end_goes() -> None:
    transport = Transport()
    leg = leg_of(transport)
    messages = LoginMessages(leg, 100)
    messages.say(b"a", b"b")
    assert transport.written == b"ab"
    waiting = asyncio.ensure_future(messages.next())
    await asyncio.sleep(0)
    leg.connection_lost(None)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(waiting, 60)
    with pytest.raises(ConnectionError):
        messages.say(b"c")


async def test_closing_waits_until_it_is_closed() -> None:
    transport = Transport()
    leg = leg_of(transport)
    closing = asyncio.ensure_future(LoginMessages(leg, 100).close())
    await asyncio.sleep(0)
    assert transport.closed
    assert not closing.done()
    leg.connection_lost(None)
    await asyncio.wait_for(closing, 60)
    leg = leg_of(transport)
    await LoginMessages(leg, 100).close(patience=0.01)
    assert transport.aborted


async def test_more_than_a_login_has_to_say_waits_in_the_kernel() -> None:
    transport = Transport()
    leg = leg_of(transport)
    messages = LoginMessages(leg, 100)
    leg.data_received(b"x" * BUFFER)
    assert transport.reading
    leg.data_received(b"x")
    assert not transport.reading
    messages.end()
    assert transport.reading
