"""Chunks in, messages out: any chunking gives the same spans, and a lying length is refused before it is awaited."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import WireError
from phiproxy.wire.framing import FrameBuffer
from phiproxy.wire.messages import message

MESSAGES = st.lists(st.tuples(st.sampled_from(b"PBDECSQXd"), st.binary(max_size=300)), max_size=20)


def taken(frames: FrameBuffer) -> list[bytes]:
    """Take every complete message."""
    found = []
    while (frame := frames.next()) is not None:
        _, start, end = frame
        found.append(frames.data[start:end])
        frames.advance(end)
    return found


@given(messages=MESSAGES, cuts=st.lists(st.integers(1, 40), max_size=200))
def test_any_chunking_gives_the_messages_of_one_chunk(messages: list[tuple[int, bytes]], cuts: list[int]) -> None:
    whole = [message(bytes((tag,)), payload) for tag, payload in messages]
    stream = b"".join(whole)
    frames, found, pos = FrameBuffer(), [], 0
    for cut in cuts:
        frames.feed(stream[pos : pos + cut])
        pos += cut
        found += taken(frames)
    frames.feed(stream[pos:])
    found += taken(frames)
    assert found == whole
    assert frames.pending == 0


def test_a_message_is_given_again_until_it_is_advanced_over() -> None:
    frames = FrameBuffer()
    frames.feed(message(b"Q", b"x\0"))
    assert frames.next() == frames.next() == (ord("Q"), 0, 7)


@pytest.mark.parametrize("length", [0, 3, 65, 2**31, 2**32 - 1])
def test_a_length_that_lies_is_refused_at_once(length: int) -> None:
    frames = FrameBuffer(max_message=64)
    frames.feed(b"Q" + struct.pack("!I", length))
    with pytest.raises(WireError):
        frames.next()


def test_pending_counts_what_came_for_a_message_that_is_not_whole() -> None:
    frames = FrameBuffer()
    body = message(b"d", bytes(1000))
    for i in range(0, 900, 100):
        frames.feed(body[i : i + 100])
        assert frames.next() is None
        assert frames.pending == i + 100
    frames.feed(body[900:])
    assert taken(frames) == [body]


@given(run=st.integers(0, 10), tail=st.binary(max_size=4))
def test_a_run_ends_where_the_tag_changes_or_the_bytes_end(run: int, tail: bytes) -> None:
    rows = b"".join(message(b"D", bytes(i)) for i in range(run))
    for rest in (message(b"C", b"x"), b"D" + tail):
        frames = FrameBuffer()
        frames.feed(rows + rest)
        assert frames.run_end(ord("D")) == len(rows)


def test_a_run_does_not_reach_over_a_length_that_lies() -> None:
    frames = FrameBuffer(max_message=100)
    good = message(b"D", b"12")
    frames.feed(good + b"D" + struct.pack("!I", 101) + bytes(200))
    assert frames.run_end(ord("D")) == len(good)
