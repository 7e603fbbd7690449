"""What authenticates the key registry as a whole: a MAC per row, manifests of these MACs, a counter over the manifests; no I/O.

Whoever can write the registry but not use the KEK must not be able to add, change, remove or put back a row unnoticed (normative:
docs/registry.md). An older row differs from its manifest, an older manifest from the counter's row, and an older counter from what
its readers have seen (``counter_file``). A change rewrites the manifests of the groups that it touches and the counter's row,
whatever the number of rows elsewhere; a reader reads the manifests of the rows that it reads, once per change of theirs.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.crypto.envelope import frame
from phiproxy.crypto.key_derivation import expand, keyed
from phiproxy.errors import NotAuthentic

ROW_LABEL: Final = b"phi/registry/row/v1"
MANIFEST_LABEL: Final = b"phi/registry/manifest/v1"
COUNTER_LABEL: Final = b"phi/registry/counter/v1"
ANCHOR_LABEL: Final = b"phi/registry/anchor/v1"

ROW_MAC_LENGTH: Final = 16

LAYOUT_GROUP: Final = "layout"
"""Of identities, names, slots and ``meta``."""
JOBS_GROUP: Final = "jobs"
"""Of jobs over the tables."""
BUCKETS: Final = 64
"""Groups of root keys, wraps and data keys: ten thousand tenants make manifests of some ten kilobytes."""


class Row(NamedTuple):
    """One row as it is authenticated: key and fields as text, in the order of ``tables``; None is SQL's NULL."""

    table: str
    key: tuple[str, ...]
    fields: tuple[str | None, ...]

    @property
    def label(self) -> bytes:
        """``frame(table, key…)``: what names the row in its manifest."""
        return row_label(self.table, self.key)

    @property
    def text(self) -> str:
        """The row for people: names and numbers only."""
        return row_text(self.table, self.key)


def row_label(table: str, key: Iterable[str]) -> bytes:
    """Return ``frame(table, key…)``."""
    return frame(table.encode(), *(part.encode() for part in key))


def row_text(table: str, key: Iterable[str]) -> str:
    """Return how messages name a row: its table, and its key with names in quotes."""
    return f"{table} ({', '.join(part if part.isdecimal() else repr(part) for part in key)})"


def parse_label(label: bytes) -> tuple[str, ...]:
    """Return the parts of a label: the table and the key."""
    return tuple(part.decode() for part in _parts(label))


def scope_group(scope: str, tenant: str) -> str:
    """Return the group of the root keys of a place, their wraps and their data keys."""
    return f"keys {sha256(frame(scope.encode(), tenant.encode())).digest()[0] % BUCKETS}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The MACs of the rows of a group by their labels, as of the ``counter`` of the group's last change."""

    group: str
    counter: int
    macs: Mapping[bytes, bytes] = field(repr=False)

    def encode(self) -> bytes:
        """Return the frames of (label, MAC), in the order of the labels."""
        return b"".join(frame(label, mac) for label, mac in sorted(self.macs.items()))


@dataclass(frozen=True, slots=True)
class Counter:
    """How many changes the registry has seen, and each group's counter of its last one."""

    value: int
    groups: Mapping[str, int]

    def encode(self) -> bytes:
        """Return the frames of (group, counter), in the order of the groups."""
        return b"".join(frame(group.encode(), b"%d" % value) for group, value in sorted(self.groups.items()))


class RegistryKey:
    """What is derived from the registry key of one deployment. The key itself is not kept."""

    def __init__(self, secret: bytes, deployment: str) -> None:
        self.deployment = deployment
        self._rows, self._manifests, self._counter = (
            keyed(expand(secret, label, deployment.encode())) for label in (ROW_LABEL, MANIFEST_LABEL, COUNTER_LABEL)
        )
        self.anchor = "reg1-" + expand(secret, ANCHOR_LABEL, deployment.encode()).hex()
        """The key's fingerprint: an output of the derivation that nothing else uses, so it tells nothing of the others."""

    def row_mac(self, row: Row) -> bytes:
        """Return the 16-byte MAC of a row."""
        parts = (b"\x00" if value is None else b"\x01" + value.encode() for value in row.fields)
        return _mac(self._rows, frame(row.table.encode(), *(k.encode() for k in row.key), *parts))[:ROW_MAC_LENGTH]

    def manifest_mac(self, manifest: Manifest) -> bytes:
        """Return the 32-byte MAC of a manifest."""
        return _mac(self._manifests, frame(manifest.group.encode(), b"%d" % manifest.counter, manifest.encode()))

    def counter_mac(self, counter: Counter) -> bytes:
        """Return the 32-byte MAC of the counter's row."""
        return _mac(self._counter, frame(b"%d" % counter.value, counter.encode()))

    def open_manifest(self, group: str, value: int, entries: bytes, mac: bytes) -> Manifest:
        """Return a manifest as it is stored; NotAuthentic when it is not as it was written."""
        if not (
            _is_stored(value, entries, mac)
            and hmac.compare_digest(_mac(self._manifests, frame(group.encode(), b"%d" % value, entries)), mac)
        ):
            raise NotAuthentic(f"the manifest of {group} in the key registry is not authentic")
        parts = _parts(entries)
        return Manifest(group, value, dict(zip(parts[::2], parts[1::2], strict=True)))

    def open_counter(self, value: int, groups: bytes, mac: bytes) -> Counter:
        """Return the counter as it is stored; NotAuthentic when it is not as it was written."""
        if not (_is_stored(value, groups, mac) and hmac.compare_digest(_mac(self._counter, frame(b"%d" % value, groups)), mac)):
            raise NotAuthentic("the counter of the key registry is not authentic")
        parts = _parts(groups)
        return Counter(value, {name.decode(): int(at) for name, at in zip(parts[::2], parts[1::2], strict=True)})


def _is_stored(value: object, entries: object, mac: object) -> bool:
    """Say whether these have the types that they were written as: who owns a table gives its columns any."""
    return isinstance(value, int) and isinstance(entries, bytes) and isinstance(mac, bytes)


def _mac(keyed_mac: HMAC, data: bytes) -> bytes:
    mac = keyed_mac.copy()
    mac.update(data)
    return mac.finalize()


def _parts(framed: bytes) -> list[bytes]:
    """Undo ``frame``; only for what was authenticated."""
    parts, at = [], 0
    while at < len(framed):
        end = at + 4 + int.from_bytes(framed[at : at + 4])
        parts.append(framed[at + 4 : end])
        at = end
    return parts
