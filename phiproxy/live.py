"""One database while the proxy serves it: catalogue, registry and keys kept current, and the planner made of them.

The only place besides ``app`` where net and keys are both known.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import psycopg
import structlog

from phiproxy.errors import ConfigError, NotAuthentic, NoTenant, PhiproxyError, ProviderUnavailable, StatementRefused
from phiproxy.keys import open_provider
from phiproxy.keys.changes import CHANNEL, notify
from phiproxy.keys.keks import Kek, TenantKeks
from phiproxy.keys.members import Members
from phiproxy.keys.opening import serving, trusted
from phiproxy.keys.opens import as_error, decisive, first, opening_roots, unopened
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import Registry, as_provider_error, verified_layout
from phiproxy.keys.roots import CacheLimits
from phiproxy.keys.rows import RootRow
from phiproxy.keys.service import KeyLimits
from phiproxy.keys.trust import FaultKind, Trust
from phiproxy.keys.watch import KeyWatch
from phiproxy.net import clock
from phiproxy.net.catalog import CatalogReader
from phiproxy.net.service import ServicePool, connect_service, service_pool
from phiproxy.net.tasks import spawn
from phiproxy.ops.leakage import declared_complaints
from phiproxy.policy.bind import bind
from phiproxy.policy.boundary import guarded_tables
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.kek import absolute, in_file
from phiproxy.policy.layout import Layout
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.protection import Protection
from phiproxy.policy.settings import Settings
from phiproxy.policy.values import read_secret
from phiproxy.session.fence import Fence
from phiproxy.session.startup import Admission
from phiproxy.tenancy import Tenant

log = structlog.get_logger("phiproxy.database")

# Tenants that are kept warm though no session is there: an application that connects anew for each request is one.
MAX_RECENT_TENANTS = 64
# A proxy that was killed is waited for as long as this, or three polls.
MIN_LEASE = 5.0
# After this part of it, one that was not heard looks again before it goes on: the rest is for what is on its way to the server.
FENCED_AFTER = 0.8
ANNOUNCEMENT_STEP = 0.02
# Names of relations that statements had beside protected ones; of more than these all are asked for again.
MAX_ASKED = 10_000
MAX_FAREWELL = 3.0
# The transaction that makes a name may last; statements that contain such a name cost a look at the catalogue meanwhile.
MAX_WAIT_FOR_NAME = 3600.0


async def provider_of(settings: Settings) -> KeyProvider:
    """Open the key provider of a configuration; ProviderMisconfigured when it cannot be used."""
    return await open_provider(settings.kek_uri, read_secret)


def key_limits(settings: Settings) -> KeyLimits:
    """Return the limits of ``keys.cache`` and ``keys.rotation``."""
    cache, rotation = settings.keys.cache, settings.keys.rotation
    return KeyLimits(
        cache=CacheLimits(cache.ttl, cache.max_stale, cache.max_root_keys),
        max_age=rotation.data_key.max_age,
        root_max_age=rotation.root_key.max_age,
        max_uses=rotation.data_key.max_uses,
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What was read of a database at one moment."""

    catalog: Catalog
    layout: Layout
    protection: Protection
    reader: CatalogReader


