"""The test server against what a real engine was recorded to answer: the same statuses, errors, fields and values."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.keys.providers.transit import Key
from tests.keys.providers.vault_server import VaultServer

RECORDED = Path(__file__).parents[2] / "vectors" / "vault-transit-exchanges.jsonl"
EXCHANGES: list[dict[str, Any]] = [json.loads(line) for line in RECORDED.read_text().splitlines()]
FRESH = {"ciphertext", "plaintext", "hmac", "keys"}


def exported(name: str) -> bytes:
    found = next(e for e in EXCHANGES if e["path"] == f"transit/export/encryption-key/{name}/1")
    return b64decode(found["response"]["data"]["keys"]["1"])


@pytest.fixture
def server() -> Iterator[VaultServer]:
    found = VaultServer()
    found.start()
    found.transit.keys["g"] = Key("g", exportable=True, versions={1: exported("g")})
    found.transit.keys["gd"] = Key("gd", derived=True, exportable=True, versions={1: exported("gd")})
    found.transit.keys |= {name: Key(name) for name in ("perf", "phid")}
    yield found
    found.stop()


def test_every_recorded_exchange_is_answered_alike(server: VaultServer) -> None:
    for exchange in EXCHANGES:
        token = "wrong" if exchange["status"] == 403 else "root"
        status, body = server.answer(exchange["method"], exchange["path"], token, exchange["request"] or {})
        recorded = exchange["response"]
        assert status == exchange["status"], exchange["path"]
        assert body is not None
        if "errors" in recorded:
            assert body == recorded
            continue
        assert set(body) == set(recorded)
        data, told = body["data"], recorded["data"]
        if told is None:
            assert data is None
            continue
        assert set(data) == set(told), exchange["path"]
        assert {k: v for k, v in data.items() if k not in FRESH} == {k: v for k, v in told.items() if k not in FRESH}
        if "keys" in told and exchange["method"] != "LIST":
            assert set(data["keys"]) == set(told["keys"])
        for name in ("ciphertext", "plaintext", "hmac"):
            assert len(data.get(name, "")) == len(told.get(name, ""))


def test_what_the_real_engine_sealed_opens_here(server: VaultServer) -> None:
    """The recorded data key of a derived key, and the recorded encryption with associated data."""
    exchange = next(e for e in EXCHANGES if e["path"] == "transit/datakey/plaintext/gd")
    told = exchange["response"]["data"]
    request = {"ciphertext": told["ciphertext"], "context": exchange["request"]["context"]}
    _, body = server.answer("POST", "transit/decrypt/gd", "root", request)
    assert body is not None
    assert body["data"]["plaintext"] == told["plaintext"]
    sealed = next(e for e in EXCHANGES if e["path"] == "transit/encrypt/g" and "associated_data" in e["request"])
    blob = b64decode(sealed["response"]["data"]["ciphertext"].split(":")[2])
    assert AESGCM(exported("g")).decrypt(blob[:12], blob[12:], b64decode(sealed["request"]["associated_data"])) == b64decode(
        sealed["request"]["plaintext"]
    )
