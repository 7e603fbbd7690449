"""Keys already in memory: answers, or raises KeyNeeded; no I/O, and time is handed in.

Filled by ``phiproxy.keys``; asked by ``seal``, ``blind_tags`` and plans. One keyring serves one database and one tenant. All
here expires with the root key that it was unwrapped or derived from (spec/stored-format 3.7). Not for use from several threads.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol
from weakref import WeakSet

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from phiproxy.crypto.key_derivation import Secret, keyed, wipe
from phiproxy.errors import (
    DataKeyWant,
    IndexKeyWant,
    KeyNeeded,
    KeyWant,
    MaskKeyWant,
    NotAuthentic,
    OtherTenant,
    PhiproxyError,
    SealError,
    WriteKeyWant,
)

KeyState = Literal["pending", "active", "decrypt_only", "compromised", "retired", "destroyed"]
"""SP 800-57 part 1, section 7, as spec/stored-format 3.5 names them."""

Refusal = Literal["not known", "retired", "destroyed", "not authentic in the registry", "of another tenant"]
"""Why a data key will not be used: constants, since they end up in error texts."""

_ERRORS: dict[Refusal, type[PhiproxyError]] = {"of another tenant": OtherTenant, "not authentic in the registry": NotAuthentic}

OPENING: frozenset[KeyState] = frozenset({"pending", "active", "decrypt_only", "compromised"})

# 100 000 keys are 3.2 MB of key bytes, and at 1e6 values a key more data than one proxy will have open at a time.
MAX_DATA_KEYS = 100_000

# Ids that are not keys can be invented by whoever writes the tables; remembering them must not cost memory without
# bound.
MAX_REFUSALS = 10_000


@dataclass(frozen=True, slots=True)
class DataKey:
    """One data key, unwrapped: 32 bytes ``secret``.

    ``stale``: its root could not be renewed in time, so reads are audited. ``mac`` is HMAC-SHA-256 keyed with the secret, where the
    key is kept: to be copied and never updated, and only while the secret is there.
    """

    id: int
    scope: str
    tenant: str
    root_id: int
    secret: Secret = field(repr=False)
    state: KeyState
    stale: bool = False
    mac: HMAC | None = field(default=None, repr=False, compare=False)

    def kept(self) -> DataKey:
        """Return the same key with bytes of its own, which can be overwritten when it is given up."""
        return replace(self, secret=bytearray(self.secret), mac=keyed(self.secret))


class _Entry(NamedTuple):
    key: DataKey
    expires: float


@dataclass(slots=True)
class _Lease:
    key: DataKey | None  # None once expired: the count survives, the secret does not
    key_id: int
    root_id: int
    left: int
    expires: float


class _IndexEntry(NamedTuple):
    mac: HMAC
    root_id: int
    expires: float


class _Taken:
    """HMACs of index keys that are taken together again and again, the roots they came from, and until when none expires."""

    __slots__ = ("__weakref__", "macs", "roots", "until")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop them: the keys have changed."""
        self.macs: list[Sequence[HMAC]] = []
        self.roots: frozenset[int] = frozenset()
        self.until = -math.inf


class Forgets(Protocol):
    """What remembers something derived from data keys."""

    def forget(self, key_id: int) -> None:
        """Drop whatever was derived from this data key."""


