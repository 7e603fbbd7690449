"""One real part for each scheme: what it takes to open a provider, and to turn its key over or take it away."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import hvac
import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from moto.server import ThreadedMotoServer
from pkcs11 import Attribute, KeyType
from pkcs11.exceptions import UserAlreadyLoggedIn

from phiproxy.errors import ConfigError
from phiproxy.keys import open_provider
from phiproxy.keys.local import add_kek, create_kek_file
from phiproxy.keys.provider import KeyProvider
from tests.keys.providers.vault_server import VaultServer, real_vault

SCHEMES = ("local", "rsa", "pkcs11-aes", "pkcs11-rsa", "awskms", "vault")
TOKEN, PIN = "phiproxy-tests", "Pin-4711"
SOFTHSM = next((p for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so") if Path(p).exists()), None)


@dataclass
class Part:
    """``uri`` opens it; ``turn_over`` gives the KEK its next version; ``other`` is the URI of another KEK of the same kind."""

    uri: str
    secrets: dict[str, str]
    turn_over: Callable[[], Awaitable[str]]
    other: Callable[[], str]

    def secret(self, reference: str) -> str:
        try:
            return self.secrets[reference]
        except KeyError:
            raise ConfigError("no such secret") from None

    async def open(self, uri: str | None = None) -> KeyProvider:
        return await open_provider(uri or self.uri, self.secret)


@contextmanager
def aws_credentials() -> Iterator[None]:
    """Set what boto3 looks for; any will do where AWS is not asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@contextmanager
def kms() -> Iterator[tuple[str, Any]]:
    """Yield the endpoint of a running moto server and a client of it."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        _, port = server.get_host_and_port()
        endpoint = f"http://127.0.0.1:{port}"
        client = boto3.client("kms", region_name="eu-central-1", endpoint_url=endpoint)
        yield endpoint, client
        client.close()
    finally:
        server.stop()


def write_pair(directory: Path, name: str) -> tuple[Path, Path]:
    """Write an RSA key pair as PEM files."""
    private = rsa.generate_private_key(65537, 2048)
    public_path, private_path = directory / f"{name}.pem", directory / f"{name}.key"
    public_path.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    private_path.touch(mode=0o600)
    private_path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return public_path, private_path


def softhsm() -> Any:
    """Return the PKCS#11 library on a token of this process (one configuration a process, since the library is loaded once)."""
    if SOFTHSM is None or shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM 2 here (Debian: softhsm2)")
    return pkcs11.lib(SOFTHSM)


def new_token() -> None:
    """Make the token of this process; before its library is loaded, since that looks for tokens once."""
    if shutil.which("softhsm2-util") is not None:
        command = ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", PIN]
        subprocess.run(command, check=True, capture_output=True)


def make_hsm_key(name: str, key_id: bytes, *, asymmetric: bool) -> None:
    """Make a KEK inside the token: AES-256, sensitive and not extractable, or an RSA pair."""
    token = softhsm().get_token(token_label=TOKEN)
    try:
        session = token.open(rw=True, user_pin=PIN)
    except UserAlreadyLoggedIn:
        session = token.open(rw=True)
    with session:
        if asymmetric:
            session.generate_keypair(KeyType.RSA, 2048, label=name, id=key_id, store=True)
        else:
            template = {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True}
            session.generate_key(KeyType.AES, 256, label=name, id=key_id, store=True, template=template)


def vault_address(server: VaultServer) -> tuple[str, str]:
    """Return (address, token): those of a real server where the environment names one."""
    return real_vault() or (server.address, "root")


async def local_part(directory: Path) -> Part:
    uri = f"local:{directory}/kek.json"

    async def turn_over() -> str:
        await add_kek(uri, part.secret)
        return uri

    part = Part(uri, {}, turn_over, lambda: f"local:{directory}/other.json")
    await create_kek_file(uri, part.secret)
    await create_kek_file(part.other(), part.secret)
    return part


async def _cannot_turn() -> str:
    raise AssertionError("this part has no second version of its KEK")


def rsa_part(directory: Path) -> Part:
    public, private = write_pair(directory, "kek")
    other_public, other_private = write_pair(directory, "other")
    return Part(f"rsa:{public}?private={private}", {}, _cannot_turn, lambda: f"rsa:{other_public}?private={other_private}")


def pkcs11_part(*, asymmetric: bool) -> Part:
    name = f"kek{os.urandom(4).hex()}"
    options = f"module-path={SOFTHSM}&pin-value=env:PIN" + ("&oaep=sha1" if asymmetric else "")
    kind = ";type=private" if asymmetric else ""
    make_hsm_key(name, b"\x01", asymmetric=asymmetric)
    make_hsm_key(f"{name}-other", b"\x07", asymmetric=asymmetric)

    async def turn_over() -> str:
        make_hsm_key(name, b"\x02", asymmetric=asymmetric)
        return f"pkcs11:token={TOKEN};object={name};id=%02{kind}?{options}"

    return Part(
        f"pkcs11:token={TOKEN};object={name};id=%01{kind}?{options}",
        {"env:PIN": PIN},
        turn_over,
        lambda: f"pkcs11:token={TOKEN};object={name}-other{kind}?{options}",
    )


def kms_part(endpoint: str, client: Any) -> Part:
    alias = f"alias/phiproxy-{os.urandom(4).hex()}"

    def new_key() -> str:
        arn: str = client.create_key()["KeyMetadata"]["Arn"]
        return arn

    client.create_alias(AliasName=alias, TargetKeyId=new_key())
    uri = f"awskms:{alias}?region=eu-central-1&endpoint={endpoint}"

    async def turn_over() -> str:
        client.update_alias(AliasName=alias, TargetKeyId=new_key())
        return uri

    return Part(uri, {}, turn_over, lambda: f"awskms:{new_key()}?endpoint={endpoint}")


def vault_part(address: str, token: str) -> Part:
    name, other = f"phi{os.urandom(4).hex()}", f"phi{os.urandom(4).hex()}"
    for key in (name, other):
        hvac.Client(address, token).secrets.transit.create_key(key, derived=True)
    uri = f"vault:transit/{name}?address={address}&token=env:TOKEN"

    async def turn_over() -> str:
        hvac.Client(address, token).secrets.transit.rotate_key(name)
        return uri

    return Part(uri, {"env:TOKEN": token}, turn_over, lambda: f"vault:transit/{other}?address={address}&token=env:TOKEN")
