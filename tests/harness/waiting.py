"""Waiting for what another process, or thread, does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

# Seconds. A machine that has much else to do is slow, and a test that waits for nothing fails by its assertion all the same.
PATIENCE = 120.0


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, at any moment of its end; one that only its parent has not buried yet is."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def until(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Wait until something holds; the failure says what did not."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)
