"""Bytes to messages: every cut gives the same frames, and a length that lies is never waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.errors import WireError
from phiproxy.wire.framing import LONG, FrameBuffer
from phiproxy.wire.messages import message

frames = st.lists(st.builds(message, st.sampled_from([b"D", b"Q", b"Z"]), st.binary(max_size=50)), max_size=12)


def taken(buffer: FrameBuffer) -> list[bytes]:
    """Return the whole messages, consumed."""
    found = []
    while (frame := buffer.next()) is not None:
        tag, start, end = frame
        assert tag == buffer.data[start]
        found.append(buffer.data[start:end])
        buffer.advance(end)
    return found


@given(frames, st.lists(st.integers(1, 60), min_size=1))
def test_any_cutting_gives_the_same_messages(said: list[bytes], sizes: list[int]) -> None:
    buffer, got, data = FrameBuffer(), list[bytes](), b"".join(said)
    pos = 0
    while pos < len(data):
        for size in sizes:
            buffer.feed(data[pos : pos + size])
            pos += size
            got += taken(buffer)
    assert got == said
    assert buffer.pending == 0


@given(frames, st.binary(max_size=8))
def test_what_is_left_over_is_pending(said: list[bytes], rest: bytes) -> None:
    rest = b"Q\0\0\1\0" + rest
    buffer = FrameBuffer()
    buffer.feed(b"".join(said) + rest)
    assert taken(buffer) == said
    assert buffer.pending == len(rest)


def test_a_message_is_offered_until_it_is_consumed() -> None:
    buffer = FrameBuffer()
    buffer.feed(message(b"Q", b"x"))
    assert buffer.next() == buffer.next() == (ord("Q"), 0, 6)


def test_a_message_that_waits_is_still_there_after_more_has_come() -> None:
    buffer = FrameBuffer()
    buffer.feed(message(b"S", b"") + message(b"Q", b"first"))
    buffer.advance(5)
    for _ in range(3):
        assert buffer.next() is not None
        buffer.feed(message(b"Z", b""))
    assert taken(buffer) == [message(b"Q", b"first"), *[message(b"Z", b"")] * 3]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 101, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_lies_is_refused_before_any_of_it_is_awaited(length: int) -> None:
    buffer = FrameBuffer(max_message=100)
    buffer.feed(b"Q" + length.to_bytes(4, "big"))
    with pytest.raises(WireError) as caught:
        buffer.next()
    assert caught.value.sqlstate == "08P01"


def test_the_greatest_message_that_is_allowed_passes() -> None:
    buffer = FrameBuffer(max_message=100)
    buffer.feed(message(b"Q", b"x" * 96))
    assert taken(buffer) == [message(b"Q", b"x" * 96)]


def test_a_long_message_costs_its_length_not_its_square() -> None:
    """The bytes under way are joined when the message is whole, not at each chunk (measured by the joins that are seen)."""
    buffer = FrameBuffer()
    whole = message(b"D", b"x" * 1_000_000)
    joined = set()
    for pos in range(0, len(whole), 1000):
        buffer.feed(whole[pos : pos + 1000])
        frame = buffer.next()
        joined.add(len(buffer.data))
        assert buffer.pending == min(pos + 1000, len(whole))
    assert frame == (ord("D"), 0, len(whole))
    assert joined == {1000, len(whole)}


def test_what_follows_a_long_message_in_its_last_chunk_is_not_lost() -> None:
    buffer = FrameBuffer()
    whole = message(b"D", b"x" * 5000) + message(b"Z", b"I")
    for pos in range(0, len(whole), 700):
        buffer.feed(whole[pos : pos + 700])
        if pos + 700 < 5000:
            assert buffer.next() is None
    assert taken(buffer) == [message(b"D", b"x" * 5000), message(b"Z", b"I")]


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 12))
def test_a_run_ends_at_another_tag_or_at_an_incomplete_message(rows: list[bytes], cut: int) -> None:
    run = b"".join(message(b"D", row) for row in rows)
    buffer = FrameBuffer()
    buffer.feed(run + message(b"D", b"cut short")[:cut])
    assert buffer.run_end(ord("D")) == len(run)
    buffer.feed(b"")
    other = FrameBuffer()
    other.feed(run + message(b"C", b"") + run)
    assert other.run_end(ord("D")) == len(run)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 12))
def test_the_spans_of_a_run_are_its_messages(rows: list[bytes], cut: int) -> None:
    messages = [message(b"D", row) for row in rows]
    for behind in (message(b"D", b"cut short")[:cut], message(b"C", b""), b"D\0\0\0\3", b"D\0\0\1\0" + b"x" * 252):
        buffer = FrameBuffer(max_message=100)
        buffer.feed(b"".join(messages) + behind)
        assert [buffer.data[start:end] for start, end in buffer.run(ord("D"))] == messages


@pytest.mark.parametrize("lie", [b"D\0\0\0\3", b"D\0\0\1\0" + b"x" * 252])
def test_a_run_ends_before_a_length_that_lies(lie: bytes) -> None:
    buffer = FrameBuffer(max_message=100)
    good = message(b"D", b"row")
    buffer.feed(good + lie)
    assert buffer.run_end(ord("D")) == len(good)


@given(st.lists(st.binary(max_size=30)))
def test_garbage_is_messages_or_a_broken_protocol(chunks: list[bytes]) -> None:
    buffer = FrameBuffer(max_message=1000)
    fed = b"".join(chunks)
    got = b""
    try:
        for chunk in chunks:
            buffer.feed(chunk)
            got += b"".join(taken(buffer))
    except WireError:
        assert fed.startswith(got)
    else:
        assert got + fed[len(got) :] == fed
        assert buffer.pending == len(fed) - len(got)


def test_a_long_message_of_a_streaming_tag_passes_as_it_comes() -> None:
    buffer = FrameBuffer(max_message=100, streams=frozenset(b"D"))
    whole = message(b"D", b"x" * 300_000)
    buffer.feed(whole[:1000])
    assert buffer.next() is None
    assert buffer.begun() == (ord("D"), 0, 1000)
    buffer.stream(forwarded=True)
    assert (buffer.passing, buffer.pending, buffer.begun()) == (len(whole) - 1000, 0, None)
    assert buffer.passed(whole[1000:200_000]) == (whole[1000:200_000], b"")
    assert buffer.passed(whole[200_000:] + b"Z") == (whole[200_000:], b"Z")
    assert buffer.passing == 0


def test_a_message_that_is_dropped_leaves_what_comes_behind_it() -> None:
    buffer = FrameBuffer(streams=frozenset(b"d"))
    whole = message(b"d", b"x" * 100_000)
    buffer.feed(whole[:5])
    assert buffer.next() is None
    buffer.stream(forwarded=False)
    assert buffer.passed(whole[5:] + b"Z") == (b"", b"Z")


def test_a_message_that_must_be_whole_is_gathered_within_the_limit() -> None:
    buffer = FrameBuffer(max_message=200_000, streams=frozenset(b"D"))
    whole = message(b"D", b"x" * 150_000)
    buffer.feed(whole[:70_000])
    assert buffer.next() is None
    assert buffer.begun() is not None
    buffer.gather()
    assert buffer.begun() is None
    buffer.feed(whole[70_000:])
    assert taken(buffer) == [whole]
    buffer.feed(message(b"D", b"x" * 200_000)[:70_000])
    assert buffer.next() is None
    with pytest.raises(WireError):
        buffer.gather()


@pytest.mark.parametrize("length", [3, 0x40000000, 0x7FFFFFFF])
def test_no_message_is_longer_than_postgresql_makes_them(length: int) -> None:
    buffer = FrameBuffer(max_message=100, streams=frozenset(b"D"))
    buffer.feed(b"D" + length.to_bytes(4, "big") + b"x" * 500)
    with pytest.raises(WireError):
        buffer.next()


def test_a_short_message_of_a_streaming_tag_is_awaited() -> None:
    buffer = FrameBuffer(streams=frozenset(b"D"))
    whole = message(b"D", b"x" * 1000)
    buffer.feed(whole[:700])
    assert buffer.next() is None
    assert buffer.begun() is None
    buffer.feed(whole[700:])
    assert taken(buffer) == [whole]


def test_a_message_of_many_megabytes_is_put_together_by_whoever_can_and_what_comes_meanwhile_comes_behind_it() -> None:
    buffer = FrameBuffer()
    whole, behind = message(b"B", b"x" * LONG), [message(b"E", bytes(5)), message(b"S", b"")]
    buffer.feed(whole[:1000])
    assert buffer.next() is None
    assert not buffer.complete
    buffer.feed(whole[1000:] + behind[0][:3])
    assert buffer.complete
    joining = buffer.joining()
    assert buffer.is_joining
    assert not buffer.complete
    buffer.feed(behind[0][3:])
    assert buffer.next() is None
    assert buffer.pending == len(whole) + len(behind[0])
    buffer.joined(joining())
    assert not buffer.is_joining
    assert buffer.next() == (ord("B"), 0, len(whole))
    held = buffer.data
    buffer.feed(behind[1])
    assert buffer.data is held, "a long message was copied for what comes behind it"
    assert not buffer.holds_nothing
    assert taken(buffer) == [whole, *behind]
    assert buffer.holds_nothing
    assert buffer.pending == 0


def test_what_nobody_puts_together_is_put_together_when_it_is_asked_for() -> None:
    buffer = FrameBuffer()
    whole = message(b"B", b"x" * LONG)
    for piece in (whole[:1000], whole[1000:], message(b"S", b"")):
        buffer.feed(piece)
        buffer.next()
    assert taken(buffer) == [whole, message(b"S", b"")]


@given(frames, frames, st.integers(0, 400))
def test_messages_that_are_put_before_come_first(said: list[bytes], before: list[bytes], cut: int) -> None:
    buffer, data = FrameBuffer(), b"".join(said)
    buffer.feed(data[:cut])
    buffer.next()  # it may have seen the beginning of a message
    buffer.put_before(b"".join(before))
    assert taken(buffer)[: len(before)] == before
    buffer = FrameBuffer()
    buffer.feed(data[:cut])
    found = taken(buffer)
    buffer.put_before(b"".join(before))
    buffer.feed(data[cut:])
    assert found + taken(buffer) == [*said[: len(found)], *before, *said[len(found) :]]
