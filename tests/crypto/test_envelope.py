"""Framing, header, padding: what is written is read back, and nothing else is read."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.envelope import (
    OVERHEAD,
    build_header,
    frame,
    pad,
    unpad,
)
from phiproxy.errors import SealError
from tests.crypto.envelopes import parse_envelope

parts = st.lists(st.binary(max_size=12), max_size=5).map(tuple)


@given(parts, parts)
def test_no_two_tuples_frame_equally(left: tuple[bytes, ...], right: tuple[bytes, ...]) -> None:
    assert (frame(*left) == frame(*right)) == (left == right)


@given(parts)
def test_a_frame_reads_back(given_parts: tuple[bytes, ...]) -> None:
    data, found = frame(*given_parts), []
    while data:
        length = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    assert tuple(found) == given_parts


def test_one_part_still_carries_its_length() -> None:
    assert frame(b"ab") == b"\x00\x00\x00\x02ab"
    assert frame(frame(b"ab")) != frame(b"ab")
    assert frame() != frame(b"")


@pytest.mark.parametrize("part", ["text", bytearray(b"x"), memoryview(b"x"), 1, None])
def test_frame_takes_bytes_only(part: object) -> None:
    with pytest.raises(TypeError, match="bytes only"):
        frame(b"a", cast("Any", part))


@given(
    st.integers(1, 2**32 - 1),
    st.integers(1, 65535),
    st.lists(st.binary(min_size=16, max_size=16), max_size=255),
    st.booleans(),
    st.binary(min_size=1, max_size=40),
)
def test_an_envelope_reads_back(key_id: int, number: int, slots: list[bytes], padded: bool, ciphertext: bytes) -> None:
    header = build_header(key_id, number, b"".join(slots), padded=padded)
    assert len(header) == 12 + 16 * len(slots)
    salt, nonce, sealed = b"s" * 16, b"n" * 12, ciphertext + b"t" * 16
    found = parse_envelope(header + salt + nonce + sealed, number)
    assert (found.key_id, found.number, found.padded, found.slots) == (key_id, number, padded, tuple(slots))
    assert (found.header, found.salt, found.nonce, found.sealed) == (header, salt, nonce, sealed)


@given(st.binary(max_size=400))
def test_garbage_is_refused_or_whole(data: bytes) -> None:
    try:
        found = parse_envelope(data)
    except SealError:
        return
    assert found.header + found.salt + found.nonce + found.sealed == data


def _shortest(*, key_id: int = 7, number: int = 9, padded: bool = False, k: int = 0) -> bytes:
    return build_header(key_id, number, bytes(16 * k), padded=padded) + bytes(44 + padded)


def test_the_shortest_envelopes() -> None:
    assert len(_shortest()) == OVERHEAD
    for k in (0, 1, 3, 255):
        for padded in (False, True):
            whole = _shortest(k=k, padded=padded)
            parse_envelope(whole)
            with pytest.raises(SealError):
                parse_envelope(whole[:-1])


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, 0x5C, "not an envelope"),
        (1, 0x51, "not an envelope"),
        (2, 0, "version, suite or flag"),
        (2, 2, "version, suite or flag"),
        (3, 0, "version, suite or flag"),
        (3, 2, "version, suite or flag"),
        *((4, 1 << bit, "version, suite or flag") for bit in range(1, 8)),
        (8, 0, "well-formed"),
        (10, 0, "well-formed"),
        (11, 1, "well-formed"),
    ],
)
def test_every_reserved_value_is_refused(offset: int, value: int, reason: str) -> None:
    data = bytearray(_shortest())
    data[offset] = value
    with pytest.raises(SealError, match=reason):
        parse_envelope(bytes(data))


def test_another_columns_value_is_refused() -> None:
    with pytest.raises(SealError, match="another column") as caught:
        parse_envelope(_shortest(number=9), 10)
    assert caught.value.sqlstate == "XX001"


@pytest.mark.parametrize(
    ("key_id", "number", "slots"),
    [(0, 1, b""), (2**32, 1, b""), (1, 0, b""), (1, 65536, b""), (1, 1, b"x" * 15), (1, 1, b"x" * 17), (1, 1, b"x" * 16 * 256)],
)
def test_no_header_outside_the_format_is_built(key_id: int, number: int, slots: bytes) -> None:
    with pytest.raises(ValueError, match=r"range|16 bytes"):
        build_header(key_id, number, slots, padded=False)


@given(st.binary(max_size=80), st.integers(2, 70))
def test_padding_round_trips_and_hides_the_length(plaintext: bytes, multiple: int) -> None:
    padded = pad(plaintext, multiple)
    assert len(padded) % multiple == 0
    assert len(plaintext) < len(padded) <= len(plaintext) + multiple
    assert unpad(padded) == plaintext


def test_padding_as_in_the_standard() -> None:
    assert pad(b"", 4) == b"\x80\x00\x00\x00"
    assert pad(b"abc", 4) == b"abc\x80"
    assert pad(b"abcd", 4) == b"abcd\x80\x00\x00\x00"
    assert unpad(b"a\x80\x00\x80\x00") == b"a\x80\x00"


@pytest.mark.parametrize("data", [b"", b"\x00\x00", b"abc", b"abc\x00", b"abc\x81\x00"])
def test_wrong_padding_is_refused(data: bytes) -> None:
    with pytest.raises(SealError, match="padding"):
        unpad(data)
