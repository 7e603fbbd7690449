"""What work costs, told so that neither the machine nor what other tests have left has a say in it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from types import FrameType


def calls_of(work: Callable[[], object]) -> int:
    """Return how often functions are called by this, Python's and C's: that is another number only where the work is."""
    calls = 0

    def count(_frame: FrameType, event: str, _of: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def cpu_seconds_of(work: Callable[[], object]) -> float:
    """Return the CPU time of this thread, without the collector, which looks at all that other tests have left.

    For work of one call into C, which may be quadratic by itself. To be compared with a bound that is passed by far.
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        began = time.thread_time()
        work()
        return time.thread_time() - began
    finally:
        if collected:
            gc.enable()
