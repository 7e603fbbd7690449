"""What the registry says of jobs: authentic or not believed, and an export takes it along."""

from __future__ import annotations

import pytest

from phiproxy.errors import ConfigError, NotAuthentic
from phiproxy.jobs.records import (
    Progress,
    add_job,
    find_job,
    list_jobs,
    read_progress,
    set_job_state,
    state_of,
    stored_jobs,
    write_progress,
)
from phiproxy.keys.anchoring import verify
from phiproxy.keys.inventory import export
from phiproxy.keys.registry_import import import_registry
from tests.keys.fakes import DEPLOYMENT, Site


async def test_a_job_from_its_start_to_its_end(site: Site) -> None:
    await site.init()
    async with site.registry() as registry:
        assert await list_jobs(registry) == []
        job = await add_job(registry, "recrypt", "public.patients", {"compromised": True})
        assert (job.id, job.kind, job.target, job.state, job.options) == (
            1,
            "recrypt",
            "public.patients",
            "running",
            {"compromised": True},
        )
        assert job.subject == "job 1, recrypt public.patients"
        paused = await set_job_state(registry, job, "paused")
        with pytest.raises(ConfigError, match="is no longer running"):
            await set_job_state(registry, job, "aborted")
        done = await set_job_state(registry, paused, "done")
        assert await find_job(registry, 1) == done
        assert await list_jobs(registry) == [done]
        with pytest.raises(ConfigError, match="no job 2"):
            await find_job(registry, 2)
    events = site.run("SELECT what, subject FROM phiproxy.event WHERE what LIKE 'job%%' ORDER BY id")
    assert events == [(f"job {what}", job.subject) for what in ("started", "paused", "done")]


async def test_progress_is_in_the_transaction_of_what_was_done(site: Site) -> None:
    await site.init()
    async with site.registry() as registry, await site.connect() as conn:
        await conn.set_autocommit(True)
        job = await add_job(registry, "reindex", "x", {})
        assert await read_progress(conn, "phiproxy", job.id) == Progress()
        progress = Progress("filling", "public.patients", ("7", 'a,b"{}'), {"read": 3})
        async with conn.transaction(force_rollback=True):
            await write_progress(conn, "phiproxy", job.id, progress)
        assert await read_progress(conn, "phiproxy", job.id) == Progress()
        progress.add(read=2, written=1)
        await write_progress(conn, "phiproxy", job.id, progress)
        assert await read_progress(conn, "phiproxy", job.id) == progress
        assert progress.counts == {"read": 5, "written": 1}
        assert await state_of(conn, "phiproxy", job.id) == "running"
        assert await stored_jobs(conn, "phiproxy") == [(job, progress)]


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE phiproxy.job SET kind = 'decrypt'",
        "UPDATE phiproxy.job SET state = 'running'",
        "UPDATE phiproxy.job SET options = '{}'",
        "INSERT INTO phiproxy.job (kind, target, options, state, who) VALUES ('decrypt', 'x', '{}', 'paused', 'dba')",
        "DELETE FROM phiproxy.job",
    ],
)
async def test_a_job_that_nobody_has_started_so_is_not_believed(site: Site, tampering: str) -> None:
    await site.init()
    async with site.registry() as registry:
        await set_job_state(registry, await add_job(registry, "recrypt", "x", {"key": "1"}), "paused")
        site.run(tampering)
        with pytest.raises(NotAuthentic):
            await list_jobs(registry)
        assert (await registry.layout()).columns, "and nothing else is doubted"
        async with await site.connect() as conn:
            assert [fault.what for fault in await verify(registry.trust, conn)]


async def test_a_registry_of_before_gets_its_tables_with_the_first_job(site: Site) -> None:
    await site.init()
    site.run("DROP TABLE phiproxy.job_progress, phiproxy.job")
    async with site.registry() as registry, await site.connect() as conn:
        assert await list_jobs(registry) == []
        assert await verify(registry.trust, conn) == []
        assert await stored_jobs(conn, "phiproxy") == []
        await conn.rollback()
        assert "job" not in (await export(conn))["authenticated"]["rows"]
        assert (await add_job(registry, "recrypt", "x", {})).id == 1
        assert await verify(registry.trust, conn) == []


async def test_an_export_takes_jobs_along(site: Site) -> None:
    await site.init()
    async with site.registry() as registry, await site.connect() as conn:
        await conn.set_autocommit(True)
        job = await add_job(registry, "recrypt", "x", {"key": "1"})
        dump = await export(conn)
        site.run("DROP SCHEMA phiproxy CASCADE")
        await import_registry(conn, dump, DEPLOYMENT, site.provider)
    async with site.registry() as registry:
        assert await list_jobs(registry) == [job]
        assert (await add_job(registry, "recrypt", "y", {})).id == 2 or (await find_job(registry, 3)).target == "y"
