"""The README's walks through each key provider and each rotation, run as they stand there, against real parts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import Clinic
from tests.keys.providers import parts
from tests.keys.providers.vault_server import VaultServer

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##)", README[README.index("## Keys\n") :], re.MULTILINE | re.DOTALL))


def walk(clinic: Clinic, title: str, *, kek: str | None = None, env: dict[str, str] | None = None) -> str:
    """Write the section's YAML into the configuration, run its console block under bash, and return what it printed."""
    section = SECTIONS[title]
    lines = clinic.config.read_text().splitlines()
    yaml = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    if yaml is not None:
        line = yaml[1].strip() if kek is None else yaml[1].strip().replace('"}', f'{kek}"}}')
        lines = [line if old.startswith("keys:") else old for old in lines]
        clinic.config.write_text("\n".join(lines) + "\n")
    (console,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    commands = [line.removeprefix("$ ") for line in console.splitlines() if line.startswith("$ ")]
    shims = clinic.directory / "bin"
    shims.mkdir()
    (shims / "phiproxy").write_text(f'#!/bin/sh\nexec {sys.executable} -m phiproxy "$@"\n')
    (shims / "aws").write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "aws"} "$@"\n')
    for shim in shims.iterdir():
        shim.chmod(0o755)
    environment = {
        **os.environ,
        **(env or {}),
        "PATH": f"{shims}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=clinic.directory, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def versions(clinic: Clinic) -> set[str]:
    return {version for (version,) in clinic.sql("SELECT kek_version FROM phiproxy.root_wrap")}


def test_a_file(clinic: Clinic) -> None:
    walk(clinic, "A file (`local:`)")
    assert versions(clinic) == {"2"}


def test_aws_kms(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with parts.kms() as (endpoint, client):
        walk(clinic, "AWS KMS (`awskms:`)", kek=f"&endpoint={endpoint}", env={"KMS_ENDPOINT": endpoint})
        (alias,) = [a for a in client.list_aliases()["Aliases"] if a["AliasName"] == "alias/phiproxy"]
        (version,) = versions(clinic)
        assert alias["TargetKeyId"] in version


def test_vault(clinic: Clinic) -> None:
    vault = VaultServer()
    vault.start()
    try:
        walk(clinic, "Vault or OpenBao (`vault:`)", env={"VAULT_ADDR": vault.address, "VAULT_TOKEN": "root"})
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
    walk(clinic, "An HSM (`pkcs11:`)", env={"SOFTHSM2_CONF": str(conf)})
    assert versions(clinic) == {"02"}


def test_an_rsa_key_pair(clinic: Clinic) -> None:
    walk(clinic, "An RSA key pair (`rsa:`)")
    assert clinic.sql("SELECT DISTINCT kek_uri FROM phiproxy.root_wrap") == [(f"rsa:{clinic.directory}/new.pem",)]


def test_what_is_below_the_kek(clinic: Clinic) -> None:
    clinic.ok("keys", "init")
    out = walk(clinic, "Rotating what is below the KEK")
    assert "generation 2, building" in out
    assert clinic.sql("SELECT max(generation) FROM phiproxy.root_key WHERE purpose = 'data'") == [(2,)]
