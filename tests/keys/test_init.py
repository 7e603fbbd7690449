"""The table of schemes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phiproxy.errors import ProviderMisconfigured
from phiproxy.keys import open_provider
from phiproxy.keys.local import LocalProvider, create_kek_file
from phiproxy.policy.kek_schemes import KEK_SCHEMES


def no_secrets(_reference: str) -> str:
    raise AssertionError("no secret is needed")


@pytest.mark.parametrize(
    ("scheme", "module", "extra"), [("awskms", "boto3", "aws"), ("vault", "hvac", "vault"), ("pkcs11", "pkcs11", "hsm")]
)
async def test_a_scheme_whose_sdk_is_missing_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"phiproxy.keys.{scheme}", raising=False)
    with pytest.raises(ProviderMisconfigured, match=f"needs {module}") as caught:
        await open_provider(f"{scheme}:x?pin-value=1234", no_secrets)
    assert caught.value.hint == f"pip install 'phiproxy[{extra}]'"
    assert "1234" not in caught.value.public_text


@pytest.mark.parametrize("uri", ["", "local", "gcpkms:x?pin=1234", "LOCAL:x", ":x", "/etc/kek.json"])
async def test_unknown_schemes_are_refused_without_quoting_the_uri(uri: str) -> None:
    with pytest.raises(ProviderMisconfigured, match="no known key provider scheme") as caught:
        await open_provider(uri, no_secrets)
    assert "1234" not in caught.value.public_text


async def test_a_local_uri_opens_its_file(tmp_path: Path) -> None:
    uri = f"local:{tmp_path}/kek.json"
    await create_kek_file(uri, no_secrets)
    provider = await open_provider(uri, no_secrets)
    assert isinstance(provider, LocalProvider)
    assert provider.uri == uri


def test_every_entry_names_one_module_of_its_own() -> None:
    for scheme, kind in KEK_SCHEMES.items():
        assert kind.provider.startswith(f"phiproxy.keys.{scheme}:")
