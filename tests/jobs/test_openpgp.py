"""Messages that pgcrypto itself has made, under its options: some that are kept, and where a server has it, more."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import psycopg
import pytest

from phiproxy.jobs.openpgp import decrypt_symmetric
from tests.harness.server import PostgresServer

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "pgcrypto-v1.json").read_text())


@pytest.mark.parametrize("made", RECORDED["messages"], ids=lambda made: f"{made['options']} {made['text']} {made['times']}")
def test_as_pgcrypto_has_made_them(made: dict[str, str]) -> None:
    opens(base64.b64decode(made["message"]), RECORDED["passphrase"].encode(), made["text"] * int(made["times"]))


@pytest.mark.parametrize("value", ["", "a", "Käthe", "x" * 300, "long " * 20_000])
@pytest.mark.parametrize(
    "options",
    [
        "",
        "cipher-algo=aes256",
        "cipher-algo=aes192, s2k-digest-algo=sha256",
        "compress-algo=1",
        "compress-algo=2, sess-key=1",
        "s2k-mode=1",
        "s2k-mode=0",
    ],
)
def test_as_pgcrypto_makes_them(postgres_server: PostgresServer, pgcrypto: str, value: str, options: str) -> None:
    with postgres_server.connect(pgcrypto) as conn:
        (data,) = conn.execute("SELECT pgp_sym_encrypt(%s, 'pass', %s)", (value, options)).fetchall()[0]
    assert isinstance(data, bytes)
    opens(data, b"pass", value)


def opens(data: bytes, passphrase: bytes, value: str) -> None:
    """A message opens under its passphrase, and under no other one; nor when it was changed."""
    assert decrypt_symmetric(data, passphrase).decode() == value
    for wrong in (passphrase.title(), b""):
        with pytest.raises(ValueError, match="passphrase"):
            decrypt_symmetric(data, wrong)
    changed = bytearray(data)
    changed[-1] ^= 1
    with pytest.raises(ValueError, match="changed"):
        decrypt_symmetric(bytes(changed), passphrase)


@pytest.mark.parametrize("data", [b"", b"plain", b"\xc3\x04\x04\x07\x03", b"\xd2\x01\x01"])
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decrypt_symmetric(data, b"pass")


@pytest.fixture(scope="module")
def pgcrypto(postgres_server: PostgresServer) -> object:
    name = postgres_server.create_database()
    try:
        with postgres_server.connect(name) as conn:
            conn.execute("CREATE EXTENSION pgcrypto")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("this server has no pgcrypto")
    yield name
    postgres_server.drop_database(name)
