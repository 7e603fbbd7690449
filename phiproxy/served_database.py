"""One database while the proxy serves it: catalogue, registry and keys kept current, and the planner made of them.

The only place besides ``app`` where net and keys are both known.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import psycopg
import structlog

from phiproxy.access.rules import Memberships
from phiproxy.announcements import Announcements
from phiproxy.database_keys import keks_of, key_limits, provider_of, see_that_it_opens
from phiproxy.database_snapshot import Snapshot, read_layout, read_snapshot
from phiproxy.engine.engine import Engine
from phiproxy.engine_for_sessions import DatabaseComputing, questions
from phiproxy.errors import ConfigError, NotAuthentic, NoTenant, PhiproxyError, ProviderUnavailable
from phiproxy.held_statements import HeldStatements
from phiproxy.keys.clear_columns import forbid_clear
from phiproxy.keys.events import Event, events_since
from phiproxy.keys.holds import no_hold
from phiproxy.keys.job_counts import JobCounts
from phiproxy.keys.key_state_changes import CHANNEL
from phiproxy.keys.layout_rows import unchanged_and_held
from phiproxy.keys.open_registry import serving, trusted
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import Registry, as_provider_error
from phiproxy.keys.registry_checked_on_read import Trust
from phiproxy.keys.serving_proxies import Members
from phiproxy.keys.tenant_keks import Kek
from phiproxy.keys.unwrap_check import opening_roots
from phiproxy.keys.unwrap_outcomes import UnwrapOutcomes
from phiproxy.net import clock
from phiproxy.net.catalog_reader import CatalogReader
from phiproxy.net.role_members import read_memberships, read_roles
from phiproxy.net.service_login import ServicePool, connect_catalogue, connect_service, service_pool
from phiproxy.net.session_needs import Services
from phiproxy.net.standing_connection import Ask, StandingConnection
from phiproxy.net.tasks import spawn
from phiproxy.net.tokens import TokenVerifier
from phiproxy.observation import Observation
from phiproxy.ops.leakage import declared_complaints
from phiproxy.plan.row_counts import RowCounts
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.policy.bind import bind
from phiproxy.policy.boundary import guarded_tables
from phiproxy.policy.catalog import Catalog
from phiproxy.policy.column_states import sealed_meanwhile
from phiproxy.policy.kek_uris import in_file
from phiproxy.policy.model import Policy, PolicyColumn
from phiproxy.policy.registry_layout import Layout
from phiproxy.policy.setting_values import Address
from phiproxy.policy.settings import Settings
from phiproxy.session.startup_message import Admission
from phiproxy.tenant import Tenant

log = structlog.get_logger("phiproxy.database")
T = TypeVar("T")

# Tenants that are kept warm though no session is there: an application that connects anew for each request is one.
MAX_RECENT_TENANTS = 64
# A proxy that was killed is waited for as long as this, or three polls.
MIN_LEASE = 5.0
# Names of relations that statements had beside protected ones; of more than these all are asked for again.
MAX_ASKED = 10_000
MAX_FAREWELL = 3.0
# Seconds. Who owns the registry's tables may have locked them for as long as he likes: a statement is refused then. By the proxy's
# own clock: a machine that gives it no turn for as long has statements refused too.
MAX_LOCKED = 60.0


@dataclass(slots=True)
class KeyEvents:
    """Who is told of the registry's events, by the database's name, and the number of the last of which he was told."""

    last: int
    told: Callable[[str, list[Event]], None]


class ServedDatabase:
    """A database with a policy, and the tenants that are at work in it."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        kek: Kek,
        pool: ServicePool,
        snapshot: Snapshot,
        members: Members,
        trust: Trust,
        computing: DatabaseComputing | None = None,
    ) -> None:
        self._computing = computing
        self._settings = settings
        self.policy = policy
        self.trust = trust
        self._reconciled = snapshot.layout.counter
        self._acknowledged = snapshot.layout.epoch
        self._acknowledging: asyncio.Task[None] | None = None
        # Where triggers on the registry's tables run; and where nothing is asked but the catalogue, so that none can answer for it.
        self._pool, self._catalogue = pool, StandingConnection(settings, policy.database, connect_catalogue)
        self._members = members
        self._read_last = snapshot
        self._temporary_wanted = False
        # How often another catalogue was taken, and of how many of them the others have been told, by who looks for all workers.
        self._adopted = self._passed_on = 0
        self._asked = set(snapshot.layout.table_names)
        self._reading: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.kek = kek
        self.counts = RowCounts()
        self.watch = UnwrapOutcomes(partial(log.warning, database=policy.database))
        self.protection_changed: Callable[[Tenant], None] = lambda _: None
        """Told of each tenant whose protection is no longer what its sessions began with."""
        self.key_events: KeyEvents | None = None
        self.jobs = JobCounts(settings.service.schema_)
        self.announcements = Announcements(policy.database, settings.service.schema_, self._pool, members)
        self.observed = Counter[str]()
        """How often which answer was foreseen for statements over columns in clear."""
        self._observation: Observation | None = None
        self.held = HeldStatements(
            policy.database, settings.service.schema_, self._pool, self.announcements.fence, lambda: members.id,
            lambda: self._read_last.catalog, partial(self.refresh, changed=True), retry=settings.catalog.poll,
        )  # fmt: skip
        """Its sessions, and which of their statements wait."""
        self._forgetting: asyncio.Task[None] | None = None
        # Tenants live as long as a session holds them; the one of a database without tenants always.
        self._memberships = Memberships()
        self._tokens = token_verifier(policy)
        self._tenants: WeakValueDictionary[str, Tenant] = WeakValueDictionary()
        self._recent: OrderedDict[str, Tenant] = OrderedDict()
        self._alone = None if policy.tenant is not None else self.tenant("")

    @classmethod
    async def open(
        cls,
        settings: Settings,
        policy: Policy,
        provider: KeyProvider,
        worker: tuple[int, int] | None = None,
        engine: Engine | None = None,
    ) -> ServedDatabase:
        """Read a database for the first time; ConfigError for whatever does not fit the policy, or when it is not reachable.

        ``worker`` as of ``Members``; ``engine`` is that of split statements, where one is configured. Raises ProviderError when the
        registry key cannot be had, NotAuthentic when it is not the one that ``keys.anchor`` pins.
        """
        schema, names = settings.service.schema_, set[str]()
        poll = settings.catalog.poll
        members = Members(schema, max(MIN_LEASE, 3 * poll), worker, patience=2 * poll + 0.5)
        since = clock.now()
        kek = await keks_of(settings, policy, provider)
        async with await connect_service(settings, policy.database) as conn:
            trust = serving(await trusted(conn, settings, policy, kek), settings, policy, log.warning, log.error)
            layout = await read_layout(conn, trust)
            # First: what DDL makes from now on waits for this proxy, and what was made before is read.
            try:
                await members.beat(conn, layout.epoch, names.update)
                # Who switches tables waits for this proxy from now on, or has done it when this is over.
                await no_hold(conn, schema)
            except psycopg.Error as error:
                raise as_provider_error(error, schema) from None
            snapshot = await read_snapshot(conn, settings, policy, layout, also=None if engine is None else questions)
            memberships = await read_roles(conn, policy)
            roots = await opening_roots(conn, schema, trust)
        try:
            await see_that_it_opens(policy, kek, roots)
        except ProviderUnavailable as error:
            # An outage ends by itself: what names nothing protected is served meanwhile, the rest is refused (57P03).
            log.warning("started without keys", database=policy.database, why=error.message)
        computing = None if engine is None else DatabaseComputing(engine, policy.database)
        if computing is not None:
            await computing.follow(snapshot.catalog.server_version, snapshot.reader.answers)
        warn_of_leakage(policy.database, policy.columns_and_fields())
        pool = service_pool(settings, policy.database)
        await pool.open()
        opened = cls(settings, policy, kek, pool, snapshot, members, trust, computing)
        opened._take_memberships(memberships)
        opened.announcements.unread_names.update(names.difference(snapshot.catalog.reaching))
        opened.announcements.heard(since)
        opened.observe()
        return opened

    def session(self, admission: Admission) -> Tenant:
        """Return what a new session works with: its tenant's, where the policy names tenants; NoTenant when it names none."""
        return self._alone if self._alone is not None else self.tenant(tenant_of(self.policy, admission))

    def tenant(self, name: str) -> Tenant:
        """Return a tenant, made now where nobody holds it."""
        tenant = self._tenants.get(name)
        if tenant is None:
            limits, registry = key_limits(self._settings), Registry(self._pool, self.trust)
            cached = self._settings.keys.cache.max_data_keys
            layout, database, told = self._read_last.layout, self.policy.database, self.announcements
            audited = self._settings.audit.enabled
            tenant = Tenant(name, database, registry, self.kek, layout, limits, cached, audited=audited)
            tenant.keys.watch, tenant.counts = self.watch, self.counts
            tenant.unread_names, tenant.announced_names, tenant.fence = told.unread_names, told.announced_names, told.fence
            tenant.protection_changed = self._protection_changed
            tenant.announce, tenant.schemas_changed, tenant.observer = told.announce, self._schemas_changed, self._observation
            tenant.services = Services(
                tenant.keys.fetch, self.refresh, told.announce_names, self._computing, self.held.released, self._arrive
            )
            tenant.memberships, tenant.tokens = self._memberships, self._tokens
            tenant.plan(self._read_last.protection, self._read_last.catalog, self._engine_facts)
            self._tenants[name] = tenant
        self._recent[name] = tenant
        self._recent.move_to_end(name)
        while len(self._recent) > MAX_RECENT_TENANTS:
            self._recent.popitem(last=False)
        return tenant

    @property
    def key_cache_age(self) -> float:
        """Seconds since the oldest root key that is held was unwrapped; 0 where none is held."""
        return max((tenant.keys.age for tenant in list(self._tenants.values())), default=0.0)

    def _schemas_changed(self) -> None:
        """Have every session here ask for its search path again, and other proxies look: only the server knows what is on it."""
        self.announcements.fence.schema_changes += 1
        for tenant in self._tenants.values():
            tenant.generation += 1  # nobody goes by a plan for the path of before
        self.announcements.tell()

    def _protection_changed(self, tenant: Tenant) -> None:
        self.protection_changed(tenant)

    async def close(self) -> None:
        """Forget the keys and close the connections."""
        # The pool does not close a connection that is in use: a reading that outlives its session would keep one.
        if self._observation is not None:
            await self._observation.stop()
        for task in (self._renewing, self._acknowledging, self.announcements.task, self._reading, self._forgetting, self.held.task):
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
            log.info("the proxy ends without a word to the others", database=self.policy.database)
        await self._pool.close()
        await self._catalogue.close()

    async def refresh(self, changed: bool = False, names: frozenset[str] = frozenset()) -> None:  # noqa: FBT001, FBT002 - a callback
        """Read what is another than was read last of catalogue and registry; who asks during a reading shares the next one.

        ``changed``: temporary tables do not make the catalogue another one. ``names``: of relations that are to be read too.
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
        snapshot = self._read_last
        try:
            since = clock.now()
            async with asyncio.timeout(MAX_LOCKED), self._pool.connection() as conn:
                fenced = since > self.announcements.fence.until
                if fenced:
                    # Before anything is read: from here on DDL waits for this proxy again.
                    await self._members.beat(conn, self._acknowledged, self.announcements.unread_names.update)
                    await self.held.look(conn)
                layout = await read_layout(conn, self.trust)
            self._asked |= layout.table_names
            names = frozenset(self._asked)
            guarded = guarded_tables(self.policy, layout)
            if layout != snapshot.layout or not names <= (snapshot.catalog.names or frozenset()):
                read: Ask[Catalog | None] = partial(snapshot.reader.read, protected=guarded, names=names, apart=True)
            else:
                read = partial(snapshot.reader.read_changes, protected=guarded, names=names, temporary=temporary)
            catalog = await self._ask_catalogue(read)
        except (psycopg.Error, TimeoutError) as error:
            raise ProviderUnavailable(f"the catalogue cannot be read ({type(error).__name__})") from None
        if catalog is None:
            if fenced:
                self.announcements.heard(since)
            return
        if self._read_last.reader is not snapshot.reader:
            return  # another policy was taken meanwhile, and all was read for that
        await self._follow_engine(catalog, snapshot.reader)
        self._adopt(catalog, layout)
        self.announcements.unread_names.difference_update(catalog.reaching)
        if fenced:
            self.announcements.heard(since)
        await self._reconcile(layout)

    async def _ask_catalogue(self, question: Ask[T]) -> T:
        """Ask where none can answer for the catalogue; psycopg.Error, ProviderUnavailable where the server is not to be had."""
        try:
            return await self._catalogue.ask(question)
        except ConfigError as error:
            raise ProviderUnavailable(f"the catalogue cannot be read ({type(error).__name__})") from None

    async def _follow_engine(self, catalog: Catalog, reader: CatalogReader) -> None:
        """Have the engine compute in a database that is like this one is now; where it cannot, its statements are told why."""
        if self._computing is not None:
            try:
                await self._computing.follow(catalog.server_version, reader.answers)
            except PhiproxyError as error:
                log.error("the engine cannot compute", database=self.policy.database, why=error.message)

    @property
    def _engine_facts(self) -> EngineFacts | None:
        return None if self._computing is None else self._computing.facts

    async def _reconcile(self, layout: Layout) -> None:
        """Have all tenants look at their keys after a change of the registry; the counter says so, which nobody can hold back."""
        if layout.counter != self._reconciled:
            for tenant in list(self._tenants.values()):
                await tenant.keys.reconcile()
            self._reconciled = layout.counter

    def _adopt(self, catalog: Catalog, layout: Layout) -> None:
        """Go on with what was read. What no longer fits the policy stays protected as it was: that can only refuse more."""
        try:
            protection = bind(self.policy, layout, catalog, self._settings.service.schema_)
        except ConfigError as error:
            log.error("the database no longer fits its policy", database=self.policy.database, complaints=error.message.split("\n"))
            # What another policy has registered is refused from now on.
            protection = self._read_last.protection
            boundary = self.policy.boundary(layout.columns.keys() - protection.in_clear.keys())
            protection = replace(protection, boundary=boundary)
        snapshot = self._read_last
        if layout != snapshot.layout:
            # By itself too: one that does not fit changes nothing else, and would be read, and told, at every poll.
            for tenant in self._tenants.values():
                tenant.keys.adopt(layout)
        if protection == snapshot.protection:
            protection = snapshot.protection  # so that those who compare it again need not look into it
        self._read_last = Snapshot(catalog, layout, protection, snapshot.reader)
        self._adopted += 1
        same_engine = all(tenant.planner.splitting.engine == self._engine_facts for tenant in self._tenants.values())
        if protection is snapshot.protection and same_engine and catalog.extends(snapshot.catalog):
            for tenant in self._tenants.values():
                tenant.planner.learn(catalog)
            return
        self.observe()
        for tenant in self._tenants.values():
            tenant.plan(protection, catalog, self._engine_facts)
        self._see_again()
        log.info("catalogue read", database=self.policy.database)

    def _take_memberships(self, memberships: Memberships) -> None:
        """Go on with what roles are members of; each session sees what it does by that from its next statement on."""
        if memberships.pairs != self._memberships.pairs:
            self._memberships = memberships
            for tenant in self._tenants.values():
                tenant.memberships = memberships
            self._see_again()

    def _see_again(self) -> None:
        for relay in self.held.relays():
            relay.session.see()

    def observe(self) -> None:
        """Observe statements over what is in clear now; what is sealed meanwhile may never be in clear again."""
        protection, catalog = self._read_last.protection, self._read_last.catalog
        observation = self._observation
        if not protection.clear:
            self._observation = None
            if observation is not None:
                spawn(observation.stop(), "observe no longer")
        elif observation is not None:
            observation.adopt(protection, catalog)
        else:
            schema = self._settings.service.schema_
            self._observation = Observation(self.policy.database, schema, self._pool, protection, catalog, self.observed)
            self._observation.engine = self._engine_facts
            self._observation.start()
            columns = self._observation.labels
            log.warning("columns are in clear: they are observed, not protected", database=self.policy.database, columns=columns)
        for tenant in self._tenants.values():
            tenant.observer = self._observation
        sealed = sealed_meanwhile(self.policy, self._read_last.layout, catalog)
        if sealed and (self._forgetting is None or self._forgetting.done()):
            self._forgetting = spawn(self._forbid_clear(sealed), "forbid clear")

    async def _forbid_clear(self, names: list[tuple[str, str, str]]) -> None:
        try:
            async with self._pool.connection() as conn, self.trust.changing(conn) as change:
                await forbid_clear(change, names)
        except (psycopg.Error, TimeoutError, PhiproxyError) as error:
            log.warning("a sealed column still may be in clear", database=self.policy.database, why=type(error).__name__)

    async def follow(self) -> None:
        """Notice DDL behind the proxy and changes in the registry, forever. A server that does not answer is waited for.

        Looks once per ``catalog.poll``, and as soon as another epoch, or DDL through a proxy, is announced (NOTIFY). Of several
        workers one looks, and tells the others; each looks itself after what only itself has read.
        """
        poll = self._settings.catalog.poll
        failing = False
        while True:
            try:
                async with await connect_service(self._settings, self.policy.database) as conn:
                    await conn.execute(f"LISTEN {CHANNEL}")
                    told = True
                    while True:
                        await self._look(conn, told=told)
                        failing = False
                        told = await self._is_told(conn, poll)
            except (psycopg.Error, TimeoutError, PhiproxyError) as error:
                if not failing:
                    log.warning("the catalogue cannot be read", database=self.policy.database, type=type(error).__name__)
                failing = True
            await asyncio.sleep(poll)

    async def _is_told(self, conn: psycopg.AsyncConnection[Any], within: float) -> bool:
        """Wait so many seconds for somebody's word that something is another than was read; tell whether there was one.

        Of what sessions of its own have done nothing is to be looked for, once the one that asked first has had it read.
        """
        told, until = False, clock.now() + within
        while not told and (left := until - clock.now()) > 0:
            async for said in conn.notifies(timeout=left, stop_after=1):
                if self._reading is not None and not self._reading.done():
                    await asyncio.wait([self._reading])
                told = told or self.policy.access is not None or not self.announcements.is_heard(said.payload)
        return told

    async def _look(self, conn: psycopg.AsyncConnection[Any], *, told: bool = True) -> None:
        """Say that this proxy lives, and see what is another than was read; ``told``: somebody says that something is.

        Triggers on the registry's tables run in ``conn``: the catalogue is asked for apart, where none can answer for it.
        """
        since = clock.now()
        fenced = since > self.announcements.fence.until
        unchanged = await self._say_and_look(conn, since, fenced=fenced)
        self.announcements.forget_unmade()
        leads = self._members.leads
        layout = unchanged or await self._verified(conn)
        await self._reconcile(layout)
        await self.jobs.follow(conn, layout.counter)
        if self.key_events is not None:
            await self._tell_events(conn, self.key_events)
        if self.policy.access is not None:
            self._take_memberships(await self._ask_catalogue(read_memberships))
        snapshot = self._read_last
        same = layout == snapshot.layout
        if same:
            whole = told or fenced or leads
            look: Ask[bool] = partial(snapshot.reader.same, apart=True) if whole else snapshot.reader.asked_same
            same = await self._ask_catalogue(look)
        if not same:
            await self.refresh(changed=True)
        if leads and self._passed_on != (adopted := self._adopted):
            # Also what a session here had read, and what somebody else has told of: he need not have looked himself.
            await self._members.tell(conn)
            self._passed_on = adopted
        self.announcements.heard(since)
        if self._acknowledged != self._read_last.layout.epoch and (self._acknowledging is None or self._acknowledging.done()):
            self._acknowledging = spawn(self._acknowledge(), "acknowledge")  # who asks standbys may have to wait
        for tenant in self._tenants.values():
            tenant.keys.sweep()
        if self._renewing is None or self._renewing.done():
            # A slow provider must not keep anybody from noticing DDL.
            self._renewing = spawn(self._refresh_ahead(), "refresh ahead")

    async def _say_and_look(self, conn: psycopg.AsyncConnection[Any], since: float, *, fenced: bool) -> Layout | None:
        """Say that this proxy lives, hold statements where somebody is about to switch tables, and return the layout if unchanged.

        The registry is looked at by each for itself: nobody else says what of it may be believed.
        """
        # Before anything that takes its time: DDL waits for this.
        await self._members.beat(conn, self._acknowledged, self.announcements.unread_names.update)
        unchanged, is_held = await unchanged_and_held(conn, self.trust)
        if is_held:
            await self.held.look(conn)
        if not fenced:
            self.announcements.heard(since)
        return unchanged

    async def _acknowledge(self) -> None:
        """Say from now on that this proxy has taken the registry over, once the standbys that its sessions are at have it too.

        Who gives an index another slot waits for that before anything is searched by it: what it has filled is at all of them then.
        """
        epoch = self._read_last.layout.epoch
        if not await self.held.replayed(epoch):
            return
        self._acknowledged = epoch
        try:
            # Who changes the registry step by step waits for each to be taken over: not until the next look.
            async with self._pool.connection() as conn:
                await self._members.beat(conn, epoch, self.announcements.unread_names.update)
        except (psycopg.Error, TimeoutError) as error:
            log.warning("the next look tells what was taken over", database=self.policy.database, type=type(error).__name__)

    async def _arrive(self, address: Address) -> None:
        """Return when a new session at a server may begin; PhiproxyError where that is a standby that is behind for long."""
        if self.held.standbys is not None:
            await self.held.standbys.arrive(address, lambda: self._read_last.layout.epoch)

    async def _tell_events(self, conn: psycopg.AsyncConnection[Any], key_events: KeyEvents) -> None:
        while events := await events_since(conn, self._settings.service.schema_, key_events.last):
            key_events.told(self.policy.database, events)
            key_events.last = events[-1].number

    async def _verified(self, conn: psycopg.AsyncConnection[Any]) -> Layout:
        """Read the registry, and do what follows for keys; NotAuthentic where it cannot be believed."""
        try:
            layout = await read_layout(conn, self.trust)
        except NotAuthentic:
            # Whatever changed since cannot be known: a key that is held may be a compromised one.
            for tenant in list(self._tenants.values()):
                tenant.keys.forget()
            raise
        if self.trust.rolled_back:
            for tenant in list(self._tenants.values()):
                tenant.keys.stop_writing()
        return layout

    async def _refresh_ahead(self) -> None:
        await asyncio.gather(*(tenant.refresh_ahead() for tenant in list(self._tenants.values())))

    async def see_kek(self, settings: Settings, policy: Policy) -> None:
        """See that the KEKs that another configuration names, or the same ones again, open the root keys; nothing changes.

        ProviderError when they do not, or do not answer: what is cached is better than nothing.
        """
        try:
            async with self._pool.connection() as conn:
                roots = await opening_roots(conn, settings.service.schema_, self.trust)
        except (psycopg.Error, TimeoutError) as error:
            raise ProviderUnavailable(f"the key registry cannot be read ({type(error).__name__})") from None
        if (settings.kek_uri, policy.tenant) == (self._settings.kek_uri, self.policy.tenant) and not in_file(settings.kek_uri):
            await see_that_it_opens(policy, self.kek, roots)
            return
        kek = await keks_of(settings, policy, await provider_of(settings))
        try:
            await see_that_it_opens(policy, kek, roots)
        finally:
            await kek.close()

    async def fit(self, policy: Policy) -> Snapshot:
        """Read the database for a changed policy file; ConfigError when it does not fit. Nothing changes yet."""
        try:
            async with self._pool.connection() as conn:
                layout = await read_layout(conn, self.trust)
                also = None if self._computing is None else questions
                self._take_memberships(await read_roles(conn, policy))
                token_verifier(policy)  # read again when it is taken: what is wrong with it is said now
                return await read_snapshot(conn, self._settings, policy, layout, also=also)
        except (psycopg.Error, TimeoutError) as error:
            raise ProviderUnavailable(f"the catalogue cannot be read ({type(error).__name__})") from None

    def take(self, policy: Policy, snapshot: Snapshot) -> None:
        """Go on with a policy file that fits, and without cached keys."""
        self.policy, self._tokens = policy, token_verifier(policy)
        for tenant in self._tenants.values():
            tenant.tokens = self._tokens
            tenant.keys.forget()
        self._read_last = replace(self._read_last, reader=snapshot.reader)
        self._adopt(snapshot.catalog, snapshot.layout)
        self.announcements.outdated()  # what was read for sessions since may be newer than what is taken
        spawn(self._follow_engine(snapshot.catalog, snapshot.reader), "engine")


def token_verifier(policy: Policy) -> TokenVerifier | None:
    """Return who verifies tokens of end users, where the policy has any; ConfigError where its keys cannot be read."""
    tokens = policy.access.tokens if policy.access is not None else None
    return TokenVerifier.read(tokens, policy.at("access", "tokens", "jwks")) if tokens is not None else None


def warn_of_leakage(database: str, columns: Iterable[PolicyColumn]) -> None:
    """Log which indexes are of too low a cardinality: what is served goes on, ``check`` and ``ddl`` refuse it."""
    for complaint in declared_complaints(columns):
        log.warning("an index tells much", database=database, complaint=complaint)


def tenant_of(policy: Policy, admission: Admission) -> str:
    """Return the tenant of a session from its startup message; NoTenant when it names none that could be one."""
    source = policy.tenant
    assert source is not None
    named = admission.user if source.name is None else admission.setting(source.name)
    if not named:
        raise NoTenant(f"this database needs a tenant: pass {source.name or 'a role'} when connecting")
    return named
