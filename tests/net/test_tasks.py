"""Tasks are held while they run, and let go however they end."""

from __future__ import annotations

import asyncio
import gc

import pytest

from phiproxy.net import tasks
from tests.net.serving import until


async def test_a_task_nobody_else_holds_runs_to_its_end() -> None:
    done = asyncio.Event()
    before = tasks.running()

    async def work() -> None:
        await asyncio.sleep(0.05)
        done.set()

    tasks.spawn(work(), "work")
    gc.collect()
    assert tasks.running() == before + 1
    await asyncio.wait_for(done.wait(), 60)
    await until(lambda: tasks.running() == before, "the task is still held")


async def test_failed_and_cancelled_tasks_are_let_go() -> None:
    before = tasks.running()

    async def fail() -> None:
        raise LookupError

    failing, sleeping = tasks.spawn(fail(), "fail"), tasks.spawn(asyncio.sleep(60), "sleep")
    assert failing.get_name() == "fail"
    sleeping.cancel()
    with pytest.raises(LookupError):
        await failing
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    await until(lambda: tasks.running() == before, "a task is still held")


async def test_what_is_told_is_done_again_also_after_it_has_failed() -> None:
    told, done = asyncio.Event(), list[int]()

    async def work() -> None:
        done.append(len(done))
        if len(done) == 1:
            raise asyncio.CancelledError

    task = tasks.spawn(tasks.whenever(told, work, "work"), "whenever")
    for times in (1, 2, 3):
        told.set()
        await until(lambda: len(done) == times, "it was not done")  # noqa: B023
    task.cancel()
    await asyncio.wait([task])
