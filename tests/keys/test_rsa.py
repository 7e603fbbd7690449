"""RSA key files beyond the contract: halves, modes, paddings, and a key pair that is made anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import rsa as rsa_keys
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from phiproxy.errors import ProviderDenied, ProviderMisconfigured
from phiproxy.keys.provider import Context
from phiproxy.keys.rsa import RsaProvider
from tests.keys.providers.parts import write_pair

CONTEXT = Context("clinic", "d:mrn", "", "data", 1)


def secrets(reference: str) -> str:
    return {"env:PASS": "correct horse", "env:BAD": "wrong"}[reference]


async def test_the_public_half_wraps_and_only_the_private_unwraps(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "kek")
    writer = await RsaProvider.open(f"rsa:{public}", secrets)
    root = os.urandom(32)
    wrapped = await writer.wrap(root, CONTEXT)
    with pytest.raises(ProviderMisconfigured, match="no private key"):
        await writer.unwrap(*wrapped, CONTEXT)
    reader = await RsaProvider.open(f"rsa:{public}?private={private}", secrets)
    assert await reader.unwrap(*wrapped, CONTEXT) == root
    assert reader.uri == f"rsa:{public}"
    assert reader.covers("rsa:/elsewhere.pem")
    assert not reader.covers("local:x")


async def test_the_private_key_may_be_sealed(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "kek")
    key = load_pem_private_key(private.read_bytes(), None)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct horse")))
    provider = await RsaProvider.open(f"rsa:{public}?private={private}&passphrase=env:PASS", secrets)
    assert len(await provider.unwrap(*await provider.wrap(b"r" * 32, CONTEXT), CONTEXT)) == 32
    for options in ("&passphrase=env:BAD", ""):
        with pytest.raises(ProviderMisconfigured, match="not of this passphrase"):
            await RsaProvider.open(f"rsa:{public}?private={private}{options}", secrets)


async def test_paddings_are_not_exchangeable(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "kek")
    one = await RsaProvider.open(f"rsa:{public}?private={private}", secrets)
    other = await RsaProvider.open(f"rsa:{public}?private={private}&oaep=sha1", secrets)
    with pytest.raises(ProviderDenied):
        await other.unwrap(*await one.wrap(b"r" * 32, CONTEXT), CONTEXT)
    with pytest.raises(ProviderMisconfigured, match="sha256 or sha1"):
        await RsaProvider.open(f"rsa:{public}?oaep=md5", secrets)


async def test_a_new_pair_is_a_new_version(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "kek")
    old = await RsaProvider.open(f"rsa:{public}?private={private}", secrets)
    wrapped = await old.wrap(b"r" * 32, CONTEXT)
    private.unlink()
    write_pair(tmp_path, "kek")
    new = await RsaProvider.open(f"rsa:{public}?private={private}", secrets)
    assert await new.version() != wrapped.version
    with pytest.raises(ProviderDenied, match="another RSA key"):
        await new.unwrap(*wrapped, CONTEXT)
    moved = await new.rewrap(*await new.wrap(b"r" * 32, CONTEXT), CONTEXT)
    assert await new.unwrap(*moved, CONTEXT) == b"r" * 32


async def test_files_that_will_not_do(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "kek")
    _, stranger = write_pair(tmp_path, "stranger")
    weak = rsa_keys.generate_private_key(65537, 1024).public_key()
    (tmp_path / "weak.pem").write_bytes(weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    curve = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec.pem").write_bytes(curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "ec.key").touch(mode=0o600)
    (tmp_path / "ec.key").write_bytes(curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "text.pem").write_text("hello")
    cases = {
        f"rsa:{tmp_path}/none.pem": "No such file",
        f"rsa:{tmp_path}/text.pem": "not a PEM public key",
        f"rsa:{tmp_path}/weak.pem": "at least 2048",
        f"rsa:{tmp_path}/ec.pem": "not an RSA key",
        f"rsa:{public}?private={tmp_path}/none.key": "No such file",
        f"rsa:{public}?private={tmp_path}/ec.key": "not an RSA key",
        f"rsa:{public}?private={stranger}": "not that of this public key",
        f"rsa:{public}?passphrase=env:PASS": "write rsa:",
    }
    for uri, said in cases.items():
        with pytest.raises(ProviderMisconfigured, match=said):
            await RsaProvider.open(uri, secrets)
    private.chmod(0o644)
    with pytest.raises(ProviderMisconfigured, match="chmod 600"):
        await RsaProvider.open(f"rsa:{public}?private={private}", secrets)


async def test_a_closed_provider_has_forgotten_its_key(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, "kek")
    provider = await RsaProvider.open(f"rsa:{public}?private={private}", secrets)
    wrapped = await provider.wrap(b"r" * 32, CONTEXT)
    await provider.close()
    with pytest.raises(ProviderMisconfigured):
        await provider.unwrap(*wrapped, CONTEXT)
