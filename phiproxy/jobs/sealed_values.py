"""Opening and sealing stored values in a job's own process, whatever tenant they are of: keys are fetched as they are needed."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from phiproxy.crypto.envelope import (
    FIXED_HEADER,
    FLAG_FIELD,
    FLAG_PADDED,
    GCM_TAG_LENGTH,
    MAX_PAD,
    MIN_PAD,
    SLOT_LENGTH,
    envelope_parts,
)
from phiproxy.crypto.keyring import Keyring
from phiproxy.crypto.seal import ColumnSpec, OpenMemo, Record, default_spec, draw_records, make_opener, make_sealer
from phiproxy.crypto.seal_rows import RowKeys
from phiproxy.database_keys import key_limits
from phiproxy.errors import KeyNeeded, SealError
from phiproxy.jobs.running import JobSite
from phiproxy.jobs.stored_columns import StoredColumn
from phiproxy.keys.key_service import KeyService
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.policy.registry_layout import Layout

T = TypeVar("T")
Open = Callable[[bytes], bytes]
Seal = Callable[[bytes, Record, bytes], bytes]

RECORDS: Final = 200
"""Record keys that are drawn at a time: fewer where one data key may give no more (keys.rotation.data_key.max_uses)."""


def key_id_of(envelope: bytes) -> int:
    """Return the id of the data key that an envelope names; SealError where it is none."""
    if len(envelope) < FIXED_HEADER or envelope[:3] != b"\xf5\x50\x01":
        raise SealError("stored value is not an envelope")
    return int.from_bytes(envelope[5:9])


class TenantValues:
    """The keys of one tenant, and what seals and opens under them."""

    def __init__(self, site: JobSite, layout: Layout, tenant: str) -> None:
        limits = key_limits(site.settings)
        self.tenant = tenant
        self._deployment = layout.deployment
        self.ring = Keyring(time.monotonic, max_data_keys=site.settings.keys.cache.max_data_keys)
        self.keys = KeyService(
            site.registry, site.kek, self.ring, layout,
            deployment=layout.deployment, clock=time.monotonic, limits=limits, tenant=tenant,
        )  # fmt: skip
        self.ciphers = Ciphers(self.ring)
        self._most = min(RECORDS, limits.max_uses)
        self._drawn: dict[str, list[Record]] = {}
        self._memo = OpenMemo()
        self._openers: dict[tuple[int, str, bool], Open] = {}
        self._sealers: dict[tuple[int, str, int | None, bool], Seal] = {}

    async def do(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, which is tried again with the keys that it needs. SealError, ProviderError."""
        while True:
            try:
                return work()
            except KeyNeeded as needed:
                await self.keys.fetch(needed.wants)

    async def record(self, scope: str, salt: bytes | None = None) -> Record:
        """Return a record key of a scope that nobody has: for the values of one row. ``salt``: one of another data key's."""
        if salt is not None:
            return Record(await self.do(lambda: self.ring.reserve(scope, 1)), salt)
        (record,) = await self.records(scope, 1)
        return record

    async def records(self, scope: str, count: int) -> list[Record]:
        """Return as many record keys of a scope that nobody has, each for the values of one row."""
        drawn = self._drawn.setdefault(scope, [])
        while len(drawn) < count:
            key = await self.do(lambda: self.ring.reserve(scope, self._most))
            drawn += draw_records(key, self._most)
        left = len(drawn) - count
        records = drawn[left:]
        del drawn[left:]
        return records

    async def row_keys(self, scope: str, count: int) -> RowKeys:
        """Return the keys of as many rows that are sealed column by column; of at most ``most_rows``."""
        return await self.do(lambda: self.ciphers.draw_row_keys(scope, count))

    @property
    def most_rows(self) -> int:
        """How many rows may be sealed under the keys of one ``row_keys``."""
        return self._most

    def forget_records(self) -> None:
        """Give up the record keys that were drawn: what follows is sealed under the key that writes then."""
        self._drawn.clear()

    async def open(self, column: StoredColumn, envelope: bytes, *, default: bool = False) -> bytes:
        """Return the plaintext of a stored value, or text of a computed ``default``; SealError where it is none of the column's."""
        key = column.identity.number, column.path, default
        opener = self._openers.get(key)
        if opener is None:
            opener = self._openers[key] = make_opener(self._spec(column, None, default=default), self.ring, self._memo)
        try:
            return opener(envelope)
        except KeyNeeded as needed:
            await self.keys.fetch(needed.wants)
            return await self.open(column, envelope, default=default)

    async def reseal(
        self,
        column: StoredColumn,
        envelope: bytes,
        record: Record,
        *,
        default: bool = False,
        changed: Callable[[bytes], bytes] = bytes,
    ) -> bytes:
        """Return the same value, with the same tags, or text of a computed ``default``, under a record's data key.

        ``changed`` makes of what is opened what is sealed: the same, unless said otherwise.
        """
        plaintext = changed(await self.open(column, envelope, default=default))
        pad = column.pad or _pad_of(envelope)
        key = column.identity.number, column.path, pad, default
        sealer = self._sealers.get(key)
        if sealer is None:
            sealer = self._sealers[key] = make_sealer(self._spec(column, pad, default=default))
        return sealer(plaintext, record, envelope[FIXED_HEADER : FIXED_HEADER + SLOT_LENGTH * envelope[FIXED_HEADER - 1]])

    def _spec(self, column: StoredColumn, pad: int | None, *, default: bool = False) -> ColumnSpec:
        identity = column.identity
        spec = ColumnSpec(self._deployment, self.tenant, identity.identity, identity.number, pad, column.path)
        return default_spec(spec) if default else spec


def _pad_of(envelope: bytes) -> int | None:
    """Return a multiple by which a value is padded to the length that it has; None for one that is not padded."""
    if not envelope[4] & FLAG_PADDED:
        return None
    length = len(envelope_parts(envelope, field=bool(envelope[4] & FLAG_FIELD))[-1]) - GCM_TAG_LENGTH
    return next((pad for pad in range(min(length, MAX_PAD), MIN_PAD - 1, -1) if length % pad == 0), None)


class SealedValues:
    """The values of one database, of all tenants."""

    def __init__(self, site: JobSite, layout: Layout) -> None:
        self._site = site
        self._layout = layout
        self._tenants: dict[str, TenantValues] = {}
        self._by_key: dict[int, TenantValues] = {}

    def of_tenant(self, tenant: str) -> TenantValues:
        """Return the keys of a tenant."""
        if tenant not in self._tenants:
            self._tenants[tenant] = TenantValues(self._site, self._layout, tenant)
        return self._tenants[tenant]

    async def of_key(self, key_id: int) -> TenantValues:
        """Return the keys of the tenant whose a data key is; SealError for one that the registry does not know."""
        own = self._by_key.get(key_id)
        if own is None:
            rows = await self._site.registry.data_keys(frozenset({key_id}))
            roots = await self._site.registry.roots(frozenset(row.root_id for row in rows))
            if not roots:
                raise SealError(f"stored value is under data key {key_id:08x}, which the registry does not know")
            own = self._by_key[key_id] = self.of_tenant(roots[0].tenant)
        return own
