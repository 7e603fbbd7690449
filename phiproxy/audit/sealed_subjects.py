"""Whose record it was: sealed under the audit key, and found again by a tag, so that a stolen log does not say it.

    "subjects":{"public.patients.id":{"sealed":["9GyQ…"]},"public.visits.patient_id":{"rows":5000,"unknown":true}}

``sealed`` are the different values, each base64 of a 16-byte tag (the keyed hash of the value) and what AES-256-GCM makes of it.
Its nonce is the tag's beginning, so that equal values are sealed alike, and no nonce ever serves for two values (a synthetic nonce,
as in RFC 8452). Values are padded to multiples of 16 bytes. ``rows`` says in how many rows there was a subject, where these were
too many; ``unknown`` that rows may be about others too: the statement's shape is all that is known of whom.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from phiproxy.audit.audit_keys import AuditKeys
from phiproxy.audit.records import canonical
from phiproxy.plan.counted_subjects import Whom

TAG_SIZE: Final = 16
_NONCE_SIZE: Final = 12
_BLOCK: Final = 16
_PURPOSE: Final = b"phi/audit/subject/v1"
# Subjects that are seen again within a while, as those of a ward are, are sealed once.
_MAX_SEALED: Final = 4096


class SubjectSeals:
    """Seals and opens the subjects of records; ``limit`` is how many of one execution are recorded one by one."""

    def __init__(self, keys: AuditKeys, limit: int = 0) -> None:
        self.limit = limit
        self._sealing, self._tagging = keys.sealing, keys.tagging
        self.seal = lru_cache(maxsize=_MAX_SEALED)(self._seal)

    def tag(self, value: bytes) -> bytes:
        """Return the 16-byte tag of a value, as it is spelled (``policy.subject_columns``)."""
        mac = self._tagging.copy()
        mac.update(value)
        return mac.finalize()[:TAG_SIZE]

    def _seal(self, value: bytes) -> str:
        tag = self.tag(value)
        padded = value + b"\x80" + bytes(-(len(value) + 1) % _BLOCK)
        return b64encode(tag + self._sealing.encrypt(tag[:_NONCE_SIZE], padded, _PURPOSE)).decode()

    def opened(self, sealed: str) -> str | None:
        """Return the value that a record has sealed; None for what another audit key has, or what is no sealed value."""
        try:
            data = b64decode(sealed, validate=True)
            padded = self._sealing.decrypt(data[:_NONCE_SIZE], data[TAG_SIZE:], _PURPOSE)
        except (ValueError, InvalidTag):
            return None
        return padded.rpartition(b"\x80")[0].decode("utf-8", "replace")

    def spelled(self, about: Sequence[Whom]) -> bytes:
        """Return what a record says of whom it is about, between its other fields."""
        said: dict[str, dict[str, object]] = {}
        for whom in about:
            own = said[whom.label] = {}
            if whom.values:
                own["sealed"] = [self.seal(value) for value in whom.values]
            if whom.rows:
                own["rows"] = whom.rows
            if whom.unknown:
                own["unknown"] = True
        return b',"subjects":' + canonical(said)


def sealed_in(record: Mapping[str, Any], label: str | None = None) -> Iterator[str]:
    """Yield what a record has sealed, of one subject column or of all."""
    for column, said in _said(record, label):
        if column:
            yield from (one for one in said.get("sealed", ()) if isinstance(one, str))


def is_open_ended(record: Mapping[str, Any], label: str | None = None) -> bool:
    """Tell whether a record may be about anybody: there were too many, or it is not known whom its rows are about."""
    return any("rows" in said or "unknown" in said for _, said in _said(record, label))


def _said(record: Mapping[str, Any], label: str | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    said = record.get("subjects")
    for column, own in said.items() if isinstance(said, dict) else ():
        if isinstance(own, dict) and label in (None, column, column.rpartition(".")[0]):
            yield column, own
