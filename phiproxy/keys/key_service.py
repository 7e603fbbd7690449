"""Fills the keyring with what the core says it needs: data keys, write leases, index keys. The only mover of keys at run time.

The relay awaits ``fetch`` and tries its frame again. Waiting for the same thing is shared, different things do not wait for each
other, and nothing put into the ring outlives the root key it came from.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from phiproxy.crypto.blind_tags import derive_index_key, derive_mask_key
from phiproxy.crypto.keyring import OPENING, DataKey, Keyring, Refusal
from phiproxy.errors import (
    DataKeyWant,
    IndexKeyWant,
    KeyWant,
    MaskKeyWant,
    ProviderError,
    ProviderMisconfigured,
    ProviderUnavailable,
    WriteKeyWant,
)
from phiproxy.keys.key_rows import DataKeyRow, RootRow, unwrap_data_key
from phiproxy.keys.new_tenants import ensure_root
from phiproxy.keys.provider import Purpose
from phiproxy.keys.registry import Registry
from phiproxy.keys.registry_checked_on_read import Fault
from phiproxy.keys.resolve_data_key import Resolved, resolve_data_keys
from phiproxy.keys.root_cache import CacheLimits, Root, RootCache
from phiproxy.keys.rotation import roll_data_key, rotate_root
from phiproxy.keys.tenant_keks import Kek
from phiproxy.keys.unwrap_outcomes import UnwrapOutcomes
from phiproxy.policy.registry_layout import Layout

# How often a writer that finds the key used up or rolled under its hands looks again before it gives up.
ATTEMPTS = 16

# How long after a root key could not be rotated, though its year is over, it is tried again (seconds).
ROTATE_AGAIN = 3600.0

# Looking through 100 000 keys takes milliseconds, which a burst of unknown key ids must not cost each time (seconds).
SWEEP_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """``keys.cache`` and ``keys.rotation`` of spec/configuration 1.6; seconds and counts.

    ``block`` is how many uses one lease takes: a crash wastes at most that many. ``missing_ttl`` is how long an unknown
    key id stays unknown without another look.
    """

    cache: CacheLimits = field(default_factory=CacheLimits)
    max_age: float = 90 * 86400.0
    max_uses: int = 1_000_000
    root_max_age: float = 365 * 86400.0
    block: int = 10_000
    missing_ttl: float = 5.0


class KeyService:
    """Fetches keys for one database and one tenant into one keyring.

    ``clock`` must be the keyring's own. ``warn`` is told of a root key that is due
    and cannot be rotated, ``watch`` of how unwraps went and of data keys that are not used.
    """

    def __init__(
        self,
        registry: Registry,
        kek: Kek,
        ring: Keyring,
        layout: Layout,
        *,
        deployment: str,
        clock: Callable[[], float],
        limits: KeyLimits | None = None,
        tenant: str = "",
    ) -> None:
        if layout.deployment != deployment:
            raise ProviderMisconfigured(f"the key registry belongs to deployment {layout.deployment}, not {deployment}")
        self._registry = registry
        self._kek = kek
        self._ring = ring
        self._layout = layout
        self._clock = clock
        self._limits = limits or KeyLimits()
        self._tenant = tenant
        self._roots = RootCache(kek, deployment, self._limits.cache, clock, ring.drop_root)
        self._swept = clock()
        self._reading = asyncio.Lock()
        self._locks: dict[str | int, asyncio.Lock] = {}
        self._overdue: dict[int, float] = {}
        self._taken: dict[int, int] = {}
        self.warn: Callable[[RootRow, ProviderError], None] = lambda _root, _error: None
        self.watch = UnwrapOutcomes()
        self._roots.told = lambda root, error, seconds: self.watch.unwrapped(root, error, seconds)  # noqa: PLW0108 - the watch may be replaced

    def adopt(self, layout: Layout) -> None:
        """Go on with a newer layout of the same registry."""
        if layout.deployment != self._layout.deployment:
            raise ProviderMisconfigured("a key registry cannot change its deployment")
        self._layout = layout

    @property
    def age(self) -> float:
        """Seconds since the oldest root key that is held was unwrapped; 0 where none is held."""
        return self._roots.age

    def sweep(self) -> None:
        """Drop what has expired; to be called now and then while nothing is fetched."""
        self._swept = self._clock()
        self._ring.sweep()
        self._roots.sweep()

    def forget(self) -> None:
        """Drop every key: the next use asks the provider again (SIGHUP, a changed epoch)."""
        self._roots.forget()
        self._ring.clear()

    async def refresh_ahead(self) -> None:
        """Unwrap again the roots that are in use and whose time is nearly up; to be called now and then, by one task.

        Whoever seals and opens meanwhile goes on with what is held. Raises ProviderUnavailable when the registry does not answer.
        """
        due = self._roots.due() & self._ring.used_roots()
        if not due:
            return
        rows = await self._registry.roots(due)
        for row, root in zip(rows, await asyncio.gather(*(self._roots.renew(row) for row in rows)), strict=True):
            if root is not None:
                self._ring.extend(row.id, root.expires)

    async def reconcile(self) -> None:
        """Look at the state of every key that is held, after the registry's epoch changed: no KEK is asked.

        A lease of a key that does not write any more is given up, a key in another state than before is asked for again, and what
        has ended is dropped at once. Raises ProviderUnavailable when the registry does not answer.
        """
        held, leased, roots = self._ring.held(), self._ring.leased(), self._roots.held()
        data_keys = {row.id: row for row in await self._registry.data_keys(frozenset(held) | frozenset(leased.values()))}
        current_roots = {root.id: root for root in await self._registry.roots(roots)}
        for root_id in roots:
            root = current_roots.get(root_id)
            if root is None or root.state not in OPENING or not root.authentic:
                self._roots.drop(root_id)
        for scope, key_id in leased.items():
            row = data_keys.get(key_id)
            if row is None or row.state != "active" or not row.authentic:
                self._ring.drop_lease(scope)
        for key_id, state in held.items():
            row = data_keys.get(key_id)
            if row is None or row.state != state or not row.authentic:
                self._ring.drop_data_key(key_id)

    def stop_writing(self) -> None:
        """Give up every lease: the next value that is stored asks again, and is refused while the registry is rolled back."""
        for scope in self._ring.leased():
            self._ring.drop_lease(scope)

    async def fetch(self, wants: frozenset[KeyWant]) -> None:
        """Put what is wanted into the keyring, or the refusal of it.

        Raises ProviderDenied, ProviderUnavailable or ProviderMisconfigured; what could be had is in the ring all the same.
        """
        if self._clock() >= self._swept + SWEEP_EVERY:
            self.sweep()
        ids, uses, slots = set[int](), Counter[str](), defaultdict[int, list[IndexKeyWant | MaskKeyWant]](list)
        for want in wants:
            if isinstance(want, DataKeyWant):
                ids.add(want.key_id)
            elif isinstance(want, WriteKeyWant):
                uses[want.scope] += want.uses
            else:
                slots[want.number].append(want)
        jobs = [self._fetch_data_keys(frozenset(ids))] if ids else []
        jobs += [self._fetch_lease(WriteKeyWant(scope, count)) for scope, count in uses.items()]
        jobs += [self._fetch_index_keys(number, of_number) for number, of_number in slots.items()]
        for result in await asyncio.gather(*jobs, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _fetch_data_keys(self, ids: frozenset[int]) -> None:
        async with self._reading:
            ids = frozenset(i for i in ids if not self._ring.has(DataKeyWant(i)))
            if not ids:
                return
            answers = await resolve_data_keys(ids, self._registry, self._roots)
            for key_id, resolved in answers.items():
                if resolved == "not known":
                    why = "is what stored values are under, and not in the registry: is that older than the values?"
                    self._registry.trust.tell(Fault("unknown_key", f"data key {key_id:08x}", why))
                if not isinstance(resolved, Resolved):
                    self._refuse(key_id, resolved)
                elif resolved.key.tenant != self._tenant:
                    self._refuse(key_id, "of another tenant")
                else:
                    self._ring.put_data_key(resolved.key, resolved.expires)

    def _refuse(self, key_id: int, why: Refusal) -> None:
        self._ring.put_missing(key_id, self._clock() + self._limits.missing_ttl, why)
        self.watch.refuse(key_id, why)

    async def _fetch_index_keys(self, number: int, wants: Iterable[IndexKeyWant | MaskKeyWant]) -> None:
        identity = self._layout.identities.get(number)
        if identity is None:
            raise ProviderMisconfigured(f"identity number {number} is not in the key registry")
        slots = {slot.number: slot for slot in identity.slots}
        async with self._lock(number):
            for want in wants:
                if self._ring.has(want):
                    continue
                if isinstance(want, MaskKeyWant):
                    # Of the index root in use: pseudonyms change with the index keys, when that is rotated.
                    row, root = await self._root(identity.scope, "index", None, stale_ok=True)
                    key = derive_mask_key(root.secret, identity.identity, want.role)
                    self._ring.put_index_key(number, want.role, key, row.id, root.expires)
                    continue
                slot = slots.get(want.slot)
                if slot is None:
                    raise ProviderMisconfigured(f"slot {want.slot} of {identity.identity} is not in the key registry")
                # A slot's generation is that of its index root: rotating an index means a new root and new slots.
                row, root = await self._root(identity.scope, "index", slot.generation, stale_ok=True)
                key = derive_index_key(root.secret, identity.identity, slot.expression, slot.normaliser)
                self._ring.put_index_key(number, slot.number, key, row.id, root.expires)

    async def _fetch_lease(self, want: WriteKeyWant) -> None:
        if want.uses > self._limits.max_uses:
            raise ProviderMisconfigured(
                "one statement needs more record keys than one data key may give (keys.rotation.data_key.max_uses)"
            )
        async with self._lock(want.scope):
            if self._ring.has(want):
                return
            for _ in range(ATTEMPTS):
                row, root = await self._root(want.scope, "data", None, stale_ok=False)
                self._registry.trust.refuse_if_rolled_back()
                if row.age >= self._limits.root_max_age and await self._rotated(row):
                    continue
                active = await self._registry.active_key(row.id)
                if active is None:
                    await roll_data_key(self._registry, row, root.secret, self._limits.max_uses, None)
                    continue
                key = self._usable(active, row, root)
                if active.age < self._limits.max_age and await self._lease(want, key, active, root.expires):
                    return
                await roll_data_key(self._registry, row, root.secret, self._limits.max_uses, active)
        raise ProviderUnavailable(f"the data keys of {want.scope} are used up faster than new ones are made")

    async def _rotated(self, row: RootRow) -> bool:
        """Rotate a root whose year is over; where that cannot be, writing goes on under the old one until it can."""
        if self._clock() < self._overdue.get(row.id, 0.0):
            return False
        root_scope: tuple[str, str, Purpose] = (row.scope, row.tenant, "data")
        try:
            await rotate_root(self._registry, self._kek, self._layout.deployment, root_scope, row, self._limits.max_uses)
        except ProviderError as error:
            self._overdue[row.id] = self._clock() + ROTATE_AGAIN
            self.warn(row, error)
            return False
        return True

    def _usable(self, active: DataKeyRow, row: RootRow, root: Root) -> DataKey:
        """Return the active row's key, authenticated. A row that somebody tampered with stops writing, not only itself."""
        key = unwrap_data_key(root.secret, active, row)
        if not isinstance(key, DataKey) or key.state != "active":
            self._ring.drop_lease(row.scope)
            self.watch.refuse(active.id, "not authentic in the registry")
            raise ProviderMisconfigured(f"the active data key {active.id} is not authentic in the registry")
        self._ring.put_data_key(key, root.expires)
        return key

    async def _lease(self, want: WriteKeyWant, key: DataKey, active: DataKeyRow, expires: float) -> bool:
        """Renew what is left of this key's lease, and add a block where that is not enough.

        False when the key has too few uses left, by its own limit or by today's lower one.
        """
        key_id, left = self._ring.balance(want.scope)
        added = 0
        if key_id != key.id or left < want.uses:
            # What the registry says of uses is not authenticated: by this service alone, no more are taken than a key may give.
            room = self._limits.max_uses - max(active.used, self._taken.get(key.id, 0))
            block = min(max(self._limits.block, want.uses), room)
            added = await self._registry.lease(key.id, block) if block > 0 else 0
            self._taken[key.id] = self._taken.get(key.id, 0) + added
        if key_id == key.id or added:
            self._ring.put_lease(want.scope, key, added, expires)
        return self._ring.has(want)

    async def _root(self, scope: str, purpose: Purpose, generation: int | None, *, stale_ok: bool) -> tuple[RootRow, Root]:
        row = await ensure_root(self._registry, self._kek, self._layout.deployment, (scope, self._tenant, purpose), generation)
        if row.state not in OPENING:
            raise ProviderMisconfigured(f"the {purpose} root key {row.id} of {scope} is {row.state}")
        return row, await self._roots.get(row, stale_ok=stale_ok)

    def _lock(self, name: str | int) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())
