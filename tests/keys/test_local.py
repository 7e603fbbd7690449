"""The local provider.

Wraps are bound to context and version; a sealed file needs its passphrase and nothing else opens it.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from pathlib import Path

import pytest
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.errors import ConfigError, ProviderDenied, ProviderMisconfigured
from phiproxy.keys.local import LocalProvider, add_kek, create_kek_file
from phiproxy.keys.provider import Context

CONTEXT = Context("clinic", "d:mrn", "", "data", 1)
ROOT = b"R" * 32
SECRETS = {"env:GOOD": "correct horse", "env:BAD": "wrong", "env:EMPTY": ""}


def secrets(reference: str) -> str:
    try:
        return SECRETS[reference]
    except KeyError:
        raise ConfigError("no such secret") from None


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"local:{tmp_path}/kek.json"


async def test_a_root_comes_back_under_its_context_only(uri: str) -> None:
    assert await create_kek_file(uri, secrets) is True
    assert await create_kek_file(uri, secrets) is False
    provider = await LocalProvider.open(uri, secrets)
    wrapped = await provider.wrap(ROOT, CONTEXT)
    assert (wrapped.version, await provider.version()) == ("1", "1")
    assert await provider.unwrap(*wrapped, CONTEXT) == ROOT
    assert (await provider.wrap(ROOT, CONTEXT)).blob != wrapped.blob
    with pytest.raises(ProviderDenied):
        await provider.unwrap(*wrapped, Context("clinic", "d:mrn", "", "index", 1))
    for version in ("2", "", "0", "x", "-1", "¹"):
        with pytest.raises(ProviderDenied, match="version"):
            await provider.unwrap(wrapped.blob, version, CONTEXT)


async def test_the_wrap_is_what_the_specification_says(uri: str, tmp_path: Path) -> None:
    await create_kek_file(uri, secrets)
    provider = await LocalProvider.open(uri, secrets)
    blob = (await provider.wrap(ROOT, CONTEXT)).blob
    kek = b64decode(json.loads((tmp_path / "kek.json").read_text())["keys"]["1"]["key"])
    assert AESGCM(kek).decrypt(blob[:12], blob[12:], CONTEXT.encode()) == ROOT


async def test_every_flipped_bit_of_a_wrap_is_denied(uri: str) -> None:
    await create_kek_file(uri, secrets)
    provider = await LocalProvider.open(uri, secrets)
    blob = (await provider.wrap(ROOT, CONTEXT)).blob
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProviderDenied):
            await provider.unwrap(bytes(flipped), "1", CONTEXT)
    for other in (b"", blob[:-1], blob + b"x"):
        with pytest.raises(ProviderDenied):
            await provider.unwrap(other, "1", CONTEXT)


async def test_a_sealed_file_opens_with_its_passphrase_only(uri: str, tmp_path: Path) -> None:
    sealed = f"{uri}?passphrase=env:GOOD"
    assert await create_kek_file(sealed, secrets) is True
    assert await create_kek_file(sealed, secrets) is False
    provider = await LocalProvider.open(sealed, secrets)
    assert provider.uri == uri
    wrapped = await provider.wrap(ROOT, CONTEXT)
    assert await provider.unwrap(*wrapped, CONTEXT) == ROOT
    with pytest.raises(ProviderMisconfigured, match="does not open key 1"):
        await LocalProvider.open(f"{uri}?passphrase=env:BAD", secrets)
    with pytest.raises(ProviderMisconfigured, match="is sealed"):
        await LocalProvider.open(uri, secrets)

    entry = json.loads((tmp_path / "kek.json").read_text())["keys"]["1"]
    cost, box = entry["argon2id"], b64decode(entry["sealed"])
    assert (cost["t"], cost["m"], cost["p"]) == (3, 65536, 4)
    key = hash_secret_raw(b"correct horse", b64decode(cost["salt"]), 3, 65536, 4, 32, Type.ID)
    kek = AESGCM(key).decrypt(box[:12], box[12:], b"\x00\x00\x00\x0aphi/kek/v1\x00\x00\x00\x011")
    assert AESGCM(kek).decrypt(wrapped.blob[:12], wrapped.blob[12:], CONTEXT.encode()) == ROOT


async def test_a_sealed_key_does_not_open_under_another_number(uri: str, tmp_path: Path) -> None:
    await create_kek_file(f"{uri}?passphrase=env:GOOD", secrets)
    path = tmp_path / "kek.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"current": 2, "keys": {"2": content["keys"]["1"]}}))
    with pytest.raises(ProviderMisconfigured, match="does not open key 2"):
        await LocalProvider.open(f"{uri}?passphrase=env:GOOD", secrets)


async def test_a_file_without_seal_is_not_taken_where_a_passphrase_is_configured(uri: str) -> None:
    await create_kek_file(uri, secrets)
    with pytest.raises(ProviderMisconfigured, match="not sealed"):
        await LocalProvider.open(f"{uri}?passphrase=env:GOOD", secrets)


@pytest.mark.parametrize(
    "query", ["?", "?passphrase", "?passphrase=GOOD", "?passphrase=env:A&passphrase=env:B", "?pass=env:A", "?passphrase=env:EMPTY"]
)
async def test_other_options_are_refused(uri: str, query: str) -> None:
    with pytest.raises(ProviderMisconfigured):
        await LocalProvider.open(uri + query, secrets)


async def test_a_path_is_needed_and_a_missing_secret_is_said() -> None:
    with pytest.raises(ProviderMisconfigured):
        await LocalProvider.open("local:", secrets)
    with pytest.raises(ConfigError, match="no such secret"):
        await LocalProvider.open("local:x?passphrase=env:NOPE", secrets)


async def test_argon2_leaves_the_loop_free(uri: str) -> None:
    sealed, ticks, over = f"{uri}?passphrase=env:GOOD", 0, asyncio.Event()

    async def tick() -> None:
        nonlocal ticks
        while not over.is_set():
            ticks += 1
            await asyncio.sleep(0)

    async def work() -> None:
        await create_kek_file(sealed, secrets)
        over.set()

    await asyncio.gather(tick(), work())
    assert ticks > 20


async def test_nothing_of_a_key_is_shown_and_close_forgets(uri: str) -> None:
    await create_kek_file(uri, secrets)
    provider = await LocalProvider.open(uri, secrets)
    assert provider.covers("local:/elsewhere/kek.json")
    assert not provider.covers("awskms:local:")
    await provider.close()
    assert provider._opened == {}
    with pytest.raises(ValueError, match="32 bytes"):
        await provider.wrap(b"short", CONTEXT)


@pytest.mark.parametrize("option", ["", "?passphrase=env:GOOD"])
async def test_a_key_that_is_added_wraps_from_then_on_and_running_providers_learn_it(uri: str, option: str) -> None:
    uri += option
    await create_kek_file(uri, secrets)
    running = await LocalProvider.open(uri, secrets)
    old = await running.wrap(ROOT, CONTEXT)
    assert await add_kek(uri, secrets) == 2
    other = await LocalProvider.open(uri, secrets)
    new = await other.rewrap(*old, CONTEXT)
    assert new.version == "2"
    assert await running.unwrap(*new, CONTEXT) == ROOT
    assert await running.unwrap(*old, CONTEXT) == ROOT
    assert await running.version() == "2"


async def test_a_file_put_in_its_place_is_not_taken(uri: str, tmp_path: Path) -> None:
    await create_kek_file(uri, secrets)
    running = await LocalProvider.open(uri, secrets)
    wrapped = await running.wrap(ROOT, CONTEXT)
    (tmp_path / "kek.json").unlink()
    await create_kek_file(uri, secrets)
    await add_kek(uri, secrets)
    assert await running.version() == "1"
    assert await running.unwrap(*wrapped, CONTEXT) == ROOT
    with pytest.raises(ProviderDenied, match="version"):
        await running.unwrap(wrapped.blob, "2", CONTEXT)
