"""Rows of the registry's key tables and the cryptography that ties them together; no I/O.

A data key is wrapped by AES-256-KW (RFC 3394, SP 800-38F) under its root, and its row is authenticated by a MAC under
a key of the same root: who can write the registry but not use the KEK cannot revive, prolong or move a key.
"""

import hmac
import os
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from phiproxy.crypto.envelope import MAX_KEY_ID, frame
from phiproxy.crypto.key_derivation import KEY_LENGTH, expand
from phiproxy.crypto.keyring import OPENING, DataKey, KeyState, Refusal
from phiproxy.keys.provider import Context, Purpose

REGISTRY_LABEL: Final = b"phi/registry/v1"


class WrapRow(NamedTuple):
    """One wrap of a root key: under which KEK, and which version of it."""

    kek_uri: str
    kek_version: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class RootRow:
    """One row of ``root_key`` with its wraps, the most recently verified first; ``age`` in seconds as of when it was read.

    ``authentic``: nothing says that row and wraps are not as phiproxy has left them.
    """

    id: int
    scope: str
    tenant: str
    purpose: Purpose
    generation: int
    state: KeyState
    wraps: tuple[WrapRow, ...] = field(repr=False)
    age: float = field(default=0.0, compare=False)
    authentic: bool = True

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the row in the registry."""
        return self.scope, self.tenant, self.purpose, str(self.generation)

    def context(self, deployment: str) -> Context:
        """Return what this root is wrapped with."""
        return Context(deployment, self.scope, self.tenant, self.purpose, self.generation)


@dataclass(frozen=True, slots=True)
class DataKeyRow:
    """One row of ``data_key``; ``used`` and ``age`` (seconds) are as of when it was read, and ``used`` is not authenticated."""

    id: int
    root_id: int
    generation: int
    wrapped: bytes = field(repr=False)
    state: KeyState
    max_uses: int
    mac: bytes = field(repr=False)
    used: int = 0
    age: float = field(default=0.0, compare=False)
    authentic: bool = True


class RegistryReader(Protocol):
    """Where rows are read from: the registry in the database, or a dump of it."""

    async def data_keys(self, ids: frozenset[int]) -> list[DataKeyRow]:
        """Return the rows of these ids; ids that are not there are left out."""

    async def roots(self, ids: frozenset[int]) -> list[RootRow]:
        """Return these root keys with their wraps."""


def registry_mac(root: bytes, row: DataKeyRow, state: KeyState) -> bytes:
    """Return the 32-byte MAC of a row in ``state``, under its root's secret (spec/stored-format 3.3)."""
    mac = HMAC(expand(root, REGISTRY_LABEL), SHA256())
    numbers = (row.id, row.root_id, row.generation)
    mac.update(frame(*(b"%d" % n for n in numbers), state.encode(), b"%d" % row.max_uses, row.wrapped))
    return mac.finalize()


def new_data_key(root: bytes, root_id: int, generation: int, max_uses: int, state: KeyState = "active") -> DataKeyRow:
    """Draw a data key and its id, a random non-zero u32; return its row, authenticated in this state."""
    key_id = 0
    while key_id == 0:
        key_id = int.from_bytes(os.urandom(4), "big")
    wrapped = aes_key_wrap(root, os.urandom(KEY_LENGTH))
    return in_state(root, DataKeyRow(key_id, root_id, generation, wrapped, state, max_uses, b""), state)


def in_state(root: bytes, row: DataKeyRow, state: KeyState) -> DataKeyRow:
    """Return the row as it is after a change of state, authenticated."""
    return replace(row, state=state, mac=registry_mac(root, row, state))


def is_authentic(root: bytes, row: DataKeyRow) -> bool:
    """Say whether the row is as somebody with the use of its root left it, and the registry's manifest does not say otherwise."""
    return row.authentic and 0 < row.id <= MAX_KEY_ID and hmac.compare_digest(registry_mac(root, row, row.state), row.mac)


def refusal_of(row: DataKeyRow, root: RootRow) -> Refusal | None:
    """Return why a row's key must not be used whatever its secret is: it, or the root above it, has ended or is not authentic."""
    if not (row.authentic and root.authentic):
        return "not authentic in the registry"
    for state in (row.state, root.state):
        if state not in OPENING:
            return "destroyed" if state == "destroyed" else "retired"
    return None


def unwrap_data_key(secret: bytes, row: DataKeyRow, root: RootRow, *, stale: bool = False) -> DataKey | Refusal:
    """Return the data key of a row under its root's 32-byte ``secret``, or the reason why it is not used."""
    if root.purpose != "data" or row.root_id != root.id or not is_authentic(secret, row):
        return "not authentic in the registry"
    refusal = refusal_of(row, root)
    if refusal is not None:
        return refusal
    try:
        key = aes_key_unwrap(secret, row.wrapped)
    except InvalidUnwrap:
        return "not authentic in the registry"
    if len(key) != KEY_LENGTH:
        return "not authentic in the registry"
    state: KeyState = "compromised" if root.state == "compromised" else row.state
    return DataKey(row.id, root.scope, root.tenant, root.id, key, state, stale)
