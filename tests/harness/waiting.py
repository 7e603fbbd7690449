"""Waiting for what another process, or thread, does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds. A machine that has much else to do is slow, and a test that waits for nothing fails by its assertion all the same.
PATIENCE = 60.0


def until(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Wait until something holds; the failure says what did not."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)
