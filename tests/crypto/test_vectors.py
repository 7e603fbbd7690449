"""Golden vectors: what version 1 stored yesterday opens and matches for ever. The files are never regenerated.

``reference`` below is written from the specification with hashlib, hmac and AESGCM only; it shares no line with the
package.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.crypto.blind_tags import derive_index_key, make_tagger
from phiproxy.crypto.envelope import frame
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, Record, make_opener, make_sealer
from tests.crypto.envelopes import parse_envelope

VECTORS = Path(__file__).parent.parent / "vectors"
ENVELOPES = json.loads((VECTORS / "envelope-v1.json").read_text())["envelopes"]
TAGS = json.loads((VECTORS / "tag-v1.json").read_text())["tags"]


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(p).to_bytes(4, "big") + p for p in parts)


def _hkdf_expand(key: bytes, info: bytes) -> bytes:
    return hmac.digest(key, info + b"\x01", hashlib.sha256)


def reference_envelope(v: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return (envelope, AAD)."""
    slots = [bytes.fromhex(s) for s in v["slots"]]
    plaintext = v["plaintext"].encode()
    if v["pad"]:
        plaintext += b"\x80"
        while len(plaintext) % v["pad"]:
            plaintext += b"\x00"
    header = bytes.fromhex("f5500101") + (b"\x01" if v["pad"] else b"\x00")
    header += v["key_id"].to_bytes(4, "big") + v["number"].to_bytes(2, "big")
    header += bytes([len(slots)]) + b"".join(slots)
    salt, nonce = bytes.fromhex(v["salt"]), bytes.fromhex(v["nonce"])
    associated = _framed(b"phi/aad/v1", header, v["deployment"].encode(), v["tenant"].encode(), v["identity"].encode())
    record_key = _hkdf_expand(bytes.fromhex(v["data_key"]), _framed(b"phi/record/v1", salt))
    return header + salt + nonce + AESGCM(record_key).encrypt(nonce, plaintext, associated), associated


def reference_tag(v: dict[str, Any]) -> bytes:
    """Return the tag."""
    info = _framed(b"phi/index/v1", v["identity"].encode(), v["expression"].encode(), bytes([v["normaliser"]]))
    key = _hkdf_expand(bytes.fromhex(v["index_root"]), info)
    mac = hmac.digest(key, _framed(b"phi/tag/v1", v["equality_form"].encode()), hashlib.sha256)
    return bytes([v["generation"]]) + mac[:15]


@pytest.mark.parametrize("v", ENVELOPES, ids=[v["name"] for v in ENVELOPES])
def test_an_envelope_of_version_1(v: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stored, associated = bytes.fromhex(v["envelope"]), bytes.fromhex(v["aad"])
    assert reference_envelope(v) == (stored, associated)
    found = parse_envelope(stored)
    bound = (v[name].encode() for name in ("deployment", "tenant", "identity"))
    assert frame(b"phi/aad/v1", found.header, *bound) == associated

    key = DataKey(v["key_id"], "t:x", v["tenant"], 1, bytes.fromhex(v["data_key"]), "active")
    ring = Keyring(lambda: 0.0)
    ring.put_data_key(key, 1)
    spec = ColumnSpec(v["deployment"], v["tenant"], v["identity"], v["number"], v["pad"])
    assert make_opener(spec, ring, OpenMemo())(stored) == v["plaintext"].encode()

    monkeypatch.setattr("phiproxy.crypto.seal.os.urandom", lambda n: bytes.fromhex(v["nonce"])[:n])
    seal = make_sealer(spec)
    slots = bytes.fromhex("".join(v["slots"]))
    assert seal(v["plaintext"].encode(), Record(key, bytes.fromhex(v["salt"])), slots) == stored


def test_the_envelopes_are_the_required_ones() -> None:
    assert [len(v["slots"]) for v in ENVELOPES] == [0, 1, 3, 1]
    assert [v["pad"] for v in ENVELOPES] == [None, None, None, 64]


@pytest.mark.parametrize("v", TAGS, ids=[v["name"] for v in TAGS])
def test_a_tag_of_version_1(v: dict[str, Any]) -> None:
    assert reference_tag(v).hex() == v["tag"]
    ring = Keyring(lambda: 0.0)
    root = bytes.fromhex(v["index_root"])
    ring.put_index_key(1, 0, derive_index_key(root, v["identity"], v["expression"], v["normaliser"]), 1, 1)
    assert make_tagger(1, 0, v["generation"], ring)(v["equality_form"].encode()).hex() == v["tag"]


def test_the_released_files_are_untouched() -> None:
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in VECTORS.glob("*-v1.json")}
    assert digests["envelope-v1.json"] == "9568c2b816425ae9959b0097612096ff4e9b9d40e7a84a2553f0062d46a1e945"
    assert digests["tag-v1.json"] == "88fcc747a70bea0334ac0171955e8761220476c3dea2b13801ffa1a48c9e467f"
    assert digests["index-v1.json"] == "49068acc1a160419787d51095d9e44a59e9ff7e97ab4a13bbbc8265425f9e1e4"
    assert digests["index-paths-v1.json"] == "96f141e1e115913f85721fed7c51d0676c2ce0b3306e965472aadba544dc0e79"
