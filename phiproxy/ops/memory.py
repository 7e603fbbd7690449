"""What the operating system is told about this process's memory, where keys are; and what the collector need not look at."""

from __future__ import annotations

import gc
import resource

# Objects that are made before the youngest are looked through: a chunk of rows makes thousands, and none of them in a cycle.
YOUNG = 20_000


def forbid_core_dumps() -> None:
    """Have the kernel write no core of this process and of those that it starts.

    The limit is 1 byte, not 0: where core_pattern is a pipe, Linux ignores every limit but 1 (fs/coredump.c).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def settle_memory() -> None:
    """Have the collector pass by what is there now, and stays: looking through it all again stops every client for some 50 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
