"""A KEK of a new kind is one file of code and one row of the table: everything that speaks of KEKs then knows it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phiproxy.errors import ConfigError, ProviderMisconfigured
from phiproxy.keys import open_provider
from phiproxy.keys.fips import unapproved_kek
from phiproxy.policy.kek_schemes import KEK_SCHEMES, KekScheme
from phiproxy.policy.load import json_schemas, load_settings
from phiproxy.sql.policy_files import load_policy
from tests.commands.conftest import Clinic

PROVIDER = '''
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from phiproxy.errors import ProviderDenied
from phiproxy.keys.provider import Wrapped, WrapsHere
from phiproxy.keys.parsed_kek_uri import parse_kek_uri


class ShelfProvider(WrapsHere):
    """``shelf:PATH``: a file of 32 bytes."""

    def __init__(self, uri, key):
        self.uri, self._key = uri, AESGCM(key)

    @classmethod
    async def open(cls, uri, secrets):
        parsed = parse_kek_uri(uri, secrets)
        assert parsed.secret("pin") == "1234"
        return cls(parsed.name, Path(parsed.rest).read_bytes())

    def covers(self, kek_uri):
        return kek_uri == self.uri

    async def version(self):
        return "1"

    async def wrap(self, root, context):
        nonce = os.urandom(12)
        return Wrapped(nonce + self._key.encrypt(nonce, root, context.encode()), "1")

    async def unwrap(self, blob, version, context):
        try:
            return self._key.decrypt(blob[:12], blob[12:], context.encode())
        except InvalidTag:
            raise ProviderDenied("the shelf has another key") from None

    async def close(self):
        pass
'''
ROW = KekScheme(
    provider="shelf:ShelfProvider",
    usage="shelf:PATH?pin=env:NAME[&map=PATH][&hash=sha256|md5]",
    options=("pin", "map", "hash"),
    secrets=frozenset({"pin"}),
    paths=frozenset({"map"}),
    is_file=True,
    extra="shelves",
    algorithm="AES-256-GCM",
    approved={"hash": "sha256"},
)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file, one row."""
    (tmp_path / "shelf.py").write_text(PROVIDER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shelf", raising=False)
    monkeypatch.setitem(KEK_SCHEMES, "shelf", ROW)
    monkeypatch.setenv("SHELF_PIN", "1234")


@pytest.mark.usefixtures("shelf")
def test_keys_and_check_work_under_it(clinic: Clinic) -> None:
    clinic.config.write_text(clinic.config.read_text().replace("local:kek.json", "'shelf:kek.bin?pin=env:SHELF_PIN'"))
    (clinic.directory / "kek.bin").write_bytes(bytes(range(32)))
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))
    assert f"root keys open under shelf:{clinic.directory}/kek.bin" in clinic.ok("check")
    (clinic.directory / "kek.bin").write_bytes(bytes(32))
    code, out, _ = clinic.run("check")
    assert code == 1
    assert f"the KEK shelf:{clinic.directory}/kek.bin does not open" in out


@pytest.mark.usefixtures("shelf")
def test_settings_and_policies_take_its_uri(tmp_path: Path) -> None:
    def settings(uri: str) -> str:
        (tmp_path / "f.yaml").write_text(f"keys: {{kek: '{uri}'}}")
        return load_settings(tmp_path / "f.yaml").kek_uri

    assert settings("shelf:k?pin=file:p&map=m") == f"shelf:{tmp_path}/k?pin=file:{tmp_path}/p&map={tmp_path}/m"
    with pytest.raises(ConfigError, match="shelf: pin is env:NAME or file:/path; a secret is never written here"):
        settings("shelf:k?pin=1234")
    with pytest.raises(ConfigError, match="shelf: takes only these options: pin, map, hash"):
        settings("shelf:k?colour=red")
    with pytest.raises(ConfigError, match=r"unknown KEK scheme cellar:; this version knows .*, shelf"):
        settings("cellar:k")
    tenant = "{from: role, keks: {acme: 'shelf:k?pin=env:P'}}"
    (tmp_path / "p.yaml").write_text(f"database: d\ndeployment: d\ntenant: {tenant}\n")
    policy = load_policy(tmp_path / "p.yaml")
    assert policy.tenant is not None
    assert policy.tenant.keks == {"acme": "shelf:k?pin=env:P"}


@pytest.mark.usefixtures("shelf")
def test_the_json_schemas_know_it() -> None:
    kek = json_schemas()["phiproxy.schema.json"]["$defs"]["Keys"]["properties"]["kek"]
    assert kek["pattern"] == "^(?:local|awskms|vault|pkcs11|rsa|shelf):.+$"
    assert ROW.usage in kek["description"]
    tenants = json_schemas()["policy.schema.json"]["$defs"]["TenantSource"]["properties"]["keks"]
    assert all("|shelf)" in each["pattern"] for each in tenants["patternProperties"].values())


@pytest.mark.usefixtures("shelf")
def test_fips_asks_what_it_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unapproved_kek("shelf:k?pin=env:P&hash=sha256") == []
    assert unapproved_kek("shelf:k?pin=env:P&hash=md5") == ["hash=md5 is not approved"]
    monkeypatch.setitem(KEK_SCHEMES, "shelf", KekScheme(provider=ROW.provider, usage=ROW.usage))
    assert unapproved_kek("shelf:k") == ["a KEK is of a kind whose algorithms are not known as approved"]


@pytest.mark.usefixtures("shelf")
async def test_hints_tell_how_it_is_written_and_which_extra_brings_it(tmp_path: Path) -> None:
    with pytest.raises(ProviderMisconfigured) as caught:
        await open_provider("shelf:k?pin=env:P&pin=env:P", lambda _reference: "1234")
    assert caught.value.message == f"keys.kek: write {ROW.usage}"
    with pytest.raises(ProviderMisconfigured, match=r"no known key provider scheme \(known: .*, shelf, vault\)"):
        await open_provider("cellar:k", lambda _reference: "")
    (tmp_path / "shelf.py").write_text("import an_sdk_that_nobody_has\n")
    del sys.modules["shelf"]
    with pytest.raises(ProviderMisconfigured, match="shelf: needs an_sdk_that_nobody_has") as caught:
        await open_provider("shelf:k?pin=env:P", lambda _reference: "1234")
    assert caught.value.hint == "pip install 'phiproxy[shelves]'"
