"""Values of other schemes, as they are stored, and what is none of them."""

from __future__ import annotations

import base64
import os

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

from phiproxy.errors import ConfigError, SealError
from phiproxy.jobs import schemes
from phiproxy.jobs.schemes import decoder

KEY = os.urandom(32)
VALUE = "123-45-6789 Käthe"


def padded(mode: modes.CBC | modes.ECB, value: bytes = VALUE.encode()) -> bytes:
    padder = PKCS7(128).padder()
    cipher = Cipher(algorithms.AES(KEY), mode).encryptor()
    return cipher.update(padder.update(value) + padder.finalize()) + cipher.finalize()


IV, NONCE = os.urandom(16), os.urandom(12)
SEALED = AESGCM(KEY).encrypt(NONCE, VALUE.encode(), None)
STORED = {
    ("aes-ecb", "none,base64"): base64.b64encode(padded(modes.ECB())).decode(),
    ("aes-ecb", "none,hex"): padded(modes.ECB()).hex(),
    ("aes-ecb", "none,raw"): "\\x" + padded(modes.ECB()).hex(),
    ("aes-cbc", ""): base64.b64encode(IV + padded(modes.CBC(IV))).decode(),
    ("aes-cbc", "none,hex"): padded(modes.CBC(bytes(16))).hex(),
    ("aes-gcm", ""): base64.b64encode(NONCE + SEALED).decode(),
    ("aes-gcm", "tag-first,raw"): "\\x" + (NONCE + SEALED[-16:] + SEALED[:-16]).hex(),
}


@pytest.mark.parametrize(("kind", "layout"), list(STORED))
def test_aes(kind: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIRS", KEY.hex())
    stored = STORED[kind, layout]
    assert decoder(f"{kind}:hexkey@env:THEIRS", layout)(stored) == VALUE
    with pytest.raises(SealError, match="does not match --pattern"):
        decoder(f"{kind}:hexkey@env:THEIRS", layout, r"\d+")(stored)
    monkeypatch.setenv("THEIRS", os.urandom(32).hex())
    with pytest.raises(SealError, match="no value of"):
        decoder(f"{kind}:hexkey@env:THEIRS", layout, r"\d{3}-\d\d-\d{4} Käthe")(stored)


def test_fernet(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Fernet.generate_key()
    monkeypatch.setenv("THEIRS", key.decode())
    decode = decoder("fernet:env:THEIRS")
    token = Fernet(key).encrypt(VALUE.encode())
    assert decode(token.decode()) == decode("\\x" + token.hex()) == VALUE
    with pytest.raises(SealError, match="no value of fernet"):
        decode(Fernet(Fernet.generate_key()).encrypt(b"x").decode())


def test_what_opens_under_any_passphrase_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such rows are of ciphers that are not opened here at all, so none can be had."""
    monkeypatch.setenv("THEIRS", "their pass")
    monkeypatch.setattr(schemes, "decrypt_symmetric", lambda _data, _passphrase: VALUE.encode())
    with pytest.raises(SealError, match="opens under any passphrase"):
        decoder("pgcrypto:env:THEIRS")("\\xc3")


@pytest.mark.parametrize(
    ("scheme", "layout", "pattern", "why"),
    [
        ("rot13", "", "", "--from is pgcrypto"),
        ("pgcrypto:env:NOT_THERE", "", "", "NOT_THERE is not set"),
        ("fernet:env:THEIRS", "", "", "not one of Fernet's"),
        ("aes-gcm:hexkey@env:THEIRS", "", "", "not one of AES"),
        ("pgcrypto:env:THEIRS", "upside-down", "", "--layout upside-down"),
        ("pgcrypto:env:THEIRS", "", "(", "no regular expression"),
    ],
)
def test_options_that_are_none(scheme: str, layout: str, pattern: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIRS", "zz")
    with pytest.raises(ConfigError, match=why):
        decoder(scheme, layout, pattern)
