"""``phiproxy jobs``, and what the commands that start a job share."""

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from phiproxy.commands.command_context import (
    Configuration,
    database,
    database_error,
    load,
    locks_told,
    opened_kek,
    opened_registry,
    print_json,
    print_table,
)
from phiproxy.errors import ConfigError
from phiproxy.jobs.display import display
from phiproxy.jobs.records import OPEN, Job, Progress, add_job, find_job, list_jobs, set_job_state, stored_jobs
from phiproxy.jobs.run_or_abort import abort, execute
from phiproxy.jobs.running import JobSite, Undone, end_work, is_worked_on
from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.provider import KeyProvider
from phiproxy.ops.memory import settle_memory
from phiproxy.policy.model import Policy

NICENESS: Final = 10
"""A job takes all of a processor for minutes: a proxy, or a server, on the same machine comes first."""
LOCKED: Final = (
    "of a lock that another session keeps, pg_locks shows whose it is; phiproxy jobs says how the job is, and phiproxy jobs resume"
    " goes on with it"
)


@asynccontextmanager
async def job_site(configuration: Configuration, policy: Policy, older: KeyProvider | None = None) -> AsyncIterator[JobSite]:
    """Open the database that a job is at work in: its registry, verified, and the KEK. ``older`` as of ``opened_registry``.

    ConfigError where the server refuses something, or ends; where somebody keeps the registry locked, it says so, and who.
    """
    settings = configuration.settings
    try:
        async with (
            locks_told(settings, policy, LOCKED),
            opened_kek(settings, policy) as kek,
            opened_registry(settings, policy, kek, older, patient=True) as registry,
        ):
            yield JobSite(settings, policy, registry, kek)
    except psycopg.Error as error:
        raise ConfigError(database_error(policy.database, error)) from None


@asynccontextmanager
async def _stopping(config: Path, only: str | None) -> AsyncIterator[JobSite]:
    """Open the database of a job that is to be stopped."""
    configuration = load(config)
    async with job_site(configuration, configuration.policy_of(only)) as site:
        yield site


async def start(site: JobSite, kind: str, target: str, options: Mapping[str, Any], *, as_json: bool) -> Job:
    """Record a job and work on it to its end."""
    return await work_on(site, await add_job(site.registry, kind, target, options), as_json=as_json)


async def work_on(site: JobSite, job: Job, *, as_json: bool) -> Job:
    """Work on a job to its end; ConfigError that says how to go on where the server ends the connection, or refuses something."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    settle_memory()
    if not as_json:
        sys.stderr.write(f"phiproxy: {job.subject} in {site.policy.database}\n")
    with _quiet_library(), display(as_json=as_json) as shown:
        try:
            return await execute(site, job, shown)
        except Undone as error:
            if as_json:
                _tell_undone(job, error)
            raise
        except psycopg.Error as error:
            raise ConfigError(
                database_error(site.policy.database, error), hint=f"what is done stays done: phiproxy jobs resume {job.id}"
            ) from None


def _tell_undone(job: Job, error: Undone) -> None:
    """Print which rows could not be done, all of them, as a line of JSON."""
    undone = [{"row": row, "why": why} for row, why in sorted(error.rows.items())]
    sys.stdout.write(json.dumps({"job": job.id, "state": "failed", "phase": error.phase, "undone": undone}) + "\n")


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep the library from telling errors that follow another one: the server's DETAIL in these may quote a row."""
    logger = logging.getLogger("psycopg")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def spelled_counts(progress: Progress) -> str:
    """Return a job's counts in words."""
    return ", ".join(f"{name} {count}" for name, count in sorted(progress.counts.items()))


async def list_all(config: Path, only: str | None, *, as_json: bool) -> int:
    """Print the jobs of every database, as they are stored."""
    configuration = load(config)
    listed: list[tuple[str, Job, Progress, bool]] = []
    for policy in configuration.policies if only is None else [configuration.policy_of(only)]:
        async with database(configuration.settings, policy) as conn:
            for job, progress in await stored_jobs(conn, configuration.settings.service.schema_):
                listed.append((policy.database, job, progress, job.state in OPEN and await is_worked_on(conn, job.id)))
    if as_json:
        print_json(
            [
                {
                    "database": name, "id": job.id, "kind": job.kind, "target": job.target,
                    "state": job.state, "worked_on": worked_on,
                    "phase": progress.phase, "relation": progress.relation, "counts": progress.counts,
                    "who": job.who, "started": job.started.isoformat(timespec="seconds"),
                }
                for name, job, progress, worked_on in listed
            ]
        )  # fmt: skip
        return 0
    heads = ["database", "job", "what", "state", "phase", "counts", "who", "started"]
    rows = [
        (name, job.id, f"{job.kind} {job.target}", state_in_words(job, worked_on=worked_on), progress.phase,
         spelled_counts(progress), job.who, f"{job.started:%Y-%m-%d %H:%M}")
        for name, job, progress, worked_on in listed
    ]  # fmt: skip
    print_table("", heads, rows)
    return 0


