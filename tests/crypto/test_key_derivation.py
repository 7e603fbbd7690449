"""HKDF-Expand against RFC 5869 written out with hmac."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.key_derivation import expand, keyed


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(max_size=20), max_size=4))
def test_expand_is_one_block_of_the_rfc(secret: bytes, parts: list[bytes]) -> None:
    info = b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    assert expand(secret, *parts) == hmac.digest(secret, info + b"\x01", hashlib.sha256)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_256_bit_keys(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        expand(bytes(length), b"label")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_256_bit_keys_are_keyed(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        keyed(bytes(length))
