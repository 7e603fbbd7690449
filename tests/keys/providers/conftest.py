"""The real parts, started once, and a fresh KEK for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.keys.providers import parts
from tests.keys.providers.parts import Part
from tests.keys.providers.vault_server import VaultServer


@pytest.fixture(scope="session", autouse=True)
def _aws_credentials() -> Iterator[None]:
    with parts.aws_credentials():
        yield


@pytest.fixture(scope="session")
def kms(_aws_credentials: None) -> Iterator[tuple[str, Any]]:
    """(endpoint, client) of moto's KMS."""
    with parts.kms() as found:
        yield found


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    """A Vault of this test's own."""
    server = VaultServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where SoftHSM keeps the tokens of this process; set before its library is loaded."""
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    (directory / "softhsm2.conf").write_text(
        f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(directory / "softhsm2.conf"))
        parts.new_token()
        parts.softhsm()
        yield


@pytest.fixture(params=parts.SCHEMES)
async def part(request: pytest.FixtureRequest, tmp_path: Path) -> Part:
    """One part of each scheme."""
    scheme: str = request.param
    if scheme == "local":
        return await parts.local_part(tmp_path)
    if scheme == "rsa":
        return parts.rsa_part(tmp_path)
    if scheme.startswith("pkcs11"):
        request.getfixturevalue("tokens")
        return parts.pkcs11_part(asymmetric=scheme == "pkcs11-rsa")
    if scheme == "awskms":
        return parts.kms_part(*request.getfixturevalue("kms"))
    return parts.vault_part(*parts.vault_address(request.getfixturevalue("vault")))
