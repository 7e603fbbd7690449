"""Which file of ``tls`` cannot be used is said, and a key that others may read is refused."""

from __future__ import annotations

import os
import re
import shutil
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from phiproxy.errors import ConfigError
from phiproxy.net.tls_files import load_authorities, load_pair
from tests.net.certificates import Pair, Papers


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Certificates of this file."""
    return Papers.made(tmp_path_factory.mktemp("papers"))


def complaint(certificate: Path, key: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    return refused.value.message


def private(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def test_the_file_is_named(papers: Papers, tmp_path: Path) -> None:
    pair, absent = papers.proxy, tmp_path / "absent"
    broken = private(tmp_path / "broken", b"nothing")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    seal = serialization.BestAvailableEncryption(b"four words of yours")
    sealed = private(tmp_path / "sealed", key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, seal))
    assert complaint(absent, pair.key) == f"tls.certificate {absent} cannot be loaded: No such file or directory"
    assert complaint(broken, pair.key) == f"tls.certificate {broken} cannot be loaded: it holds no certificate in PEM"
    assert complaint(pair.certificate, absent) == f"tls.private_key {absent} cannot be loaded: No such file or directory"
    assert complaint(pair.certificate, broken) == f"tls.private_key {broken} cannot be loaded: it holds no private key in PEM"
    assert complaint(pair.certificate, sealed) == f"tls.private_key {sealed} cannot be loaded: it is sealed by a passphrase"
    other = papers.server.key
    assert complaint(pair.certificate, other) == f"tls.private_key {other} is not the key of tls.certificate {pair.certificate}"
    assert complaint(pair.certificate, tmp_path) == f"tls.private_key {tmp_path} is not a regular file"
    for file in (absent, broken):
        with pytest.raises(ConfigError, match=re.escape(f"tls.client_ca {file} cannot be loaded")):
            load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), file)


@pytest.mark.parametrize("owner", ["ours", "root", "another's"])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o660, 0o644, 0o604, 0o610])
def test_a_key_that_others_may_use(papers: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, mode: int) -> None:
    """As PostgreSQL judges ``ssl_key_file`` (be-secure-common.c)."""
    pair = Pair(papers.proxy.certificate, Path(shutil.copy(papers.proxy.key, tmp_path / "key")))
    pair.key.chmod(mode)
    real, ours = os.stat_result, 12345
    found = pair.key.stat()
    uid = {"ours": ours, "root": 0, "another's": 4711}[owner]
    monkeypatch.setattr(os, "geteuid", lambda: ours)
    monkeypatch.setattr(Path, "stat", lambda _self, **_: real((found.st_mode, *found[1:4], uid, *found[5:])))
    allowed = {"ours": {0o600, 0o400}, "root": {0o600, 0o400, 0o640, 0o440}, "another's": set[int]()}[owner]
    if mode in allowed:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), pair.certificate, pair.key)
    else:
        said = "must be owned by" if owner == "another's" else f"its mode is {mode:04o}"
        assert said in complaint(pair.certificate, pair.key)
