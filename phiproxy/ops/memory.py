"""No core dumps of a process that holds keys, and fewer pauses by the garbage collector."""

import gc
import resource

# Objects that are made before the youngest are looked through: a chunk of rows makes thousands, and none of them in a cycle.
YOUNG = 20_000


def forbid_core_dumps() -> None:
    """Have the kernel write no core of this process and of those that it starts.

    The limit is 1 byte, not 0: where core_pattern is a pipe, Linux ignores every limit but 1 (fs/coredump.c).
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except ValueError:  # the limit that may not be raised is 0, as systemd's LimitCORE=0 sets it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def settle_memory() -> None:
    """Exempt present objects, which stay, from garbage collection: to look through them again stops every client for some 50 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
