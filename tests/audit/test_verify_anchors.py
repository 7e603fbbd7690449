"""What stands in a file of anchors is not trusted; what good ones are: test_anchors."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from phiproxy.audit.records import canonical
from phiproxy.audit.verify_anchors import Witnessed, check_anchors
from phiproxy.errors import ConfigError

NOTE = b"checkpoint\n"
KEY = ec.generate_private_key(ec.SECP256R1())
WITNESSED = Witnessed(keys=(KEY.public_key(),))


def anchor(**changes: object) -> dict[str, object]:
    signature = b64encode(KEY.sign(NOTE, ec.ECDSA(SHA256()))).decode()
    good = {"kind": "kms", "algorithm": "ECDSA_SHA_256", "note": sha256(NOTE).hexdigest(), "signature": signature}
    return {**good, **changes}


def wrong(*anchors: object) -> list[str]:
    data = b"".join((each if isinstance(each, bytes) else canonical(each)) + b"\n" for each in anchors)
    return check_anchors(data, [NOTE], WITNESSED).wrong


def test_a_genuine_one_is_counted() -> None:
    assert wrong(anchor()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "AAAA"}, {"signature": "no base64!"}, {"signature": None}, {"algorithm": "RSASSA_PSS_SHA_256"},
        {"algorithm": None},
    ],
)  # fmt: skip
def test_any_other_is_not_genuine(change: dict[str, object]) -> None:
    (text,) = wrong(anchor(**change))
    assert text.startswith("anchor 1 is not genuine")


def test_lines_that_are_no_anchors_are_told() -> None:
    texts = wrong(anchor(), b"no json", b"[]", {}, anchor(kind="said"), anchor(note=sha256(b"x").hexdigest()))
    assert [text.split()[1] for text in texts] == ["2", "3", "4", "5", "6"]


def test_only_keys_that_kms_signs_with_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ed.pem"
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(ConfigError, match="elliptic curves or RSA"):
        Witnessed.read([], [path])
