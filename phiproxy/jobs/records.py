"""What the registry records of jobs: what each is to do, which is authenticated, and how far it is, which nothing depends on.

Who can write the registry could else have a job resumed that nobody has started (``decrypt``). How far a job is (``Progress``) is
written in the transaction of each batch and believed of nobody: at its end every job looks at all rows again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError, NotAuthentic
from phiproxy.keys.authenticated_tables import JOB, Connection, Read, as_number, present_tables, read_rows
from phiproxy.keys.manifest import JOBS_GROUP
from phiproxy.keys.registry import Registry, os_user, record_event
from phiproxy.keys.registry_schema import create_members, table

JobState = Literal["running", "paused", "done", "aborted", "failed"]
OPEN: Final = ("running", "paused")
"""States from which a job goes on."""


@dataclass(frozen=True, slots=True)
class Job:
    """What somebody has started: ``kind`` is the command, ``target`` what it is about, ``options`` what the command was given."""

    id: int
    kind: str
    target: str
    options: Mapping[str, Any]
    state: JobState
    who: str
    started: datetime

    @property
    def subject(self) -> str:
        """How events and messages name it."""
        return f"job {self.id}, {self.kind} {self.target}".rstrip()


@dataclass(slots=True)
class Progress:
    """How far a job is: its phase, the relation that it goes through, the key of the last row there, and what was counted.

    ``counts`` are numbers by name; all jobs count ``read`` and ``written`` (rows), and know ``total`` (rows, an estimate).
    """

    phase: str = ""
    relation: str = ""
    cursor: tuple[str, ...] | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, **counts: int) -> None:
        """Add to counts."""
        for name, more in counts.items():
            self.counts[name] = self.counts.get(name, 0) + more


async def add_job(registry: Registry, kind: str, target: str, options: Mapping[str, Any]) -> Job:
    """Record a job as running. ``options`` are what JSON has."""
    async with registry.transaction() as conn:
        await conn.execute(create_members(registry.schema))
    text = json.dumps(options, sort_keys=True)
    async with registry.changing() as change:
        query = sql.SQL(
            "INSERT INTO {} (kind, target, options, state, who) VALUES (%s, %s, %s, 'running', %s) RETURNING id"
        ).format(table(change.schema, "job"))
        row = await (await change.conn.execute(query, (kind, target, text, os_user()))).fetchone()
        assert row is not None
        job_id: int = row[0]
        await change.conn.execute(
            sql.SQL("INSERT INTO {} (job) VALUES (%s)").format(table(change.schema, "job_progress")), (job_id,)
        )
        change.added("job", job_id, fields=(kind, target, text, "running", os_user(), ...))
        await record_event(change.conn, change.schema, "job started", f"job {job_id}, {kind} {target}", (None, "running"))
    return await find_job(registry, job_id)


async def find_job(registry: Registry, job_id: int) -> Job:
    """Return a job; ConfigError when there is none of this number, NotAuthentic when somebody has changed it past phiproxy."""
    for job in await list_jobs(registry):
        if job.id == job_id:
            return job
    raise ConfigError(f"the registry knows no job {job_id}", hint="phiproxy jobs lists them")


async def list_jobs(registry: Registry) -> list[Job]:
    """Return all jobs in the order they were started; NotAuthentic when one of them was changed, added or removed past phiproxy."""
    async with registry.reading() as view:
        if JOB not in await present_tables(view.conn, view.schema):
            return []
        rows = await view.rows(JOB, sql.SQL("true"))
        wrong = [read.row.text for read, ok in rows if not ok]
        wrong += [f"job ({', '.join(key)})" for key in await view.missing(JOBS_GROUP, "job", (), {r.row.label for r, _ in rows})]
    if wrong:
        raise NotAuthentic(f"{', '.join(wrong)} of the key registry is not authentic", hint="phiproxy check names what was changed")
    return [_job(read) for read, _ in rows]


async def stored_jobs(conn: Connection, schema: str) -> list[tuple[Job, Progress]]:
    """Return the jobs as they are stored, verified by nothing, and how far each is: to be shown."""
    if JOB not in await present_tables(conn, schema):
        return []
    listed = []
    for read in await read_rows(conn, schema, JOB, sql.SQL("true")):
        job = _job(read)
        listed.append((job, await read_progress(conn, schema, job.id)))
    return listed


def _job(read: Read) -> Job:
    kind, target, options, state, who, started = read.row.fields
    at = datetime.fromtimestamp(as_number(started) / 1_000_000, UTC)
    return Job(
        as_number(read.row.key[0]), kind or "", target or "", json.loads(options or "{}"), cast("JobState", state), who or "", at
    )


async def set_job_state(registry: Registry, job: Job, state: JobState, *, why: str = "") -> Job:
    """Give a job that is still in its state another one; ConfigError when somebody else was first."""
    async with registry.changing() as change:
        await change.before("job", job.id)
        query = sql.SQL("UPDATE {} SET state = %s WHERE id = %s AND state = %s").format(table(change.schema, "job"))
        if (await change.conn.execute(query, (state, job.id, job.state))).rowcount != 1:
            raise ConfigError(f"{job.subject} is no longer {job.state}; look again", hint="phiproxy jobs")
        change.became("job", job.id, fields=(..., ..., ..., state, ..., ...))
        await record_event(
            change.conn, change.schema, f"job {state}", job.subject + (f": {why}" if why else ""), (job.state, state)
        )
    return await find_job(registry, job.id)


async def state_of(conn: Connection, schema: str, job_id: int) -> str:
    """Return a job's state as it is stored: whether to go on; whoever acts on another one than ``running`` verifies it."""
    query = sql.SQL("SELECT state FROM {} WHERE id = %s").format(table(schema, "job"))
    row = await (await conn.execute(query, (job_id,))).fetchone()
    return "" if row is None else str(row[0])


async def read_progress(conn: Connection, schema: str, job_id: int) -> Progress:
    """Return how far a job is."""
    query = sql.SQL('SELECT phase, relation, "cursor", counts FROM {} WHERE job = %s').format(table(schema, "job_progress"))
    row = await (await conn.execute(query, (job_id,))).fetchone()
    if row is None:
        return Progress()
    phase, relation, cursor, counts = row
    return Progress(phase, relation, None if cursor is None else tuple(cursor), json.loads(counts))


async def write_progress(conn: psycopg.AsyncConnection[Any], schema: str, job_id: int, progress: Progress) -> None:
    """Write how far a job is, in the transaction of ``conn``: with what it has changed, or not at all."""
    query = sql.SQL(
        'INSERT INTO {} (job, phase, relation, "cursor", counts) VALUES (%s, %s, %s, %s::text[], %s) ON CONFLICT (job) DO UPDATE'
        ' SET phase = excluded.phase, relation = excluded.relation, "cursor" = excluded."cursor", counts = excluded.counts,'
        " at = pg_catalog.clock_timestamp()"
    ).format(table(schema, "job_progress"))
    cursor = None if progress.cursor is None else list(progress.cursor)
    await conn.execute(query, (job_id, progress.phase, progress.relation, cursor, json.dumps(progress.counts)))
