"""What each kind of job does from wherever it was broken off to its end, and what is taken back when it is aborted."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import psycopg

from phiproxy.errors import ConfigError, PhiproxyError
from phiproxy.jobs import decrypt, encrypt, recrypt, reindex, respond
from phiproxy.jobs.display import Display
from phiproxy.jobs.records import Job, find_job, set_job_state
from phiproxy.jobs.running import Aborted, JobSite, Run, running
from phiproxy.keys.registry_locks import is_of_lock


class JobKind(NamedTuple):
    """``run`` is called again after each interruption, and finds out for itself what is done already."""

    run: Callable[[Run], Awaitable[None]]
    abort: Callable[[Run], Awaitable[None]]


async def nothing(_: Run) -> None:
    """Leave what is done as it is: it is right by itself."""


KINDS: Final = {
    "decrypt": JobKind(decrypt.run, decrypt.abort),
    "encrypt": JobKind(encrypt.run, encrypt.abort),
    "recrypt": JobKind(recrypt.run, nothing),
    "reindex": JobKind(reindex.run, reindex.abort),
    "respond": JobKind(respond.run, nothing),
}


async def execute(site: JobSite, job: Job, display: Display) -> Job:
    """Work on a job to its end, and return it as it is then.

    What the job itself finds wrong makes it ``failed``, from which it can be resumed like one that was broken off. Raises
    PhiproxyError, Aborted where somebody aborts it meanwhile, psycopg.Error.
    """
    kind = kind_of(job)
    async with running(site, job, display) as run:
        try:
            await kind.run(run)
        except Aborted:
            run.ending = True
            await kind.abort(run)
            raise
        except PhiproxyError as error:
            if not is_of_lock(error):
                await set_job_state(site.registry, job, "failed", why=error.message)
            raise
    return await set_job_state(site.registry, await find_job(site.registry, job.id), "done")


async def abort(site: JobSite, job: Job, display: Display) -> Job:
    """Abort a job that no process works on, and take back what its kind takes back.

    One that is ``aborted`` already, and that its process may have left anywhere, is ``failed`` where that cannot be. Locks are
    waited for as ``be_patient`` says.
    """
    kind = kind_of(job)
    try:
        async with running(site, job, display, stopping=True) as run:
            run.ending = True
            await kind.abort(run)
    except (PhiproxyError, psycopg.Error) as error:
        if job.state == "aborted" and not is_of_lock(error):
            await set_job_state(site.registry, job, "failed", why="what it has added could not be taken back")
        raise
    return job if job.state == "aborted" else await set_job_state(site.registry, job, "aborted")


def kind_of(job: Job) -> JobKind:
    """Return the kind of a job; ConfigError for one that a newer version has started."""
    kind = KINDS.get(job.kind)
    if kind is None:
        raise ConfigError(f"{job.subject} is of a kind that this version does not know")
    return kind
