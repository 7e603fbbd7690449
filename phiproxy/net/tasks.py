"""Tasks that are kept until they are done: asyncio itself holds them only weakly."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

_running: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    """Start a task and hold it until it ends."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


async def whenever(told: asyncio.Event, do: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Do something each time that it is told, one after the other, forever: also after it has failed."""
    while True:
        await told.wait()
        told.clear()
        await asyncio.wait([spawn(do(), name)])


def running() -> int:
    """Return how many of them there are: for tests that count what is left behind."""
    return len(_running)
