"""Threads of a test that are at work beside it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Self

# Seconds between the rounds of a thread: it is there to be at work at every moment, not to take the time of what it is beside.
PAUSE = 0.03 if os.environ.get("PHIPROXY_EXPLORE") else 0.25


class AtWork:
    """Threads that run while a ``with`` block does; each looks at ``_stop``, and has ``patience`` seconds to end then."""

    patience: float | None = 120.0

    def __init__(self, *works: Callable[[], None]) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(self.patience)
