"""FIPS required: refused here, accepted where both OpenSSLs really run a FIPS provider, refused where they only say so."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from phiproxy.errors import ConfigError
from phiproxy.keys.fips import require_fips, unapproved_kek, unapproved_suites

ROOT = Path(__file__).parents[2]
ALGORITHMS = {
    "AESGCM": "SP 800-38D, with 256-bit keys: envelopes (suite 1), wraps of a local KEK",
    "AES256": "FIPS 197: envelopes of long values, in pieces",
    "GCM": "SP 800-38D: envelopes of long values, in pieces",
    "aes_key_wrap": "SP 800-38F: data keys under their root key",
    "aes_key_unwrap": "SP 800-38F",
    "HKDFExpand": "SP 800-56C, SP 800-108: record, index and registry keys",
    "HMAC": "FIPS 198-1: tags, registry rows",
    "hmac": "FIPS 198-1: SCRAM-SHA-256",
    "SHA256": "FIPS 180-4",
    "sha256": "FIPS 180-4",
    "padding": "SP 800-56B: OAEP; FIPS 186-5: RSA signatures",
    "rsa": "FIPS 186-5: signatures that KMS has made over checkpoints, verified",
    "ec": "FIPS 186-5: ECDSA, likewise",
    "RSAPublicKey": "SP 800-56B: 2048 bits or more",
    "RSAPrivateKey": "SP 800-56B",
    "Ed25519PrivateKey": "FIPS 186-5: checkpoints of the audit log",
    "Ed25519PublicKey": "FIPS 186-5",
    "SHA1": None,  # oaep=sha1
    "sha1": None,  # only to read what pgcrypto has written
    "new": None,  # only to read what pgcrypto has written: the hash that it names
    "CFB": None,  # only to read what pgcrypto has written
    "hash_secret_raw": None,  # Argon2id: a local KEK under a passphrase
    "ChaCha20Poly1305": None,  # only to see that it is refused
    "blake2b": None,  # only to tell one version of the configuration from another: no security rests on it
}
"""What the package calls, by the name that it is imported by, and what approves it (None: nothing does)."""
# Of the libraries, and no algorithm: formats, errors, a parameter, what a certificate is signed with, the library's own state.
NO_ALGORITHM = {
    *("Cipher", "Encoding", "InvalidUnwrap", "PublicFormat", "Type", "_hashlib", "hashes", "serialization"),
    *("load_pem_private_key", "load_pem_public_key", "algorithms", "modes", "PKCS7"),
}
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


@pytest.mark.parametrize(
    ("kek", "complaint"),
    [
        ("local:kek.json", None),
        ("local:kek.json?passphrase=file:/pw", "Argon2id"),
        ("rsa:kek.pem?private=key.pem", None),
        ("rsa:kek.pem?private=key.pem&oaep=sha256", None),
        ("rsa:kek.pem?oaep=sha1&private=key.pem", "oaep=sha1"),
        ("rsa:kek.pem?oaep=md5", "oaep=md5"),
        ("pkcs11:token=a;object=b?module-path=/m.so&pin-value=env:P&oaep=sha1", "oaep=sha1"),
        ("pkcs11:token=a;object=b?module-path=/m.so&pin-value=env:P", None),
        ("awskms:alias/phi", None),
        ("vault:transit/phi", None),
        ("other:thing", "not known as approved"),
    ],
)
def test_what_a_kek_rests_on(kek: str, complaint: str | None) -> None:
    said = unapproved_kek(kek)
    assert len(said) == (complaint is not None)
    assert (complaint or "") in "".join(said)


def test_every_kek_and_what_tls_offers_is_looked_at() -> None:
    with pytest.raises(ConfigError, match="oaep=sha1 is not approved"):
        require_fips("local:kek.json", "rsa:tenant.pem?oaep=sha1")
    with pytest.raises(ConfigError, match="TLS would offer cipher suites that are not approved: AES128-SHA"):
        require_fips("local:kek.json", suites=["AES128-SHA", "TLS_AES_128_GCM_SHA256"])


@pytest.mark.parametrize(
    ("suite", "approved"),
    [
        ("TLS_AES_256_GCM_SHA384", True),
        ("TLS_CHACHA20_POLY1305_SHA256", False),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-RSA-AES256-SHA384", True),
        ("DHE-RSA-AES256-GCM-SHA384", True),
        ("ECDHE-RSA-CHACHA20-POLY1305", False),
        ("AES128-GCM-SHA256", False),
        ("ECDHE-RSA-CAMELLIA256-SHA384", False),
        ("DES-CBC3-SHA", False),
        ("PSK-AES128-GCM-SHA256", False),
        ("ECDHE-RSA-NULL-SHA", False),
    ],
)
def test_cipher_suites(suite: str, approved: bool) -> None:
    assert unapproved_suites([suite, suite]) == ([] if approved else [suite])


def test_the_table_has_every_algorithm_that_is_used() -> None:
    """And no more: what is imported from a library of cryptography, or called of hashlib, is what the table speaks of."""
    used: set[str] = set()
    for path in (ROOT / "phiproxy").rglob("*.py"):
        text = path.read_text()
        if not any(name in text for name in ("cryptography.hazmat.primitives", "argon2", "hmac", "hashlib")):
            continue  # to parse all code takes seconds
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("cryptography.hazmat.primitives", "argon2")):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import) and any(alias.name == "hmac" for alias in node.names):
                used.add("hmac")
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "hashlib":
                used.add(node.attr)
    assert used - NO_ALGORITHM == set(ALGORITHMS)


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
