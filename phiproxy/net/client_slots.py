"""How many clients there may be: a count of one process's own, or one that all workers share.

Shared, it is a page of memory with a number for each worker, that only the worker itself changes. A lock of the file behind it,
which the system releases when a process dies, makes looking and taking one step, so the limit is exact over all workers.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from struct import Struct
from typing import Protocol

_COUNT = Struct("=Q")  # 512 in a page of 4 KiB: the greatest number of workers that settings take


class ClientSlots(Protocol):
    """Who is let in takes a place, and gives it back at the end."""

    def take(self, limit: int) -> bool:
        """Take one unless ``limit`` are taken."""

    def give_back(self) -> None:
        """Give one back."""

    def busier_than_others(self) -> bool:
        """Tell whether another worker has fewer clients."""


class OwnSlots:
    """The count of the only process."""

    def __init__(self) -> None:
        self.taken = 0

    def take(self, limit: int) -> bool:
        """Take one unless ``limit`` are taken."""
        if self.taken >= limit:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """Give one back."""
        self.taken -= 1

    def busier_than_others(self) -> bool:
        """There are no others."""
        return False


class SharedSlots:
    """The counts of all workers, seen by the one with this ``index``; made from a file descriptor that all of them inherit."""

    def __init__(self, descriptor: int, workers: int, index: int = 0) -> None:
        self.descriptor = descriptor
        self._workers = workers
        self._at = index * _COUNT.size
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)

    @classmethod
    def create(cls, workers: int) -> SharedSlots:
        """Make the page, for the supervisor."""
        descriptor, path = tempfile.mkstemp(prefix="phiproxy-slots-")
        os.unlink(path)
        os.ftruncate(descriptor, mmap.PAGESIZE)
        return cls(descriptor, workers)

    def counts(self) -> list[int]:
        """Return how many slots each worker has taken."""
        return [int(_COUNT.unpack_from(self._page, n * _COUNT.size)[0]) for n in range(self._workers)]

    def take(self, limit: int) -> bool:
        """Take one unless all workers together have taken ``limit``."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
        try:
            if sum(self.counts()) >= limit:
                return False
            self._add(1)
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN)
        return True

    def give_back(self) -> None:
        """Give one back."""
        self._add(-1)

    def busier_than_others(self) -> bool:
        """Tell whether another worker has fewer clients."""
        return self._own() > min(self.counts())

    def forget(self, index: int) -> None:
        """Free the slots of a worker that died."""
        _COUNT.pack_into(self._page, index * _COUNT.size, 0)

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()
        os.close(self.descriptor)

    def _own(self) -> int:
        return int(_COUNT.unpack_from(self._page, self._at)[0])

    def _add(self, change: int) -> None:
        _COUNT.pack_into(self._page, self._at, self._own() + change)
