"""Jobs as the metrics tell of them: counted by kind and state, and not looked at while nothing goes on."""

from __future__ import annotations

from phiproxy.jobs.records import Progress, add_job, set_job_state, write_progress
from phiproxy.keys.job_counts import JobCounts
from tests.keys.fakes import Site


async def test_a_registry_without_jobs(site: Site) -> None:
    await site.init()
    counts = JobCounts("phiproxy")
    async with await site.connect() as conn:
        await counts.follow(conn, 1)
        assert (counts.jobs, counts.rows) == ({}, {})
        await conn.execute("DROP TABLE phiproxy.job_progress, phiproxy.job")
        await counts.follow(conn, 2)
    assert (counts.jobs, counts.rows) == ({}, {}), "it was made by a version that had no jobs"


async def test_open_jobs_are_looked_at_until_they_are_over(site: Site) -> None:
    await site.init()
    counts = JobCounts("phiproxy")
    async with site.registry() as registry, await site.connect() as conn:
        await conn.set_autocommit(True)
        first, other = [await add_job(registry, "reindex", name, {}) for name in ("x", "y")]
        await counts.follow(conn, 1)
        assert counts.jobs == {("reindex", "running"): 2}
        for job, read in ((first, 3), (other, 4)):
            progress = Progress("filling", "public.patients", ("7",), {"read": read, "written": 1, "total": 9, "left": 8})
            await write_progress(conn, "phiproxy", job.id, progress)
        await counts.follow(conn, 1)
        assert counts.rows == {("reindex", "read"): 7, ("reindex", "written"): 2, ("reindex", "total"): 18}
        await set_job_state(registry, first, "failed")
        paused = await set_job_state(registry, other, "paused")
        await counts.follow(conn, 2)
        assert counts.jobs == {("reindex", "running"): 0, ("reindex", "failed"): 1, ("reindex", "paused"): 1}
        assert counts.rows[("reindex", "read")] == 4
        await set_job_state(registry, paused, "done")
        await counts.follow(conn, 3)
        over = {("reindex", "running"): 0, ("reindex", "failed"): 1, ("reindex", "paused"): 0, ("reindex", "done"): 1}
        assert counts.jobs == over
        assert set(counts.rows.values()) == {0}
        await add_job(registry, "recrypt", "z", {})
        await counts.follow(conn, 3)
        assert counts.jobs == over, "as long as the counter is the same there is nothing new"
