"""KEK URIs in the configuration: wrong ones are said without what they may hold, paths are the file's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from phiproxy.policy.kek_uris import absolute, complaint


@pytest.mark.parametrize(
    "uri",
    [
        "local:kek.json",
        "local:kek.json?passphrase=env:PW",
        "awskms:arn:aws:kms:eu-central-1:111122223333:key/x",
        "awskms:alias/x?region=eu-central-1&endpoint=http://127.0.0.1:5000",
        "vault:transit/phi?address=https://vault:8200&role_id=env:R&secret_id=file:/s",
        "pkcs11:token=phi;object=kek?module-path=/usr/lib/m.so&pin-value=env:PIN",
        "rsa:public.pem?private=private.pem&oaep=sha256",
    ],
)
def test_uris_that_may_be(uri: str) -> None:
    assert complaint(uri) is None


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("kek.json", "named by a URI"),
        ("local:", "named by a URI"),
        ("gcpkms:x", "unknown KEK scheme"),
        ("local:?passphrase=env:X", "before the options"),
        ("rsa:a?", "written"),
        ("rsa:a?private", "written"),
        ("local:a?passphrase=hunter2", "never written here"),
        ("pkcs11:token=x?pin-value=hunter2", "never written here"),
        ("vault:transit/x?token=hunter2", "never written here"),
        ("vault:transit/x?secret_id=hunter2", "never written here"),
        ("local:a?other=hunter2", "takes only"),
    ],
)
def test_uris_that_may_not(uri: str, said: str) -> None:
    found = complaint(uri)
    assert found is not None
    assert said in found
    assert "hunter2" not in found


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("local:k/kek.json", "local:/etc/p/k/kek.json"),
        ("local:/a/kek.json?passphrase=file:pw", "local:/a/kek.json?passphrase=file:/etc/p/pw"),
        ("rsa:a.pem?private=b.key&passphrase=env:X", "rsa:/etc/p/a.pem?private=/etc/p/b.key&passphrase=env:X"),
        ("vault:transit/x?ca_file=ca.pem&address=http://h:1", "vault:transit/x?ca_file=/etc/p/ca.pem&address=http://h:1"),
        ("awskms:alias/x?region=r", "awskms:alias/x?region=r"),
        ("pkcs11:token=a;object=b?module-path=/m.so&pin-value=env:P", "pkcs11:token=a;object=b?module-path=/m.so&pin-value=env:P"),
    ],
)
def test_paths_are_relative_to_the_configuration(uri: str, expected: str) -> None:
    assert absolute(uri, Path("/etc/p")) == expected
