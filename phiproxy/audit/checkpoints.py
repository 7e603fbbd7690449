"""Signed heads of a tree: checkpoints of C2SP tlog-checkpoint, as signed notes with Ed25519 (C2SP signed-note).

    proxy-1/20261127T184500.123456Z.proxy-1.0      origin: the key's name, and which tree it is
    17                                             how many records it covers
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=   the root
    time 2026-11-27T18:46:00.000000Z               an extension line: when it was signed

    — proxy-1 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp…

The time stands in an extension line, which the specification permits and does not recommend: without it nothing would say until
when nothing had happened. Tools that know notes verify these too.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from phiproxy.errors import ConfigError

ED25519: Final = b"\x01"
"""The signature type of a note's key."""
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_VKEY = re.compile(r"([^+\s]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
_BODY = re.compile(r"([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]+)\ntime ([^\n]+)\n")


class BadCheckpoint(Exception):
    """A checkpoint that cannot be believed; the text says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of one tree: ``origin`` names it, ``root`` is that of its first ``size`` leaves, at ``time`` (UTC)."""

    origin: str
    size: int
    root: bytes
    time: datetime

    def body(self) -> str:
        """Return the text that is signed."""
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\ntime {self.time.strftime(TIME_FORMAT)}\n"


class Signer:
    """The signing key of an audit log, with its name; ``seed`` are the 32 bytes of an Ed25519 private key (RFC 8032)."""

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, self._key.public_key())

    def note(self, checkpoint: Checkpoint) -> bytes:
        """Return a checkpoint as a signed note."""
        body = checkpoint.body()
        signature = base64.b64encode(self.verifier.key_id + self._key.sign(body.encode())).decode()
        return f"{body}\n— {self.name} {signature}\n".encode()


class Verifier:
    """The public key of an audit log."""

    def __init__(self, name: str, key: Ed25519PublicKey) -> None:
        self.name = name
        self._key = key
        raw = ED25519 + key.public_bytes_raw()
        self.key_id = sha256(name.encode() + b"\n" + raw).digest()[:4]
        self.text = f"{name}+{self.key_id.hex()}+{base64.b64encode(raw).decode()}"
        """``name+id+key``, as tools for signed notes write a key."""

    @classmethod
    def read(cls, text: str) -> "Verifier":
        """Read ``name+id+key``; ConfigError when it is no such key."""
        match = _VKEY.fullmatch(text.strip())
        try:
            raw = base64.b64decode(match[3], validate=True) if match is not None else b""
        except binascii.Error:
            raw = b""
        if match is None or raw[:1] != ED25519 or len(raw) != 33:
            raise ConfigError("this is no public key of an audit log", hint="`phiproxy audit key` prints it: name+id+key")
        verifier = cls(match[1], Ed25519PublicKey.from_public_bytes(raw[1:]))
        if verifier.key_id.hex() != match[2]:
            raise ConfigError("the public key does not fit its id: it was not copied whole, or is another log's")
        return verifier


def opened(note: bytes, verifiers: Sequence[Verifier]) -> Checkpoint:
    """Return the checkpoint of a note that one of the keys has signed; BadCheckpoint."""
    try:
        text = note.decode()
    except UnicodeDecodeError:
        raise BadCheckpoint("it is not UTF-8") from None
    body, _, signatures = text.partition("\n\n")
    match = _BODY.fullmatch(body + "\n")
    if match is None or not all(line.startswith("— ") for line in signatures.removesuffix("\n").split("\n")):
        raise BadCheckpoint("it is not spelled as a checkpoint")
    try:
        root = base64.b64decode(match[3], validate=True)
        time = datetime.strptime(match[4], TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise BadCheckpoint("it is not spelled as a checkpoint") from None
    if len(root) != 32:
        raise BadCheckpoint("its root is not 32 bytes")
    if not any(_signed_by(verifier, (body + "\n").encode(), signatures) for verifier in verifiers):
        raise BadCheckpoint("none of the given keys has signed it")
    return Checkpoint(match[1], int(match[2]), root, time)


def _signed_by(verifier: Verifier, body: bytes, signatures: str) -> bool:
    lead = f"— {verifier.name} "
    for line in signatures.splitlines():
        if not line.startswith(lead):
            continue
        spelled = line.removeprefix(lead)
        try:
            blob = base64.b64decode(spelled, validate=True)
            verifier._key.verify(blob[4:], body)  # noqa: SLF001 - the class's own module
        except (binascii.Error, InvalidSignature):
            continue
        return blob[:4] == verifier.key_id and base64.b64encode(blob).decode() == spelled
    return False
