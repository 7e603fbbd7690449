"""A session that looks at rows as a job does: as a replica where it may, and with no row hidden from it."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.jobs.relations import Connection, Part, fired_by_update, refuse_unless_owner, rows_of
from phiproxy.keys.registry import Registry
from phiproxy.keys.tenant_keks import Kek
from phiproxy.net.service_login import connect_service
from phiproxy.policy.model import Policy
from phiproxy.policy.settings import Settings

# Values and keys are read as the same text whatever the role's own settings are; a job is as patient as it takes, and what it
# has written is as good as committed once its state says so, which is a synchronous commit.
SESSION: Final = """
SET DateStyle TO 'ISO'; SET IntervalStyle TO 'postgres'; SET TimeZone TO 'UTC'; SET bytea_output TO 'hex';
SET extra_float_digits TO 1; SET statement_timeout TO 0; SET lock_timeout TO 0; SET idle_in_transaction_session_timeout TO 0;
SET row_security TO off; SET synchronous_commit TO off; SET jit TO off; SET default_transaction_isolation TO 'read committed';
SET search_path TO pg_catalog;
SET log_parameter_max_length_on_error TO 0
"""


@dataclass(frozen=True, slots=True)
class JobSite:
    """The database that jobs are at work in: its policy, its registry, and the KEK."""

    settings: Settings
    policy: Policy
    registry: Registry
    kek: Kek

    @property
    def schema(self) -> str:
        """The registry's."""
        return self.registry.schema


class Sight:
    """A session over a site's tables. ``conn`` is in autocommit mode; ``as_replica``: triggers do not fire in it."""

    def __init__(self, site: JobSite, conn: Connection, *, as_replica: bool) -> None:
        self.site = site
        self.conn = conn
        self.as_replica = as_replica

    async def see(self, part: Part, query: sql.Composed) -> list[tuple[Any, ...]]:
        """Return the rows of a query over a relation, of which no row is hidden; raises as of ``role_of``, psycopg.Error."""
        role = await self.role_of(part)
        async with self.conn.transaction():
            if role is not None:
                await self.conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            return await rows_of(self.conn, query.as_string(self.conn))

    async def role_of(self, part: Part) -> str | None:
        """Return the role that sees every row of a relation, where this session's does not; ConfigError where none does."""
        if not part.hidden:
            return None
        await refuse_unless_owner(self.conn, [part])
        forced = await rows_of(self.conn, "SELECT relforcerowsecurity FROM pg_catalog.pg_class WHERE oid = %s::oid", part.oid)
        if forced and forced[0][0]:
            raise ConfigError(
                f"row-level security hides rows of {part.label} from its owner too",
                hint=f"for the time of the job: ALTER TABLE {part.label} NO FORCE ROW LEVEL SECURITY",
            )
        return part.owner

    async def refuse_firing(self, parts: Iterable[Part]) -> None:
        """ConfigError where writing these relations fires something of the application's own."""
        for part in parts:
            if fired := await fired_by_update(self.conn, part.oid, as_replica=self.as_replica):
                raise would_fire(part, fired, self.site.settings.service.user, as_replica=self.as_replica)


def would_fire(part: Part, fired: Iterable[str], user: str, *, as_replica: bool) -> ConfigError:
    """Return the refusal of what writing a relation would fire."""
    hint = "to let it fire once per row: --fire-triggers"
    if not as_replica:
        hint += f"; to keep it from firing: GRANT SET ON PARAMETER session_replication_role TO {user}"
    return ConfigError(f"an UPDATE of {part.label} would fire {', '.join(fired)}", hint=hint)


async def firing(conn: Connection, parts: Iterable[Part], user: str) -> list[str]:
    """Name what writing these relations would fire, in a session that is a replica where the role may be."""
    async with conn.transaction(force_rollback=True):
        as_replica = await become_replica(conn)
    told = []
    for part in parts:
        if fired := await fired_by_update(conn, part.oid, as_replica=as_replica):
            error = would_fire(part, fired, user, as_replica=as_replica)
            told.append(f"{error.message}; {error.hint}")
    return told


@asynccontextmanager
async def looking(site: JobSite, *, fire_triggers: bool) -> AsyncIterator[Sight]:
    """Open a session that can change nothing, for a look at what a job would do; ``fire_triggers`` as it would be started."""
    async with await connect_service(site.settings, site.policy.database) as conn:
        await conn.execute(SESSION)
        as_replica = not fire_triggers and await become_replica(conn)
        await conn.execute("SET default_transaction_read_only TO on")
        yield Sight(site, conn, as_replica=as_replica)


async def become_replica(conn: Connection) -> bool:
    """Keep triggers from firing in this session; False where the role may not."""
    try:
        await conn.execute("SET session_replication_role TO replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
