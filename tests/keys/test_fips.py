"""FIPS required: refused here, accepted where both OpenSSLs really run a FIPS provider, refused where they only say so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.keys.fips import require_fips

ROOT = Path(__file__).parents[2]
PYTHON = Path("/usr/bin/python3")
MODULES = next((p.parent for p in Path("/usr/lib").glob("*/ossl-modules/fips.so")), None)
CONFIGURATION = """
openssl_conf = openssl_init
{include}
[openssl_init]
providers = provider_sect
alg_section = algorithm_sect
[provider_sect]
fips = fips_sect
base = base_sect
[base_sect]
activate = 1
[algorithm_sect]
default_properties = fips=yes
"""
ASK = """
import sys
from phiproxy.errors import ConfigError
from phiproxy.keys.fips import require_fips
try:
    require_fips(sys.argv[1])
except ConfigError as error:
    print(error.message)
else:
    print("approved")
"""


def test_an_ordinary_process_is_refused_with_every_reason() -> None:
    with pytest.raises(ConfigError) as caught:
        require_fips("local:kek.json?passphrase=env:PW")
    text = caught.value.message
    assert "behind cryptography" in text
    assert "behind ssl" in text
    assert "Argon2id" in text
    with pytest.raises(ConfigError, match="oaep=sha1 is not approved"):
        require_fips("rsa:kek.pem?oaep=sha1")


def ask(kek: str, configuration: Path) -> str:
    """Ask an interpreter whose ``cryptography`` uses the system's OpenSSL, under an OpenSSL configuration."""
    env = {**os.environ, "OPENSSL_CONF": str(configuration), "OPENSSL_MODULES": str(MODULES), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([PYTHON, "-c", ASK, kek], env=env, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.strip()


def _system_python_serves() -> bool:
    if MODULES is None or not PYTHON.exists() or shutil.which("openssl") is None:
        return False
    wanted = "import sys, cryptography.hazmat.bindings._rust as r; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([PYTHON, "-c", wanted], capture_output=True, check=False, cwd="/").returncode == 0


needs_module = pytest.mark.skipif(
    not _system_python_serves(), reason="no FIPS module here (Debian: openssl-provider-fips, python3-cryptography)"
)


@needs_module
def test_a_real_fips_provider_behind_both_is_accepted(tmp_path: Path) -> None:
    assert MODULES is not None
    module, configuration = tmp_path / "module.cnf", tmp_path / "openssl.cnf"
    subprocess.run(["openssl", "fipsinstall", "-module", MODULES / "fips.so", "-out", module], check=True, capture_output=True)
    configuration.write_text(CONFIGURATION.format(include=f".include {module}"))
    assert ask("local:kek.json", configuration) == "approved"
    assert ask("vault:transit/phi", configuration) == "approved"
    assert "Argon2id" in ask("local:kek.json?passphrase=env:PW", configuration)


@needs_module
def test_a_mode_without_a_module_is_not_believed(tmp_path: Path) -> None:
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text(CONFIGURATION.format(include="[fips_sect]\nactivate = 1"))
    said = ask("local:kek.json", configuration)
    assert said.count("has no FIPS provider loaded") == 2
