"""One tenant of a live database: its keyring and key service, and the planner whose closures use them.

Where a policy names no tenants there is one of these, whose name is empty. Sessions hold theirs, so it lives as long as they do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import structlog

from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.errors import KeyWant, ProviderError
from phiproxy.keys.keks import Kek
from phiproxy.keys.registry import Registry
from phiproxy.keys.rows import RootRow
from phiproxy.keys.service import KeyLimits, KeyService
from phiproxy.net.relay import Services
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.layout import Layout
from phiproxy.policy.protection import Protection
from phiproxy.session.audit import Doubt
from phiproxy.session.fence import Fence

log = structlog.get_logger("phiproxy.database")


class Tenant:
    """A session's database. ``planner`` and ``generation`` change together, and only in ``plan``."""

    def __init__(
        self,
        name: str,
        database: str,
        registry: Registry,
        kek: Kek,
        layout: Layout,
        limits: KeyLimits,
        max_data_keys: int,
        refresh: Callable[[bool, frozenset[str]], Awaitable[None]],
    ) -> None:
        self._database = database
        self.name = name
        self.ring = Keyring(time.monotonic, max_data_keys=max_data_keys)
        self.keys = KeyService(
            registry,
            kek,
            self.ring,
            layout,
            deployment=layout.deployment,
            clock=time.monotonic,
            limits=limits,
            tenant=name,
        )
        self.keys.warn = self._overdue
        self.generation = 0
        self.planner: Planner
        self.made: set[str] = set()
        self.confirmed: set[str] = set()
        self.fence = Fence()
        self.doubtful: Counter[Doubt] = Counter()
        self.services = Services(self._fetch, refresh, self._announce_names)
        self.announce: Callable[[], None]
        self.protection_changed: Callable[[Tenant], None] = lambda _: None
        self._protection: Protection | None = None
        self.announce_names: Callable[[frozenset[str]], Awaitable[None]]

    def __repr__(self) -> str:
        return f"<Tenant {self.name!r} of {self._database}>"

    def plan(self, protection: Protection, catalog: Catalog) -> None:
        """Go on with another protection or catalogue."""
        before, self._protection = self._protection, protection
        self.planner = Planner(protection.of_tenant(self.name), catalog, Ciphers(self.ring, self._noticed))
        self.generation += 1
        if before is not None and before != protection:
            self.protection_changed(self)

    def learn(self, catalog: Catalog) -> None:
        """Go on with a catalogue that knows more, and nothing otherwise."""
        self.planner.learn(catalog)

    async def _fetch(self, wants: frozenset[KeyWant]) -> None:
        await self.keys.fetch(wants)

    async def _announce_names(self, names: frozenset[str]) -> None:
        await self.announce_names(names)

    async def refresh_ahead(self) -> None:
        """Renew the keys in use whose time is nearly up; what goes wrong is told, and the ordinary way tries again."""
        try:
            await self.keys.refresh_ahead()
        except ProviderError as error:
            log.warning("keys cannot be renewed ahead", database=self._database, tenant=self.name, why=error.message)

    def _noticed(self, column: str, key: DataKey) -> None:
        """Count a value read under a key that is compromised or could not be renewed in time."""
        self.doubtful[Doubt(column, key.id, "compromised" if key.state == "compromised" else "stale")] += 1

    def audit(self, opened: Mapping[Doubt, int]) -> None:
        """Leave one record of an execution that has opened such values: how many of which column, under which key."""
        values = [
            {"column": doubt.column, "data_key": f"{doubt.data_key:08x}", "why": doubt.why, "count": count}
            for doubt, count in sorted(opened.items())
        ]
        log.warning("values were read under a doubtful key", database=self._database, tenant=self.name, values=values)

    def _overdue(self, root: RootRow, error: ProviderError) -> None:
        log.warning("a root key is due and cannot be rotated", database=self._database, root=root.id, why=error.message)
