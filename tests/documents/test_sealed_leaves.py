"""A sealed value as a JSON string: one spelling each, with tags at offsets that do not depend on the value."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from phiproxy.crypto.envelope import build_header, frame
from phiproxy.documents.sealed_leaves import FIRST_TAG, TAG_LENGTH, envelope_of, leaf_of, looks_sealed
from phiproxy.errors import SealError

GOLDEN = (
    "phi1:f5500101020bbd624d000701c8c9cacbcccdcecfd0d1d2d3d4d5d6d7:AAECAwQFBgcICQoLDA0OD2RlZmdoaWprbG1ub975zCCNTQcDBKQqg-udtRMwanxpMHxB"
)
TAGS = bytes(range(16)) + bytes(range(16, 32))


def envelope(rest: bytes = b"s" * 16 + b"n" * 12 + b"c" * 20, tags: bytes = TAGS) -> bytes:
    return build_header(0xA1B2C3D4, 0x0102, tags, padded=False, field=True) + rest


def test_the_spelling() -> None:
    leaf = leaf_of(envelope(b"\xff" * 3))
    assert leaf == "phi1:f550010102a1b2c3d4010202" + TAGS.hex() + ":____"
    for number in range(2):
        begin = FIRST_TAG - 1 + TAG_LENGTH * number
        assert leaf[begin : begin + TAG_LENGTH] == TAGS[16 * number : 16 * (number + 1)].hex()


@given(st.binary(min_size=44, max_size=90), st.integers(0, 5))
def test_both_ways(rest: bytes, slots: int) -> None:
    stored = envelope(rest, b"t" * 16 * slots)
    assert envelope_of(leaf_of(stored)) == stored
    assert looks_sealed(leaf_of(stored))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        b"12",
        "",
        "phi1:",
        "phi2:" + leaf_of(envelope())[5:],
        leaf_of(envelope()).upper().replace("PHI1", "phi1"),
        leaf_of(envelope()) + "=",
        leaf_of(envelope()).replace(":", "", 1),
        leaf_of(envelope()).rpartition(":")[0],
        leaf_of(envelope())[:-1] + "!",
        leaf_of(envelope())[:20],
    ],
)
def test_anything_else_is_no_sealed_value(value: object) -> None:
    with pytest.raises(SealError):
        envelope_of(value)


def test_what_only_looks_like_a_text_of_another_kind() -> None:
    assert not looks_sealed("phi1: my favourite")
    assert not looks_sealed(b"5")


def test_a_leaf_of_the_first_version_opens_as_the_specification_says() -> None:
    """Step by step, without the code that seals: spec/stored-format 2.1, 2.5 and 4.3."""
    header = bytes.fromhex(GOLDEN.split(":")[1])
    rest = envelope_of(GOLDEN)[len(header) :]
    salt, nonce, sealed = rest[:16], rest[16:28], rest[28:]
    assert (header[:5].hex(), int.from_bytes(header[5:9]), int.from_bytes(header[9:11])) == ("f550010102", 0x0BBD624D, 7)
    assert GOLDEN[FIRST_TAG - 1 :][:TAG_LENGTH] == header[12:28].hex()
    info = frame(b"phi/record/v1", salt)
    record_key = HKDFExpand(SHA256(), 32, info).derive(bytes(range(32)))
    associated = frame(b"phi/aad/v1", header, b"clinic-prod", b"", b"c:public.charts.doc$.name.family", b"$.name.family")
    assert AESGCM(record_key).decrypt(nonce, sealed, associated).decode() == "Müller"