def state_in_words(job: Job, *, worked_on: bool) -> str:
    """Say how a job is: one that was broken off is still recorded as running."""
    return "broken off" if job.state == "running" and not worked_on else job.state


async def pause(config: Path, only: str | None, job_id: int) -> int:
    """Let a job wait."""
    async with _stopping(config, only) as site:
        job = await find_job(site.registry, job_id)
        if job.state != "running":
            raise ConfigError(f"{job.subject} is {job.state}; only one that runs can be paused")
        await set_job_state(site.registry, job, "paused")
    sys.stdout.write(f"{job.subject} is paused; go on with: phiproxy jobs resume {job.id}\n")
    return 0


async def resume(config: Path, only: str | None, job_id: int, *, as_json: bool) -> int:
    """Go on with a job: in its own process where that waits, else in this one."""
    configuration = load(config)
    policy = configuration.policy_of(only)
    async with job_site(configuration, policy) as site:
        job = await find_job(site.registry, job_id)
        if job.state not in (*OPEN, "failed"):
            raise ConfigError(f"{job.subject} is {job.state}: there is nothing to go on with")
        async with database(configuration.settings, policy) as conn:
            worked_on = await is_worked_on(conn, job.id)
        if job.state != "running":
            job = await set_job_state(site.registry, job, "running")
        if worked_on:
            sys.stdout.write(f"{job.subject} goes on in its own process\n")
            return 0
        job = await work_on(site, job, as_json=as_json)
    report_end(job, as_json=as_json)
    return 0


async def abort_job(config: Path, only: str | None, job_id: int) -> int:
    """End a job for good. A process that works on it is told, and its sessions are ended where it does not answer."""
    async with _stopping(config, only) as site:
        job = await find_job(site.registry, job_id)
        if job.state == "done":
            raise ConfigError(f"{job.subject} is done already")
        if job.state == "aborted":
            await _refuse_followed(site, job)
        async with database(site.settings, site.policy) as conn:
            if await is_worked_on(conn, job.id):
                if job.state != "aborted":
                    await set_job_state(site.registry, job, "aborted")
                await _end_work(site, conn, job)
                job = await find_job(site.registry, job_id)
        if job.state == "done":
            raise ConfigError(f"{job.subject} came to its end before")
        with display(as_json=False) as shown:
            await abort(site, job, shown)
    sys.stdout.write(f"{job.subject} is aborted\n")
    return 0


async def _refuse_followed(site: JobSite, job: Job) -> None:
    """ConfigError where a later job has gone on with what one that is aborted may have left: that is not its own any more."""
    for other in await list_jobs(site.registry):
        if other.id > job.id and other.state in (*OPEN, "failed") and _common(job, other):
            raise ConfigError(
                f"{job.subject} is aborted, and {other.subject} is about the same", hint=f"phiproxy jobs abort {other.id}"
            )


def _common(job: Job, other: Job) -> bool:
    """Tell whether two jobs add something to the same columns."""
    tables = [{tuple(name[:2]) for name in each.options.get("columns", ())} for each in (job, other)]
    return not tables[0].isdisjoint(tables[1]) or (
        "identity" in job.options and job.options["identity"] == other.options.get("identity")
    )


async def _end_work(site: JobSite, conn: Connection, job: Job) -> None:
    """``end_work``; the job can be aborted once more where it raises."""
    try:
        await end_work(conn, job)
    except ConfigError as error:
        await set_job_state(site.registry, await find_job(site.registry, job.id), "failed", why=error.message)
        raise


def report_end(job: Job, *, as_json: bool) -> None:
    """Say how a job has ended."""
    if as_json:
        sys.stdout.write(f'{{"job": {job.id}, "state": "{job.state}"}}\n')
    else:
        sys.stdout.write(f"{job.subject} is {job.state}\n")
