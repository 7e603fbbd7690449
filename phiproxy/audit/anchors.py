"""Anchors of checkpoints: somebody else says that a signed head was there, so that not even the holder of the key can make another.

    STEM.anchors    one JSON object a line: {"kind":"rfc3161","note":"…","response":"…"} or {"kind":"kms","key":"…","note":"…", …}

``note`` is the SHA-256 of the checkpoint as it stands in STEM.checkpoints. What is time-stamped (RFC 3161) or signed (KMS Sign) is
the checkpoint itself. An anchor of a checkpoint that is no longer there tells that heads were cut off.
"""

import base64
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol

from phiproxy.audit.open_log_file import append_line
from phiproxy.audit.records import canonical

# In order of preference; what a KMS key signs by is one of what it says itself.
KMS_ALGORITHMS: Final = ("ECDSA_SHA_256", "RSASSA_PSS_SHA_256")
_QUERY: Final = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}
_LARGEST: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class AnchorTarget:
    """Where anchors come from: the URL of a time stamp authority, a KMS key by its ARN or alias, or both; one ``every`` seconds."""

    tsa: str | None
    kms: str | None
    region: str | None
    endpoint: str | None
    every: float
    timeout: float


class Witness(Protocol):
    """Somebody who says that a checkpoint was there."""

    name: str

    def anchor(self, note: bytes) -> dict[str, str]:
        """Return what is kept of it; OSError where it is not given."""


class TimeStamps:
    """A time stamp authority over HTTP (RFC 3161, section 3.4)."""

    name = "time stamps"

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout

    def anchor(self, note: bytes) -> dict[str, str]:
        """Have a checkpoint stamped; whether the stamp is good, ``verify`` says, with certificates."""
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response  # noqa: PLC0415

        asked = TimestampRequestBuilder().data(note).hash_algorithm(HashAlgorithm.SHA256).build()
        request = urllib.request.Request(self._url, asked.as_bytes(), _QUERY)  # noqa: S310 - the setting's pattern says http(s)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                data = answer.read(_LARGEST)
            response = decode_timestamp_response(data)
            stamped = response.tst_info.message_imprint.message == sha256(note).digest() and response.tst_info.nonce == asked.nonce
        except (urllib.error.URLError, HTTPException, ValueError) as error:
            raise OSError(f"no time stamp: {getattr(error, 'reason', None) or type(error).__name__}") from None
        if not stamped:
            raise OSError("the time stamp is of something else")
        return {"kind": "rfc3161", "response": base64.b64encode(data).decode()}


class KmsSignatures:
    """A key of AWS KMS that signs (KeyUsage SIGN_VERIFY), which nobody can take away from there."""

    name = "KMS"

    def __init__(self, key: str, region: str | None, endpoint: str | None, timeout: float) -> None:
        import boto3  # noqa: PLC0415 - only of the extra
        from botocore.config import Config  # noqa: PLC0415

        config = Config(connect_timeout=timeout, read_timeout=timeout, retries={"total_max_attempts": 1})
        region = region or (key.split(":")[3] if key.startswith("arn:") else None)
        self._client = boto3.session.Session().client("kms", region_name=region, endpoint_url=endpoint, config=config)
        self._key, self._algorithm = key, ""

    def anchor(self, note: bytes) -> dict[str, str]:
        """Have a checkpoint signed."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            if not self._algorithm:
                known = self._client.get_public_key(KeyId=self._key)["SigningAlgorithms"]
                self._algorithm = next((each for each in KMS_ALGORITHMS if each in known), "")
            if not self._algorithm:
                raise OSError(f"the KMS key signs by none of {', '.join(KMS_ALGORITHMS)}")
            # A checkpoint is far shorter than the 4096 bytes that KMS hashes itself.
            signed = self._client.sign(KeyId=self._key, Message=note, MessageType="RAW", SigningAlgorithm=self._algorithm)
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"KMS does not sign: {type(error).__name__}") from None
        signature = base64.b64encode(signed["Signature"]).decode()
        return {"kind": "kms", "key": signed["KeyId"], "algorithm": self._algorithm, "signature": signature}


def witnesses(target: AnchorTarget) -> list[Witness]:
    """Return who is asked for anchors."""
    asked: list[Witness] = []
    if target.tsa is not None:
        asked.append(TimeStamps(target.tsa, target.timeout))
    if target.kms is not None:
        asked.append(KmsSignatures(target.kms, target.region, target.endpoint, target.timeout))
    return asked


class Anchors:
    """Anchors a checkpoint now and then, in a thread of its own: a log is written and signed whether witnesses answer or not.

    ``troubled`` is told of which witness, and why, a checkpoint was not anchored; the next one is tried again. Why is None when it
    works again.
    """

    def __init__(
        self, asked: Callable[[], Sequence[Witness]], every: float, troubled: Callable[[str, Exception | None, int], None]
    ) -> None:
        self._every, self._troubled = every, troubled
        self._due = time.monotonic()
        self._failing: set[str] = set()
        self._queue: queue.Queue[tuple[Path, bytes] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(asked,), name="audit anchors", daemon=True)
        self._thread.start()

    def signed(self, path: Path, note: bytes) -> None:
        """Take note of a checkpoint, for whose file the anchors stand in ``path``."""
        if time.monotonic() >= self._due and self._queue.empty():
            self._due = time.monotonic() + self._every
            self._queue.put((path, note))

    def _run(self, asked: Callable[[], Sequence[Witness]]) -> None:
        known: Sequence[Witness] = ()
        while (job := self._queue.get()) is not None:
            try:
                known = known or asked()
            except Exception as error:  # whatever a library raises: the next checkpoint is tried again
                self._tell("anchor", error)
            else:
                if "anchor" in self._failing:
                    self._tell("anchor", None)
            for witness in known:
                self._ask(witness, *job)

    def _ask(self, witness: Witness, path: Path, note: bytes) -> None:
        try:
            said = {**witness.anchor(note), "note": sha256(note).hexdigest()}
            append_line(path, canonical(said))
        except Exception as error:
            self._tell(witness.name, error)
        else:
            if witness.name in self._failing:
                self._tell(witness.name, None)

    def _tell(self, name: str, error: Exception | None) -> None:
        if error is None:
            self._failing.remove(name)
        else:
            self._failing.add(name)
            self._due = time.monotonic()
        self._troubled(name, error, int(error is not None))

    def close(self, timeout: float) -> None:
        """Wait for what is asked for, for at most so many seconds."""
        self._queue.put(None)
        self._thread.join(timeout)


def anchors_in(data: bytes) -> list[dict[str, Any]]:
    """Return what stands in a file of anchors; what is no object, as an empty one. A last line without its end is no anchor."""
    read: list[dict[str, Any]] = []
    for line in data.split(b"\n")[:-1]:
        said: Any = None
        with suppress(ValueError, RecursionError):
            said = json.loads(line)
        read.append(said if isinstance(said, dict) else {})
    return read
