"""Whether a process works on a job, and the limits that it was started with."""

from __future__ import annotations

from phiproxy.jobs.running import _lock_number, is_worked_on, limits_of
from phiproxy.jobs.throttle import Limits
from tests.keys.fakes import Site


async def test_who_holds_the_lock_works_on_the_job(site: Site) -> None:
    async with await site.connect() as conn, await site.connect() as other:
        assert not await is_worked_on(conn, 3)
        assert not await is_worked_on(other, 3), "to ask is not to take"
        await other.execute("SELECT pg_advisory_lock(%s)", (_lock_number("job 3"),))
        assert await is_worked_on(conn, 3)
        assert not await is_worked_on(conn, 4)


def test_limits_of_a_job() -> None:
    assert limits_of({}) == Limits()
    assert limits_of({"limits": {"rate": 5, "lag": 0, "wal": 1, "dead": 0.1, "query": None}}) == Limits(0, 1, 0.1, None, 5)
