"""What the operating system is told about this process's memory, where keys are."""

from __future__ import annotations

import resource


def forbid_core_dumps() -> None:
    """Have the kernel write no core of this process and of those that it starts.

    The limit is 1 byte, not 0: where core_pattern is a pipe, Linux ignores every limit but 1 (fs/coredump.c).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
