"""One tenant of a live database: its keyring and key service, and the planner whose closures use them.

Where a policy names no tenants there is one of these, whose name is empty. Sessions hold theirs, so it lives as long as they do.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from weakref import WeakValueDictionary

import structlog

from phiproxy.access.rules import EVERYTHING, AccessRules, Decision, Memberships
from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.errors import ProviderError
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.key_service import KeyLimits, KeyService
from phiproxy.keys.registry import Registry
from phiproxy.keys.tenant_keks import Kek
from phiproxy.net.session_needs import Services
from phiproxy.net.tokens import TokenVerifier
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.plan.row_counts import RowCounts
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.protection import Protection
from phiproxy.policy.registry_layout import Layout
from phiproxy.seen_database import SeenDatabase
from phiproxy.session.state import Database, Observer
from phiproxy.session.state_parts import Acting, EndUser, Fence, Opening

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
        *,
        audited: bool = False,
    ) -> None:
        self.audited = audited
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
        self.memberships = Memberships()
        self.tokens: TokenVerifier | None = None
        # A pooler's sessions come and go: what some see is made once. Numbers are never given again.
        self._seen: WeakValueDictionary[Decision, SeenDatabase] = WeakValueDictionary()
        self._numbers = count(1)
        self.unread_names: set[str] = set()
        self.announced_names: set[str] = set()
        self.fence = Fence()
        self.opened: list[Opening | Noted] = []
        self._openings: dict[tuple[str, int, str, bool], Callable[[], None]] = {}
        self.observer: Observer | None = None
        self.counts = RowCounts()
        self.services: Services
        self.announce: Callable[[], None]
        self.schemas_changed: Callable[[], None]
        self.protection_changed: Callable[[Tenant], None] = lambda _: None
        self._protection: Protection | None = None

    def plan(self, protection: Protection, catalog: Catalog, engine: EngineFacts | None = None) -> None:
        """Go on with another protection or catalogue; ``engine``: what is computed over opened rows may be planned."""
        before, self._protection = self._protection, protection
        ciphers = Ciphers(self.ring, self._noticed, self.counts)
        ciphers.note_subject = self.opened.append if self.audited else None
        self.planner = Planner(protection.of_tenant(self.name), catalog, ciphers, engine)
        self._openings.clear()
        self.generation += 1
        if before is not None and before != protection:
            self.protection_changed(self)

    @property
    def access(self) -> AccessRules | None:
        """Who sees what; None where everybody sees everything."""
        return self.planner.protection.access

    def _roles(self, acting: Acting) -> tuple[str, ...]:
        """Return the roles that count: the current one and those of the end user, and all that they are members of."""
        own = (role for one in (acting.role, *acting.roles) for role in self.memberships.of(one))
        return tuple(dict.fromkeys(own))

    def may_lift(self, acting: Acting) -> bool:
        """Tell whether who acts may have masks lifted by a reason."""
        glass = self.access.break_glass if self.access is not None else None
        return glass is not None and not acting.expired and glass.allows(self._roles(acting))

    def seen(self, acting: Acting) -> Database:
        """Return the database as who acts sees it: itself where that is everything, and the same for all who see the same.

        Nothing is shown for a token that has expired; a reason lifts masks, and not what is denied.
        """
        rules = self.access
        if rules is None:
            return self
        decision = rules.nothing if acting.expired else rules.decide(self._roles(acting))
        if acting.reason and self.may_lift(acting):
            decision = frozenset((column, masked) for column, masked in decision if masked.show.denies)
        if not decision:
            return self
        seen = self._seen.get(decision)
        if seen is None:
            seen = self._seen[decision] = SeenDatabase(self, decision, next(self._numbers))
        return seen

    def end_user(self, said: str, now: float) -> EndUser | None:
        """Return whom a token is of; None where names are taken as they are, TokenRefused where it cannot be believed."""
        if self.tokens is None:
            return None
        verified = self.tokens.verify(said)
        return EndUser(verified.name, "verified", verified.roles, now + verified.seconds)

    def overlay_of(self, planner: Planner) -> Planner:
        """Return the planner of what a transaction has made of the catalogue, for those who see everything."""
        return planner.as_seen(EVERYTHING)

    async def refresh_ahead(self) -> None:
        """Renew the keys in use whose time is nearly up; what goes wrong is told, and the ordinary way tries again."""
        try:
            await self.keys.refresh_ahead()
        except ProviderError as error:
            log.warning("keys cannot be renewed ahead", database=self._database, tenant=self.name, why=error.message)

    def _noticed(self, column: str, key: DataKey | None, *, masked: bool = False) -> Callable[[], None] | None:
        """Return what notes an opening of a column's value under a key, or that a mask of it is shown, where that is to be noted.

        With an audit log it always is, else under a key in doubt: one that is compromised, or could not be renewed in time.
        """
        number, doubt = 0, ""
        if key is not None:
            number, doubt = key.id, "compromised" if key.state == "compromised" else "stale" if key.stale else ""
        if not (doubt or self.audited):
            return None
        note = self._openings.get((column, number, doubt, masked))
        if note is None:
            opening = Opening(column, number, doubt, masked=masked)
            note = self._openings[column, number, doubt, masked] = partial(self.opened.append, opening)
        return note

    def audit(self, opened: Mapping[Opening, int]) -> None:
        """Log, where there is no audit log, that an execution has opened such values: how many of which column, under which key."""
        told = sorted((o.column, o.data_key, o.doubt, count) for o, count in opened.items())
        values = [{"column": column, "data_key": f"{key:08x}", "why": why, "count": count} for column, key, why, count in told]
        log.warning("values were read under a doubtful key", database=self._database, tenant=self.name, values=values)

    def _overdue(self, root: RootRow, error: ProviderError) -> None:
        log.warning("a root key is due and cannot be rotated", database=self._database, root=root.id, why=error.message)
