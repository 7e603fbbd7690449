"""The clock by which proxies wait for each other: it goes on while a process is stopped, and while the machine sleeps."""

import time
from collections.abc import Callable
from functools import partial

# Linux's monotonic clock stands still while the machine sleeps; not every system has another.
now: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Return seconds since some moment."""
