"""The keys of an audit log, derived from its root key: one signs, one seals whose record it was, one makes tags of that."""

import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.audit.checkpoints import Signer
from phiproxy.crypto.key_derivation import expand, keyed

SIGN_LABEL = b"phi/audit/sign/v1"
SEAL_LABEL = b"phi/audit/seal/v1"
TAG_LABEL = b"phi/audit/tag/v1"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """What a proxy needs of the audit root: its 32-byte secret is not kept."""

    signer: Signer
    seed: bytes = field(repr=False)
    sealing: AESGCM = field(repr=False)
    tagging: HMAC = field(repr=False)

    @classmethod
    def derive(cls, secret: bytes, deployment: str) -> "AuditKeys":
        """Derive the keys of a deployment's audit root."""
        name = f"phiproxy-audit/{_NOT_IN_NAMES.sub('-', deployment)}"
        seed = expand(secret, SIGN_LABEL, deployment.encode())
        sealing, tagging = (expand(secret, label, deployment.encode()) for label in (SEAL_LABEL, TAG_LABEL))
        return cls(Signer(name, seed), seed, AESGCM(sealing), keyed(tagging))
