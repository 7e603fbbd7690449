"""AES-256-GCM in pieces gives the bytes of AESGCM's one call, and nothing at all where the tag is wrong."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.gcm_in_pieces import decrypt, encrypt

KEY, NONCE = bytes(range(32)), bytes(range(12))


def pieces(value: bytes, size: int) -> list[bytes]:
    return [value[i : i + size] for i in range(0, len(value), size)]


@given(st.integers(1, 70), st.integers(0, 5), st.integers(-2, 2), st.binary(max_size=40), st.randoms())
def test_any_cutting_gives_what_one_call_gives(size: int, count: int, more: int, associated: bytes, random: object) -> None:
    value = random.randbytes(max(0, size * count + more))  # type: ignore[attr-defined]
    whole = AESGCM(KEY).encrypt(NONCE, value, associated)
    assert b"".join(encrypt(KEY, NONCE, pieces(value, size), associated)) == whole
    sealed, tag = whole[:-16], whole[-16:]
    assert b"".join(decrypt(KEY, NONCE, pieces(sealed, size), tag, associated)) == value


@given(st.binary(min_size=1, max_size=200), st.integers(1, 70), st.data())
def test_a_bit_that_is_wrong_anywhere_shows_nothing(value: bytes, size: int, data: st.DataObject) -> None:
    whole = bytearray(AESGCM(KEY).encrypt(NONCE, value, b"of it"))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidTag):
        decrypt(KEY, NONCE, pieces(bytes(whole[:-16]), size), bytes(whole[-16:]), b"of it")
    with pytest.raises(InvalidTag):
        decrypt(KEY, NONCE, [], bytes(whole[-16:]), b"of it")


def test_what_a_value_is_bound_to_counts() -> None:
    whole = AESGCM(KEY).encrypt(NONCE, b"a secret", b"column 1")
    with pytest.raises(InvalidTag):
        decrypt(KEY, NONCE, [whole[:-16]], whole[-16:], b"column 2")
