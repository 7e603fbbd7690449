"""Tags are what the specification says, and differ wherever anything that names them differs."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.blind_tags import ZERO_TAG, derive_index_key, make_tag, make_tagger, make_tags
from phiproxy.crypto.key_derivation import keyed
from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import IndexKeyWant, KeyNeeded

ROOT = bytes(range(32))


def ring() -> Keyring:
    ring = Keyring(lambda: 0.0)
    ring.put_index_key(3, 0, b"k" * 32, 1, 10)
    return ring


@given(st.binary(max_size=60), st.integers(1, 255))
def test_a_tag_is_generation_and_120_bits(form: bytes, generation: int) -> None:
    message = b"\x00\x00\x00\x0aphi/tag/v1" + len(form).to_bytes(4, "big") + form
    expected = bytes([generation]) + hmac.digest(b"k" * 32, message, hashlib.sha256)[:15]
    tag = make_tagger(3, 0, generation, ring())
    assert tag(form) == expected
    assert tag(form) == expected, "tagging leaves the key as it was"
    assert tag(form) != ZERO_TAG


@given(st.lists(st.binary(max_size=600), max_size=5), st.integers(1, 255), st.integers(0, 1))
def test_many_are_tagged_as_each_is(forms: list[bytes], generation: int, position: int) -> None:
    macs = [keyed(bytes([n]) * 32) for n in range(2)]
    tag = make_tag(generation, position)
    assert make_tags(generation, position)(forms, macs) == [tag(form, macs) for form in forms]


def test_null_is_sixteen_zero_bytes() -> None:
    assert make_tagger(3, 0, 1, ring())(None) == ZERO_TAG == bytes(16)
    assert make_tagger(3, 0, 1, ring())(b"") != ZERO_TAG


def test_the_key_is_asked_for_at_each_value() -> None:
    keys = ring()
    tag = make_tagger(3, 0, 1, keys)
    tag(b"x")
    keys.clear()
    with pytest.raises(KeyNeeded) as caught:
        tag(b"x")
    assert caught.value.wants == {IndexKeyWant(3, 0)}


@pytest.mark.parametrize("generation", [0, 256, -1])
def test_generation_zero_is_refused(generation: int) -> None:
    with pytest.raises(ValueError, match="generation"):
        make_tagger(3, 0, generation, ring())
    with pytest.raises(ValueError, match="generation"):
        make_tags(generation)


def test_index_keys_differ_by_everything_that_names_them() -> None:
    keys = {
        derive_index_key(ROOT, "d:mrn", "@", 1),
        derive_index_key(ROOT, "d:mrn", "@", 2),
        derive_index_key(ROOT, "d:mrn", "lower(@)", 1),
        derive_index_key(ROOT, "d:mr", "n@", 1),
        derive_index_key(b"\xff" * 32, "d:mrn", "@", 1),
    }
    assert len(keys) == 5
    for version in (0, 256):
        with pytest.raises(ValueError, match="normaliser"):
            derive_index_key(ROOT, "d:mrn", "@", version)