class LiveDatabase:
    """A database with a policy, and the tenants that are at work in it."""

    def __init__(
        self, settings: Settings, policy: Policy, kek: Kek, pool: ServicePool, known: Known, members: Members, trust: Trust
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._trust = trust
        self._reconciled = known.layout.counter
        self._pool = pool
        self._members = members
        self._known = known
        self._temporary_wanted = False
        self._asked = set(known.layout.table_names)
        self._reading: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._announce_again = False
        self.kek = kek
        self.watch = KeyWatch(partial(log.warning, database=policy.database))
        self.protection_changed: Callable[[Tenant], None] = lambda _: None
        """Told of each tenant whose protection is no longer what its sessions began with."""
        self.made: set[str] = set()
        self.confirmed: set[str] = set()
        self.fence = Fence(until=0)
        self._changed_at = 0.0
        self._waited_for: dict[str, float] = {}
        # Tenants live as long as a session holds them; the one of a database without tenants always.
        self._tenants: WeakValueDictionary[str, Tenant] = WeakValueDictionary()
        self._recent: OrderedDict[str, Tenant] = OrderedDict()
        self._alone = None if policy.tenant is not None else self.tenant("")

    @classmethod
    async def open(
        cls, settings: Settings, policy: Policy, provider: KeyProvider, worker: tuple[int, int] | None = None
    ) -> LiveDatabase:
        """Read a database for the first time; ConfigError for whatever does not fit the policy, or when it is not reachable.

        ``worker`` as of ``Members``. Raises ProviderError when the registry key cannot be had, NotAuthentic when it is not the one
        that ``keys.anchor`` pins.
        """
        schema, made = settings.service.schema_, set[str]()
        members = Members(schema, max(MIN_LEASE, 3 * settings.catalog.poll), worker)
        since = clock.now()
        kek = await keks_of(settings, policy, provider)
        async with await connect_service(settings, policy.database) as conn:
            trust = serving(await trusted(conn, settings, policy, kek), settings, policy, log.warning, log.error)
            layout = await _layout(conn, trust)
            # First: what DDL makes from now on waits for this proxy, and what was made before is read.
            try:
                await members.beat(conn, layout.epoch, made.update)
            except psycopg.Error as error:
                raise as_provider_error(error, schema) from None
            known = await read_known(conn, settings, policy, layout)
            roots = await opening_roots(conn, schema, trust)
        try:
            await see_that_it_opens(policy, kek, roots)
        except ProviderUnavailable as error:
            # An outage ends by itself: what names nothing protected is served meanwhile, the rest is refused (57P03).
            log.warning("started without keys", database=policy.database, why=error.message)
        warn_of_leakage(policy.database, policy.columns())
        pool = service_pool(settings, policy.database)
        await pool.open()
        opened = cls(settings, policy, kek, pool, known, members, trust)
        opened.made.update(made.difference(known.catalog.reaching))
        opened._lives(since)
        return opened

    def session(self, admission: Admission) -> Tenant:
        """Return what a new session works with: its tenant's, where the policy names tenants; NoTenant when it names none."""
        return self._alone if self._alone is not None else self.tenant(tenant_of(self._policy, admission))

    def tenant(self, name: str) -> Tenant:
        """Return a tenant, made now where nobody holds it."""
        found = self._tenants.get(name)
        if found is None:
            limits, registry = key_limits(self._settings), Registry(self._pool, self._trust)
            cached = self._settings.keys.cache.max_data_keys
            layout, database = self._known.layout, self._policy.database
            found = Tenant(name, database, registry, self.kek, layout, limits, cached, self.refresh)
            found.keys.watch = self.watch
            found.made, found.confirmed, found.fence = self.made, self.confirmed, self.fence
            found.protection_changed = self._protection_changed
            found.announce, found.announce_names = self.announce, self.announce_names
            found.plan(self._known.protection, self._known.catalog)
            self._tenants[name] = found
        self._recent[name] = found
        self._recent.move_to_end(name)
        while len(self._recent) > MAX_RECENT_TENANTS:
            self._recent.popitem(last=False)
        return found

    def _protection_changed(self, tenant: Tenant) -> None:
        self.protection_changed(tenant)

    @property
    def policy(self) -> Policy:
        """What is served now."""
        return self._policy

    @property
    def trust(self) -> Trust:
        """What is believed of the registry."""
        return self._trust

    @property
    def faults(self) -> Tally[FaultKind]:
        """What did not verify of the registry so far, by kind."""
        return self._trust.faults

    async def close(self) -> None:
        """Forget the keys and close the connections."""
        # The pool does not close a connection that is in use: a reading that outlives its session would keep one.
        for task in (self._renewing, self._announcing, self._reading):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        for tenant in list(self._tenants.values()):
            tenant.keys.forget()
        try:
            # Who owns the registry's tables may have locked them for as long as he likes.
            async with asyncio.timeout(MAX_FAREWELL), self._pool.connection(timeout=1) as conn:
                await self._members.leave(conn)
        except (psycopg.Error, TimeoutError):
            log.info("the proxy ends without a word to the others", database=self._policy.database)
        await self._pool.close()

    async def refresh(self, changed: bool = False, names: frozenset[str] = frozenset()) -> None:  # noqa: FBT001, FBT002 - a callback
        """Read what is another than was read last of catalogue and registry; who asks during a reading shares the next one.

        ``changed``: temporary tables do not make the catalogue another one. ``names``: of relations that are to be known too.
        """
        if not (changed or names):
            self._temporary_wanted = True
        if len(self._asked) > MAX_ASKED:
            self._asked.clear()
        self._asked |= names
        if self._reading is not None and not self._reading.done():
            await asyncio.wait([self._reading])
        if self._reading is None or self._reading.done():
            self._reading = spawn(self._read(), "reading")
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        temporary, self._temporary_wanted = self._temporary_wanted, False
        known = self._known
        try:
            since = clock.now()
            async with self._pool.connection() as conn:
                fenced = since > self.fence.until
                if fenced:
                    # Before anything is read: from here on DDL waits for this proxy again.
                    await self._members.beat(conn, known.layout.epoch, self.made.update)
                layout = await _layout(conn, self._trust)
                self._asked |= layout.table_names
                names = frozenset(self._asked)
                same = await known.reader.same(conn, temporary=temporary)
                if not same or layout != known.layout or not names <= (known.catalog.names or frozenset()):
                    catalog = await known.reader.read(conn, guarded_tables(self._policy, layout), names)
                    same = False
        except (psycopg.Error, TimeoutError) as error:
            raise ProviderUnavailable(f"the catalogue cannot be read ({type(error).__name__})") from None
        if same:
            if fenced:
                self._lives(since)
            return
        if self._known.reader is not known.reader:
            return  # another policy was taken meanwhile, and all was read for that
        self._adopt(catalog, layout)
        self.made.difference_update(catalog.reaching)
        if fenced:
            self._lives(since)
        await self._reconcile(layout)

    async def _reconcile(self, layout: Layout) -> None:
        """Have all tenants look at their keys after a change of the registry; the counter says so, which nobody can hold back."""
        if layout.counter != self._reconciled:
            for tenant in list(self._tenants.values()):
                await tenant.keys.reconcile()
            self._reconciled = layout.counter

    def _lives(self, since: float) -> None:
        """Go on with what is known: what was made before ``since`` is in it, and names that are made now wait for this proxy."""
        if since >= self._changed_at:
            self.fence.until = max(self.fence.until, since + FENCED_AFTER * self._members.lease)

    def _adopt(self, catalog: Catalog, layout: Layout) -> None:
        """Go on with what was read. What no longer fits the policy stays protected as it was: that can only refuse more."""
        try:
            protection = bind(self._policy, layout, catalog, self._settings.service.schema_)
        except ConfigError as error:
            log.error(
                "the database no longer fits its policy", database=self._policy.database, complaints=error.message.split("\n")
            )
            boundary = self._policy.boundary(layout.columns)  # what another policy has registered is refused from now on
            protection = replace(self._known.protection, boundary=boundary)
        known = self._known
        if layout != known.layout:
            # By itself too: one that does not fit changes nothing else, and would be read, and told, at every poll.
            for tenant in self._tenants.values():
                tenant.keys.adopt(layout)
        if protection == known.protection:
            protection = known.protection  # so that those who compare it again need not look into it
        self._known = Known(catalog, layout, protection, known.reader)
        if protection is known.protection and catalog.extends(known.catalog):
            for tenant in self._tenants.values():
                tenant.learn(catalog)
            return
        for tenant in self._tenants.values():
            tenant.plan(protection, catalog)
        log.info("catalogue read", database=self._policy.database)

    async def follow(self) -> None:
        """Notice DDL behind the proxy and changes in the registry, forever. A server that does not answer is waited for.

        Looks once per ``catalog.poll``, and as soon as another epoch, or DDL through a proxy, is announced (NOTIFY). Of several
        workers one looks, and tells the others; each looks itself after what only itself has read.
        """
        poll = self._settings.catalog.poll
        failing = False
        while True:
            try:
                async with (
                    await connect_service(self._settings, self._policy.database) as conn,
                    await connect_service(self._settings, self._policy.database) as catalogue,
                ):
                    await conn.execute(f"LISTEN {CHANNEL}")
                    told = True
                    while True:
                        await self._look(conn, catalogue, told=told)
                        failing = told = False
                        async for _ in conn.notifies(timeout=poll, stop_after=1):
                            told = True
            except (psycopg.Error, TimeoutError, PhiproxyError) as error:
                if not failing:
                    log.warning("the catalogue cannot be read", database=self._policy.database, type=type(error).__name__)
                failing = True
            await asyncio.sleep(poll)

    async def _look(
        self, conn: psycopg.AsyncConnection[Any], catalogue: psycopg.AsyncConnection[Any], *, told: bool = True
    ) -> None:
        """Say that this proxy lives, and see what is another than was read; ``told``: somebody says that something is.

        Triggers on the registry's tables run in ``conn``; in ``catalogue`` nothing does that could answer for the catalogue.
        """
        since = clock.now()
        fenced = since > self.fence.until
        # Before anything that takes its time: DDL waits for this.
        await self._members.beat(conn, self._known.layout.epoch, self.made.update)
        if not fenced:
            self._lives(since)
        self._forget_unmade()
        leads = await self._members.leads(conn, 2 * self._settings.catalog.poll + 0.5)
        # The registry is looked at by each for itself: nobody else says what of it may be believed.
        layout = await self._verified(conn)
        known = self._known
        same = layout == known.layout
        if same:
            whole = told or fenced or leads
            same = await (known.reader.same(catalogue, apart=True) if whole else known.reader.asked_same(catalogue))
        if not same:
            await self.refresh(changed=True)
            if leads and not told:
                await self._members.tell(conn)
        self._lives(since)
        for tenant in self._tenants.values():
            tenant.keys.sweep()
        if self._renewing is None or self._renewing.done():
            # A slow provider must not keep anybody from noticing DDL.
            self._renewing = spawn(self._refresh_ahead(), "refresh ahead")

    async def _verified(self, conn: psycopg.AsyncConnection[Any]) -> Layout:
        """Read the registry, and do what follows for keys; NotAuthentic where it cannot be believed."""
        try:
            layout = await _layout(conn, self._trust)
        except NotAuthentic:
            # Whatever changed since cannot be known: a key that is held may be a compromised one.
            for tenant in list(self._tenants.values()):
                tenant.keys.forget()
            raise
        if self._trust.rolled_back:
            for tenant in list(self._tenants.values()):
                tenant.keys.stop_writing()
        await self._reconcile(layout)
        return layout

    def _forget_unmade(self) -> None:
        """Forget names that DDL was to make, and did not, or not over what is protected: it was rolled back, or dropped again."""
        now = time.monotonic()
        self._waited_for = {name: self._waited_for.get(name, now) for name in self.made}
        self.made.difference_update(name for name, since in self._waited_for.items() if now - since > MAX_WAIT_FOR_NAME)

    async def _refresh_ahead(self) -> None:
        await asyncio.gather(*(tenant.refresh_ahead() for tenant in list(self._tenants.values())))

    async def announce_names(self, names: frozenset[str]) -> None:
        """Let every live proxy hear of names that DDL is about to make; StatementRefused where one does not say that it has."""
        deadline = time.monotonic() + self._members.lease + 1
        try:
            async with self._pool.connection() as conn:
                number = await self._members.announce(conn, names)
                while waiting := await self._members.behind(conn, number):
                    if time.monotonic() > deadline:
                        raise StatementRefused(
                            f"{waiting} other proxies of this database do not confirm the name that this statement is to make",
                            hint="Try again, or restart them: until they know it, their sessions could see what is stored.",
                        )
                    await asyncio.sleep(ANNOUNCEMENT_STEP)
        except psycopg.Error as error:
            raise as_provider_error(error, self._settings.service.schema_) from None
        self.made.update(names)
        self.confirmed.update(names)

    def announce(self) -> None:
        """Let every proxy of this database look at its catalogue at once; what is asked for meanwhile is said once more.

        Sessions of this one wait for that: none takes a table for what it was before the end of the DDL.
        """
        self._changed_at, self.fence.until = clock.now(), 0.0
        self._announce_again = True
        if self._announcing is None or self._announcing.done():
            self._announcing = spawn(self._announce(), "announce")

    async def _announce(self) -> None:
        try:
            while self._announce_again:
                self._announce_again = False
                async with self._pool.connection() as conn:
                    await notify(conn, self._settings.service.schema_)
        except (psycopg.Error, TimeoutError) as error:
            # All proxies look once per catalog.poll anyway.
            log.warning("a change could not be announced", database=self._policy.database, type=type(error).__name__)

    async def see_kek(self, settings: Settings, policy: Policy) -> None:
        """See that the KEKs that another configuration names, or the same ones again, open the root keys; nothing changes.

        ProviderError when they do not, or do not answer: what is cached is better than nothing.
        """
        try:
            async with self._pool.connection() as conn:
                roots = await opening_roots(conn, settings.service.schema_, self._trust)
        except (psycopg.Error, TimeoutError) as error:
            raise ProviderUnavailable(f"the key registry cannot be read ({type(error).__name__})") from None
        if (settings.kek_uri, policy.tenant) == (self._settings.kek_uri, self._policy.tenant) and not in_file(settings.kek_uri):
            await see_that_it_opens(policy, self.kek, roots)
            return
        kek = await keks_of(settings, policy, await provider_of(settings))
        try:
            await see_that_it_opens(policy, kek, roots)
        finally:
            await kek.close()

    async def fit(self, policy: Policy) -> Known:
        """Read the database for a changed policy file; ConfigError when it does not fit. Nothing changes yet."""
        try:
            async with self._pool.connection() as conn:
                return await read_known(conn, self._settings, policy, await _layout(conn, self._trust))
        except (psycopg.Error, TimeoutError) as error:
            raise ProviderUnavailable(f"the catalogue cannot be read ({type(error).__name__})") from None

    def take(self, policy: Policy, known: Known) -> None:
        """Go on with a policy file that fits, and without cached keys."""
        self._policy = policy
        for tenant in self._tenants.values():
            tenant.keys.forget()
        self._known = replace(self._known, reader=known.reader)
        self._adopt(known.catalog, known.layout)

    async def reload(self, policy: Policy) -> None:
        """Go on with a changed policy file and without cached keys; ConfigError leaves everything as it was."""
        self.take(policy, await self.fit(policy))


async def see_that_it_opens(policy: Policy, kek: Kek, roots: Iterable[RootRow]) -> None:
    """Unwrap root keys through the KEK; ProviderError when one is not unwrapped without which the database cannot be served.

    Others are logged.
    """
    failed = await unopened(kek, policy.deployment, first(roots))
    if worst := decisive(failed, kek):
        raise as_error(worst, kek.uri)
    for each in failed:
        log.error("a root key does not open", database=policy.database, root=each.root.id, why=each.error.message)


def warn_of_leakage(database: str, columns: Iterable[PolicyColumn]) -> None:
    """Log which indexes are of too low a cardinality: what is served goes on, ``check`` and ``ddl`` refuse it."""
    for complaint in declared_complaints(columns):
        log.warning("an index tells much", database=database, complaint=complaint)


async def keks_of(settings: Settings, policy: Policy, shared: KeyProvider) -> Kek:
    """Open the KEKs of tenants that have their own."""
    own = policy.tenant.keks if policy.tenant is not None else {}
    if not own:
        return shared
    opened = {name: await open_provider(absolute(uri, settings.directory), read_secret) for name, uri in own.items()}
    return TenantKeks(shared, opened)


def tenant_of(policy: Policy, admission: Admission) -> str:
    """Return the tenant of a session from its startup message; NoTenant when it names none that could be one."""
    source = policy.tenant
    assert source is not None
    named = admission.user if source.name is None else admission.setting(source.name)
    if not named:
        raise NoTenant(f"this database needs a tenant: pass {source.name or 'a role'} when connecting")
    return named


async def _layout(conn: psycopg.AsyncConnection[Any], trust: Trust) -> Layout:
    async with trust.reading(conn) as view:
        return await verified_layout(view)


async def read_known(
    conn: psycopg.AsyncConnection[Any], settings: Settings, policy: Policy, layout: Layout, *, whole: bool = False
) -> Known:
    """Read the catalogue and bind; ConfigError for whatever does not fit. ``whole``: with all relations that there are."""
    reader = CatalogReader()
    catalog = await reader.read(conn, guarded_tables(policy, layout), None if whole else layout.table_names)
    return Known(catalog, layout, bind(policy, layout, catalog, settings.service.schema_), reader)
