"""Cores as on a machine that has some to spare: what is measured has one to itself, client and server have the other.

Where client, server and proxy share two cores, each takes the others' caches and turns; pinned, a proxy's caches are its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measures import family


def possible() -> bool:
    """Tell whether there are two cores, and a system that lets a process choose one."""
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@contextlib.contextmanager
def apart(between: Sequence[int], server: int) -> Iterator[None]:
    """Give one core to the processes ``between`` client and server, and another to this process and the server's.

    ``server`` is the server's first process. What these start meanwhile inherits their core. Afterwards all have every core again.
    """
    cores = os.sched_getaffinity(0)
    first, second = sorted(cores)[:2]
    try:
        _place((os.getpid(), *family(server)), {first})
        _place(between, {second})
        yield
    finally:
        _place((os.getpid(), *family(server), *between), cores)


def _place(pids: Sequence[int], cores: set[int]) -> None:
    for pid in pids:
        # a process or thread may end meanwhile
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cores)
