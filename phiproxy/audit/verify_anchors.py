"""Whether anchors are genuine, offline: with certificates of the time stamp authority, and public keys of KMS."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import Certificate, load_pem_x509_certificates

from phiproxy.audit.anchors import anchors_in
from phiproxy.errors import ConfigError

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What is known beforehand of those who anchor: root certificates of time stamp authorities, and public keys of KMS."""

    roots: tuple[Certificate, ...] = ()
    keys: tuple[PublicKey, ...] = ()

    @classmethod
    def read(cls, roots: Iterable[Path], keys: Iterable[Path]) -> "Witnessed":
        """Read files in PEM; ConfigError."""
        certificates = [each for path in roots for each in _certificates(path)]
        return cls(tuple(certificates), tuple(_public_key(path) for path in keys))


@dataclass(slots=True)
class Anchored:
    """What the anchors of one file say: how many were verified, the last time that one of them stamps, and what is wrong."""

    verified: int = 0
    unverified: int = 0
    until: datetime | None = None
    wrong: list[str] = field(default_factory=list)


def check_anchors(anchors: bytes, notes: Sequence[bytes], witnessed: Witnessed) -> Anchored:
    """Verify the anchors of a file against the checkpoints beside it, as far as there is something to verify them with."""
    result, by_digest = Anchored(), {sha256(note).hexdigest(): note for note in notes}
    for number, anchor in enumerate(anchors_in(anchors), start=1):
        note = by_digest.get(str(anchor.get("note")))
        if note is None:
            result.wrong.append(f"anchor {number} is of a checkpoint that is not there: checkpoints were cut off or changed")
            continue
        kind = anchor.get("kind")
        if (kind == "rfc3161" and not witnessed.roots) or (kind == "kms" and not witnessed.keys):
            result.unverified += 1
            continue
        stamped: datetime | None = None
        try:
            if kind == "rfc3161":
                stamped = _stamped(anchor, note, witnessed.roots)
            elif kind == "kms":
                _check_signed(anchor, note, witnessed.keys)
            else:
                raise ValueError("it is of no kind that is known")
        except ValueError as error:
            result.wrong.append(f"anchor {number} is not genuine: {error}")
            continue
        result.verified += 1
        if stamped is not None and (result.until is None or stamped > result.until):
            result.until = stamped
    return result


def _stamped(anchor: Mapping[str, Any], note: bytes, roots: Sequence[Certificate]) -> datetime:
    """Return the time of a time stamp; ValueError where it is not one of these authorities over this checkpoint."""
    try:
        from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response  # noqa: PLC0415 - of the extra
    except ModuleNotFoundError:
        raise ConfigError("time stamps are verified with rfc3161-client", hint="pip install 'phiproxy[audit]'") from None
    response = decode_timestamp_response(_decoded(anchor, "response"))
    why: Exception | None = None
    for root in roots:
        try:
            VerifierBuilder().add_root_certificate(root).build().verify_message(response, note)
        except VerificationError as error:
            why = error
        else:
            return response.tst_info.gen_time
    raise ValueError(str(why))


def _check_signed(anchor: Mapping[str, Any], note: bytes, keys: Sequence[PublicKey]) -> None:
    signature, algorithm = _decoded(anchor, "signature"), anchor.get("algorithm")
    for key in keys:
        try:
            if isinstance(key, ec.EllipticCurvePublicKey) and algorithm == "ECDSA_SHA_256":
                key.verify(signature, note, ec.ECDSA(SHA256()))
                return
            if isinstance(key, rsa.RSAPublicKey) and algorithm == "RSASSA_PSS_SHA_256":
                key.verify(signature, note, padding.PSS(padding.MGF1(SHA256()), padding.PSS.AUTO), SHA256())
                return
        except InvalidSignature:
            continue
    raise ValueError("none of the keys has signed it")


def _decoded(anchor: Mapping[str, Any], name: str) -> bytes:
    return base64.b64decode(str(anchor.get(name)), validate=True)


def _certificates(path: Path) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{path} holds no certificate in PEM") from None


def _public_key(path: Path) -> PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} holds no public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise ConfigError(f"{path}: KMS signs with keys of elliptic curves or RSA")
    return key
