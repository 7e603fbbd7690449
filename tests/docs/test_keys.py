"""docs/keys: the set-up and the rotation of each key provider, what is below the KEK, and tenants, against real parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from phiproxy.demo.postgres import free_port
from tests.commands.conftest import Clinic
from tests.docs.pages import Page, Shell
from tests.keys.providers import parts
from tests.keys.providers.vault_server import VaultServer


def walk(clinic: Clinic, page: Page, *, env: dict[str, str] | None = None, replace: dict[str, str] | None = None) -> None:
    """Set the page's KEK up, and rotate it."""
    programs = {"aws": Path(__file__).parent / "aws"}
    with Shell(clinic.directory, env=env or {}, replace=replace or {}, programs=programs) as shell:
        shell.walk(page.section("Set up"))
        before = versions(clinic)
        shell.walk(page.section("Rotate"))
        assert versions(clinic).isdisjoint(before)


def versions(clinic: Clinic) -> set[str]:
    return {version for (version,) in clinic.sql("SELECT kek_version FROM phiproxy.root_wrap")}


def test_a_file(clinic: Clinic) -> None:
    walk(clinic, Page("docs/keys/local.md"))
    assert versions(clinic) == {"2"}


def test_aws_kms(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with parts.kms() as (endpoint, client):
        here = {"region=eu-central-1": f"region=eu-central-1&endpoint={endpoint}"}
        walk(clinic, Page("docs/keys/aws.md"), env={"KMS_ENDPOINT": endpoint}, replace=here)
        (alias,) = [a for a in client.list_aliases()["Aliases"] if a["AliasName"] == "alias/phiproxy"]
        (version,) = versions(clinic)
        assert alias["TargetKeyId"] in version


def test_vault(clinic: Clinic) -> None:
    vault = VaultServer()
    vault.start()
    try:
        walk(clinic, Page("docs/keys/vault.md"), env={"VAULT_ADDR": vault.address, "VAULT_TOKEN": "root"})
        assert versions(clinic) == {"2"}
        assert vault.transit.keys["phiproxy"].min_decryption == 2
    finally:
        vault.stop()


def test_an_hsm(clinic: Clinic, tmp_path: Path) -> None:
    if parts.SOFTHSM is None or shutil.which("pkcs11-tool") is None:
        pytest.skip("no SoftHSM 2 or pkcs11-tool here (Debian: softhsm2, opensc)")
    (tmp_path / "tokens").mkdir()
    conf = tmp_path / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    walk(clinic, Page("docs/keys/pkcs11.md"), env={"SOFTHSM2_CONF": str(conf)})
    assert versions(clinic) == {"02"}


def test_an_rsa_key_pair(clinic: Clinic) -> None:
    walk(clinic, Page("docs/keys/rsa.md"))
    assert clinic.sql("SELECT DISTINCT kek_uri FROM phiproxy.root_wrap") == [(f"rsa:{clinic.directory}/new.pem",)]


def test_what_is_below_the_kek(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))
    page = Page("docs/keys/rotation.md")
    with Shell(clinic.directory) as shell:
        printed = shell.walk(page.section("Rotate the keys below the KEK"))
    assert "generation 2, building" in printed
    assert "index @ is searched by slot 1" in printed
    assert clinic.sql("SELECT max(generation) FROM phiproxy.root_key WHERE purpose = 'data'") == [(2,)]


def test_a_key_that_somebody_may_have_seen(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    clinic.sql(clinic.ok("ddl"))
    keys = [key for root in json.loads(clinic.ok("keys", "list", "--json")) for key in root["data_keys"]]
    (active,) = [key["id"] for key in keys if key["state"] == "active"]
    page = Page("docs/keys/rotation.md")
    with Shell(clinic.directory, replace={"5fc3a911": f"{active:08x}"}) as shell:
        assert "is retired" in shell.walk(page.section("A key that somebody may have seen"))
    assert clinic.sql(f"SELECT state FROM phiproxy.data_key WHERE id = {active}") == [("retired",)]


@pytest.fixture
def tenants(clinic: Clinic) -> Iterator[Clinic]:
    """The clinic without its roles of this test, which the server has and no database."""
    with clinic.server.connect() as conn:
        conn.execute("DROP ROLE IF EXISTS acme, globex")
    yield clinic
    with psycopg.connect(clinic.server.dsn(clinic.database), autocommit=True) as conn:
        conn.execute("DROP OWNED BY acme, globex; DROP ROLE acme, globex")


def test_tenants(tenants: Clinic) -> None:
    port = free_port()
    config = tenants.config.read_text()
    tenants.config.write_text(f"{config}listen: 127.0.0.1:{port}\nmetrics: null\n")
    page = Page("docs/keys/tenants.md")
    name = tenants.database
    here = {"127.0.0.1:6432/clinic": f"127.0.0.1:{port}/{name}", "database: clinic\n": f"database: {name}\n"}
    with Shell(tenants.directory, replace=here, server=tenants.server, database=name) as shell:
        shell.walk(page.section("Keys: tenants"))
        printed = shell.walk(page.section("Try it"))
    assert printed.endswith("INSERT 0 1\nINSERT 0 1\n2|of globex\nrefused\n")
    assert tenants.sql("SELECT count(DISTINCT substring(ssn, 13, 16)) FROM patients") == [(2,)]