class Keyring:
    """Data keys, write leases and index keys, each with its expiry and its root.

    ``clock`` returns monotonic seconds, the unit of every ``expires`` and ``until`` here. At most ``max_data_keys``
    are kept; the least recently used goes first.
    """

    def __init__(self, clock: Callable[[], float], *, max_data_keys: int = MAX_DATA_KEYS) -> None:
        self.clock = clock
        self._max = max_data_keys
        self._data: OrderedDict[int, _Entry] = OrderedDict()
        self._refused: OrderedDict[int, tuple[Refusal, float]] = OrderedDict()
        self._leases: dict[str, _Lease] = {}
        self._index: dict[tuple[int, int | str], _IndexEntry] = {}
        self._taken: WeakSet[_Taken] = WeakSet()
        self._watchers: WeakSet[Forgets] = WeakSet()
        self._used: set[int] = set()

    # -- asked by the core --------------------

    def data_key_until(self, key_id: int) -> tuple[DataKey, float]:
        """Return the data key of this id, for opening, and until when it may be used without asking again, unless it is forgotten.

        Raises KeyNeeded when it is not cached or has expired; naming the id, SealError when it is known that it must not be used,
        and NotAuthentic when somebody has changed it in the registry.
        """
        entry = self._data.get(key_id)
        if entry is not None and entry.expires > self.clock():
            self._data.move_to_end(key_id)
            self._used.add(entry.key.root_id)
            return entry
        if entry is not None:
            self._forget(key_id)
        refused = self._refused.get(key_id)
        if refused is not None:
            reason, until = refused
            if until > self.clock():
                raise _ERRORS.get(reason, SealError)(f"data key {key_id} is {reason}")
            del self._refused[key_id]
        raise KeyNeeded({DataKeyWant(key_id)})

    def reserve(self, scope: str, uses: int) -> DataKey:
        """Take ``uses`` uses (salts to be drawn) of the scope's active data key in one step, all of one key.

        Raises KeyNeeded, and takes nothing, when the lease does not hold that many or has expired; ValueError when ``uses`` < 1.
        """
        if uses < 1:
            raise ValueError("at least one use")
        lease = self._leases.get(scope)
        if lease is None or lease.key is None or lease.left < uses or lease.expires <= self.clock():
            raise KeyNeeded({WriteKeyWant(scope, uses)})
        lease.left -= uses
        self._used.add(lease.root_id)
        return lease.key

    def index_mac(self, number: int, slot: int) -> HMAC:
        """Return a slot's keyed HMAC-SHA-256, to be copied and never updated; KeyNeeded when it is not cached or has expired."""
        entry = self._index.get((number, slot))
        if entry is None or entry.expires <= self.clock():
            raise KeyNeeded({IndexKeyWant(number, slot)})
        self._used.add(entry.root_id)
        return entry.mac

    def index_macs(self, columns: Sequence[Sequence[IndexKeyWant]]) -> list[Sequence[HMAC]]:
        """Return ``index_mac`` of each slot of each column, looked at once; KeyNeeded for all that are missing together."""
        now, index, used = self.clock(), self._index, self._used
        per_column: list[Sequence[HMAC]] = []
        for wants in columns:
            macs = []
            for want in wants:
                entry = index.get(want)
                if entry is None or entry.expires <= now:
                    raise KeyNeeded({want for wants in columns for want in wants if not self.has(want)})
                used.add(entry.root_id)
                macs.append(entry.mac)
            per_column.append(macs)
        return per_column

    def index_macs_of(self, columns: Sequence[Sequence[IndexKeyWant]]) -> Callable[[], list[Sequence[HMAC]]]:
        """Return what gives ``index_macs`` of these columns time and again, at the cost of a look at the clock."""
        taken, wants = _Taken(), [want for wants in columns for want in wants]
        self._taken.add(taken)

        def take() -> list[Sequence[HMAC]]:
            if taken.until <= self.clock():
                taken.macs = self.index_macs(columns)
                entries = [self._index[want] for want in wants]
                taken.roots = frozenset(entry.root_id for entry in entries)
                taken.until = min((entry.expires for entry in entries), default=math.inf)
            self._used.update(taken.roots)
            return taken.macs

        return take

    def _index_changed(self) -> None:
        for taken in self._taken:
            taken.forget()

    def mask_mac(self, number: int, role: str) -> HMAC:
        """Return HMAC-SHA-256 under the key of a role's pseudonyms; all as of ``index_mac``."""
        want = MaskKeyWant(number, role)
        entry = self._index.get(want)
        if entry is None or entry.expires <= self.clock():
            raise KeyNeeded({want})
        self._used.add(entry.root_id)
        return entry.mac

    # -- filled by keys --------------------

    def has(self, want: KeyWant) -> bool:
        """Say whether asking again would be answered, by a key or by a SealError; takes nothing."""
        now = self.clock()
        if isinstance(want, DataKeyWant):
            entry, refused = self._data.get(want.key_id), self._refused.get(want.key_id)
            return (entry is not None and entry.expires > now) or (refused is not None and refused[1] > now)
        if isinstance(want, WriteKeyWant):
            lease = self._leases.get(want.scope)
            return lease is not None and lease.key is not None and lease.left >= want.uses and lease.expires > now
        index = self._index.get(want)
        return index is not None and index.expires > now

    def balance(self, scope: str) -> tuple[int, int]:
        """Return (data key id, uses left) of the scope's lease, expired or not; (0, 0) where there is none."""
        lease = self._leases.get(scope)
        return (0, 0) if lease is None else (lease.key_id, lease.left)

    def put_data_key(self, key: DataKey, expires: float) -> None:
        """Keep a key for opening until ``expires``; ValueError when its state does not allow opening."""
        if key.state not in OPENING:
            raise ValueError("a key in this state does not open; use put_missing")
        self._forget(key.id)
        self._refused.pop(key.id, None)
        self._data[key.id] = _Entry(key.kept(), expires)
        while len(self._data) > self._max:
            self._forget(next(iter(self._data)))

    def put_missing(self, key_id: int, until: float, reason: Refusal = "not known") -> None:
        """Remember until then that this id must not be used, and why; a cached key of this id is dropped."""
        self._forget(key_id)
        self._refused[key_id] = (reason, until)
        self._refused.move_to_end(key_id)
        while len(self._refused) > MAX_REFUSALS:
            self._refused.popitem(last=False)

    def put_lease(self, scope: str, key: DataKey, uses: int, expires: float) -> None:
        """Add ``uses`` leased uses of an active key: what is left of the same key's lease is kept, another key's is given up.

        Zero uses renew an expired lease: what was counted in the registry once is not counted twice.
        """
        if key.state != "active":
            raise ValueError("only an active key is leased")
        old = self._leases.get(scope)
        left = old.left if old is not None and old.key_id == key.id else 0
        self.drop_lease(scope)
        self._leases[scope] = _Lease(key.kept(), key.id, key.root_id, left + uses, expires)

    def put_index_key(self, number: int, slot: int | str, key: Secret, root_id: int, expires: float) -> None:
        """Keep HMAC-SHA-256 under the 32-byte key of a slot, or of a role's pseudonyms, until ``expires``, and not the key."""
        self._index[number, slot] = _IndexEntry(HMAC(key, SHA256()), root_id, expires)
        self._index_changed()

    def used_roots(self) -> frozenset[int]:
        """Return the roots that something came from which was asked for since they were last unwrapped."""
        return frozenset(self._used)

    def extend(self, root_id: int, expires: float) -> None:
        """Let everything that came from a root, which was just unwrapped again, live on until ``expires``."""
        self._used.discard(root_id)
        for key_id, entry in list(self._data.items()):
            if entry.key.root_id == root_id:
                if entry.key.stale:
                    self._forget(key_id)
                else:
                    self._data[key_id] = entry._replace(expires=expires)
        for lease in self._leases.values():
            if lease.root_id == root_id and lease.key is not None:
                lease.expires = expires
        for at, index in list(self._index.items()):
            if index.root_id == root_id:
                self._index[at] = index._replace(expires=expires)
        self._index_changed()

    def held(self) -> dict[int, KeyState]:
        """Return the states of the data keys that are held for opening, by id."""
        return {key_id: entry.key.state for key_id, entry in self._data.items()}

    def leased(self) -> dict[str, int]:
        """Return the ids of the data keys that are leased for writing, by scope."""
        return {scope: lease.key_id for scope, lease in self._leases.items()}

    def drop_data_key(self, key_id: int) -> None:
        """Drop a data key, so that the next use asks for it again; a refusal of it is forgotten too."""
        self._forget(key_id)
        self._refused.pop(key_id, None)

    def drop_lease(self, scope: str) -> None:
        """Give up the scope's lease: its key may no longer be written with."""
        lease = self._leases.pop(scope, None)
        if lease is not None and lease.key is not None:
            wipe(lease.key.secret)

    def drop_root(self, root_id: int) -> None:
        """Drop everything that was unwrapped with or derived from this root key."""
        self._used.discard(root_id)
        for key_id in [i for i, entry in self._data.items() if entry.key.root_id == root_id]:
            self._forget(key_id)
        for scope in [s for s, lease in self._leases.items() if lease.root_id == root_id]:
            self.drop_lease(scope)
        self._index = {at: entry for at, entry in self._index.items() if entry.root_id != root_id}
        self._index_changed()

    def sweep(self) -> None:
        """Drop what has expired, asked for or not, so that no key outlives its root in memory."""
        now = self.clock()
        for key_id in [i for i, entry in self._data.items() if entry.expires <= now]:
            self._forget(key_id)
        self._index = {at: entry for at, entry in self._index.items() if entry.expires > now}
        self._index_changed()
        for lease in self._leases.values():
            if lease.expires <= now and lease.key is not None:
                wipe(lease.key.secret)
                lease.key = None

    def clear(self) -> None:
        """Drop everything."""
        for key_id in list(self._data):
            self._forget(key_id)
        self._refused.clear()
        for scope in list(self._leases):
            self.drop_lease(scope)
        self._index.clear()
        self._index_changed()

    def watch(self, memo: Forgets) -> None:
        """Have ``memo.forget(key id)`` called when a data key leaves or is replaced, for as long as the memo lives."""
        self._watchers.add(memo)

    def _forget(self, key_id: int) -> None:
        entry = self._data.pop(key_id, None)
        if entry is not None:
            wipe(entry.key.secret)
            for memo in self._watchers:
                memo.forget(key_id)
