"""A job at work in this process: its connections and locks, whether it is to go on, and its passes over tables.

Whoever runs a job holds its advisory lock, and that of each table that it writes: one job per table at a time, and no job twice.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.jobs.batch_size import BatchSize
from phiproxy.jobs.batches import Batch, Batches
from phiproxy.jobs.display import Display
from phiproxy.jobs.records import Job, Progress, find_job, read_progress, state_of, write_progress
from phiproxy.jobs.relations import Connection, Identifier, Part, TableName, may_act_as, rows_of
from phiproxy.jobs.row_sql import Scan, Work
from phiproxy.jobs.sight import SESSION, JobSite, Sight, become_replica
from phiproxy.jobs.throttle import Limits, Throttle
from phiproxy.keys.older_transactions import older_have_ended
from phiproxy.keys.registry_locks import SHORT, be_patient
from phiproxy.keys.serving_proxies import all_have_followed
from phiproxy.net.service_login import connect_service

PAUSED_STEP: Final = 1.0
ABORTED_STEP: Final = 0.2
NOTICED_WITHIN: Final = 20.0
"""Seconds in which a process that is at work finds out that its job is aborted, and takes back what it has added."""
MOST_NAMED: Final = 20
STALLED: Final = 12
"""Passes in a row that wrote nothing, since others hold the rows locked, before a job gives up."""

Noted = Callable[[Progress], None]


class Aborted(ConfigError):
    """The job was aborted while it ran."""


class Undone(ConfigError):
    """Some rows could not be done, all others are: ``rows`` are why, by the names of their keys."""

    def __init__(self, phase: str, rows: Mapping[str, str]) -> None:
        named = [f"{row}: {why}" for row, why in sorted(rows.items())]
        if len(named) > MOST_NAMED:
            named[MOST_NAMED:] = [f"and {len(named) - MOST_NAMED} more"]
        listed = "\n".join(named)
        super().__init__(
            f"{phase}: {len(rows)} rows could not be done:\n{listed}", hint="all others are done; put these right, and resume"
        )
        self.phase = phase
        self.rows = rows


class Run(Sight):
    """A job that this process works on. ``conn`` is in autocommit mode; ``progress`` is what the registry has of it."""

    def __init__(  # noqa: PLR0913
        self,
        site: JobSite,
        job: Job,
        conn: Connection,
        throttle: Throttle,
        display: Display,
        progress: Progress,
        *,
        reading: Connection,
        asking: Connection,
        as_replica: bool,
    ) -> None:
        super().__init__(site, conn, as_replica=as_replica)
        self.job = job
        self.reading = reading
        """Another connection, for what is read beside a transaction of ``conn``."""
        self.asking = asking
        """One for what the registry says, and is told, outside of these: locks on it are waited for as ``be_patient`` says."""
        self.display = display
        self.progress = progress
        self.size = BatchSize()
        self.ending = False
        """Whether the job is aborted, and what it has done is taken back."""
        self._throttle = throttle

    async def goes_on(self) -> None:
        """Return while the job is to go on: wait while it is paused; Aborted once it is aborted."""
        if self.ending:
            return
        told = False
        while (state := await state_of(self.asking, self.site.schema, self.job.id)) != "running":
            job = await find_job(self.site.registry, self.job.id)  # verified: who can write the registry stops nothing for good
            if job.state == "paused" and state == "paused":
                if not told:
                    self.display.waits("it is paused: phiproxy jobs resume " + str(self.job.id))
                told = True
                await asyncio.sleep(PAUSED_STEP)
                continue
            if job.state != "running":
                raise Aborted(f"{self.job.subject} is {job.state}")
        if told:
            self.display.waits("")

    async def begin(self, phase: str) -> bool:
        """Go over to a phase, unless the job is in it already: then it goes on behind its cursor, and True is returned."""
        if self.progress.phase == phase:
            return True
        self.progress = replace(self.progress, phase=phase, relation="", cursor=None)
        await write_progress(self.asking, self.site.schema, self.job.id, self.progress)
        return False

    async def lock_tables(self, names: Iterable[TableName]) -> None:
        """Take the locks of tables, until the end of the process; ConfigError where another job has one."""
        for name in sorted(set(names)):
            if not await _try_lock(self.conn, f"table {name}"):
                raise ConfigError(
                    f"another job is at work on {'.'.join(name)}", hint="one job per table at a time: phiproxy jobs lists them"
                )

    async def refuse_firing(self, parts: Iterable[Part]) -> None:
        """See ``Sight``; unless that is what was asked for."""
        if not self.job.options.get("fire_triggers"):
            await super().refuse_firing(parts)

    async def go_through(
        self,
        phase: str,
        tasks: Sequence[tuple[Scan, Work]],
        *,
        total: int | None = None,
        noted: Noted | None = None,
        enough: int = 0,
        once: bool = False,
    ) -> None:
        """Go through the wanted rows of relations, again and again, until a whole pass finds none.

        What others write meanwhile is in the next pass. A job that was broken off in this phase goes on behind its cursor first.
        ``enough``: so few rows in a whole pass may be left for later. ``once``: one pass is all.

        ``total``: how many rows are wanted, where that was counted. ``noted`` adds to what is recorded with each batch. Raises
        Undone with the keys of rows that could not be done, ConfigError where others keep rows locked; Aborted, psycopg.Error.
        """
        await self.begin(phase)
        # Rows that nothing names can be left alone only where none of them is wanted.
        tasks = [task for task in tasks if task[0].part.key or await self._has_wanted(task[0])]
        # What the policy lists may not be encrypted yet, and is to be nowhere in clear once it is.
        listed = {column.name for column in self.site.policy.columns()}
        tasks = [(replace(scan, remembered=False) if scan.part.is_named_by(listed) else scan, work) for scan, work in tasks]
        parts = [scan.part for scan, _ in tasks]
        await self.refuse_firing(parts)
        roles = {part.name: await self.role_of(part) for part in parts}
        first, stalled, left = True, 0, total if total is not None else sum(part.rows for part in parts)
        whole = self.progress.cursor is None and not self.progress.relation
        while True:
            self.display.phase(phase if first else f"{phase}, what others wrote meanwhile", left)
            first = False
            read = written = left = 0
            wrong, alike = dict[str, str](), Counter[str]()
            for scan, work in sorted(tasks, key=lambda task: task[0].part.label):
                if scan.part.label < self.progress.relation:
                    continue
                async for batch in self._batches(scan, work, roles[scan.part.name], noted):
                    read, written, left = read + batch.read, written + batch.written, left + batch.left
                    for row, why in batch.wrong:  # long keys may begin alike
                        name = f"{scan.part.label}, {row}"
                        alike[name] += 1
                        wrong[name if alike[name] == 1 else f"{name} ({alike[name]})"] = why
            if once or (whole and read - len(wrong) <= enough):
                if wrong:
                    raise Undone(phase, wrong)
                return
            stalled = 0 if written or not read else stalled + 1
            if stalled == STALLED:
                raise ConfigError(f"{phase}: others keep {read} rows locked", hint=f"phiproxy jobs resume {self.job.id} goes on")
            if stalled:
                await asyncio.sleep(1)
            whole = True
            self.progress = replace(self.progress, relation="", cursor=None)

    async def _batches(self, scan: Scan, work: Work, role: str | None, noted: Noted | None) -> AsyncIterator[Batch]:
        label = scan.part.label
        after = self.progress.cursor if self.progress.relation == label else None

        before, recorded = self.progress, 0

        async def commit(conn: Connection, batch: Batch) -> None:
            nonlocal recorded
            counts = {**before.counts}
            for name, more in (("read", batch.read), ("written", batch.written)):
                counts[name] = counts.get(name, 0) + more
            progress = replace(before, relation=label, cursor=scan.recorded(batch.cursor), counts=counts)
            if noted is not None:
                noted(progress)
            await conn.execute(SHORT)  # rows are locked meanwhile
            await write_progress(conn, self.site.schema, self.job.id, progress)
            self.progress, recorded = progress, batch.written

        while True:
            async with Batches(self.conn, self.reading, scan, work, self.size, after=after, role=role) as batches:
                while True:
                    await self.goes_on()
                    await self._throttle.wait(scan.part.name, self.goes_on)
                    before = self.progress
                    try:
                        batch = await batches.next(commit)
                    except psycopg.errors.LockNotAvailable:
                        break
                    if batch is None:
                        return
                    self.progress.add(written=batch.written - recorded)  # recorded with the next batch, or phase
                    self._throttle.count(batch.read)
                    self.display.advance(batch.read)
                    after = batch.cursor
                    yield batch
            # Somebody has the registry locked: it is waited for while no row is, and the batch is done once more.
            self.progress = before
            await write_progress(self.asking, self.site.schema, self.job.id, before)

    async def _has_wanted(self, scan: Scan) -> bool:
        query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {} t WHERE {})").format(Identifier(*scan.part.name), scan.wanted)
        ((wanted,),) = await self.see(scan.part, query)
        return bool(wanted)

    async def older_ended(self) -> None:
        """Wait until each transaction that is open now has ended: it may copy what it has read."""
        await older_have_ended(self.conn, self.display.waits, self.goes_on)

    async def acknowledged(self) -> None:
        """Wait until every live proxy has taken over what the registry says now, and the standbys of its sessions have it."""
        lease = 3 * self.site.settings.catalog.poll
        await all_have_followed(self.asking, self.site.schema, lease, self.display.waits, self.goes_on)


Kind = Callable[[Run], Awaitable[None]]
"""What a job does, from wherever it was broken off to its end; and what aborting one takes back."""


@asynccontextmanager
async def running(site: JobSite, job: Job, display: Display, *, stopping: bool = False) -> AsyncIterator[Run]:
    """Take a job on, as the only process that does; ConfigError where another one has it, or the options are not possible.

    ``stopping``: no lock is waited for longer than those on the registry.
    """
    options = job.options
    async with AsyncExitStack() as stack:
        conn, reading, looks, asking = [
            await stack.enter_async_context(await connect_service(site.settings, site.policy.database)) for _ in range(4)
        ]
        if not await _try_lock(conn, f"job {job.id}"):
            raise ConfigError(f"another process is at work on {job.subject}")
        for each in (conn, reading, asking):
            await each.execute(SESSION)
            if stopping or each is asking:
                await be_patient(each)
            await each.execute(f"SET application_name TO '{_named(job)}'")
        as_replica = not options.get("fire_triggers") and await become_replica(conn)
        throttle = Throttle(looks, limits_of(options), display.waits)
        await throttle.prepare()
        progress = await read_progress(asking, site.schema, job.id)
        yield Run(site, job, conn, throttle, display, progress, reading=reading, asking=asking, as_replica=as_replica)


def limits_of(options: object) -> Limits:
    """Return the limits among a job's options."""
    given = options.get("limits", {}) if isinstance(options, dict) else {}
    return Limits(**given)


async def is_worked_on(conn: Connection, job_id: int) -> bool:
    """Tell whether a process is at work on a job."""
    if await _try_lock(conn, f"job {job_id}"):
        await rows_of(conn, "SELECT pg_catalog.pg_advisory_unlock(%s)", _lock_number(f"job {job_id}"))
        return False
    return True


async def end_work(conn: Connection, job: Job) -> None:
    """Return when no process works on a job that is aborted: it was given time to notice, and then its sessions were ended.

    Of a process that was killed, or whose machine is gone, the server may go on with what that was at, or wait for it, for hours.
    ConfigError where a session does not end.
    """
    query = (
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE application_name = %s"
        " AND datname = pg_catalog.current_database() AND usename = CURRENT_USER"
    )
    for last in (False, True):
        end = time.monotonic() + NOTICED_WITHIN
        while time.monotonic() < end:
            if not await is_worked_on(conn, job.id):
                return
            await asyncio.sleep(ABORTED_STEP)
        if not last:
            await rows_of(conn, query, _named(job))
    raise ConfigError(f"a session of {job.subject} does not end on the server", hint=f"when it has: phiproxy jobs abort {job.id}")


def _named(job: Job) -> str:
    """Return the application_name of a job's sessions."""
    return f"phiproxy job {job.id}"


async def _try_lock(conn: Connection, what: str) -> bool:
    ((locked,),) = await rows_of(conn, "SELECT pg_catalog.pg_try_advisory_lock(%s)", _lock_number(what))
    return bool(locked)


def _lock_number(what: str) -> int:
    digest = hashlib.blake2b(f"phiproxy {what}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


__all__ = ["Aborted", "JobSite", "Kind", "Run", "Undone", "end_work", "is_worked_on", "limits_of", "may_act_as", "running"]
