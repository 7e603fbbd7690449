"""A lease: where syncs take less time than another process takes to be told of them, the proxy writes records itself.

The process that writes the log lends it a stretch of the open file, behind the records that are there, filled with zeros. The proxy
writes and syncs records there, and says now and then how far it is; the other process reads them, hashes and signs them. When the
proxy is killed, what it has written whole is found in the stretch. Only one of both writes at any time.
"""

import json
import os
import resource
from collections.abc import Sequence
from time import perf_counter
from typing import Final, NamedTuple, Self

from phiproxy.audit.records import Line

QUICK: Final = 0.00008
"""To write and sync records takes less than so many seconds where the proxy may do it: for so long its sessions stand still."""
# The lease is given back where the disk was waited for, longer than SLOW, more than so many times since more was lent, or once for
# much longer. A process that has lost the processor meanwhile has not waited for the disk.
SLOW, MUCH_LONGER, MOST_SLOW = 0.0003, 0.005, 3
WATCHED: Final = 64
AT_ONCE: Final = 0.00002
"""A record need not wait for the others of its turn where it takes less than so many seconds: to have it wait takes as long."""
_OWN: Final = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)


class Lease(NamedTuple):
    """What is lent: the file, from where on to where (bytes), and the number of the first record that is written there."""

    path: str
    at: int
    end: int
    sequence: int

    def encoded(self) -> bytes:
        """Return it as a message."""
        return json.dumps(self).encode()

    @classmethod
    def read(cls, message: bytes) -> Self:
        """Return the lease that a message is."""
        return cls(*json.loads(message))


class LeasedFile:
    """A lease in use. ``at`` is how far records are durable; OSError where the file cannot be opened."""

    def __init__(self, lease: Lease) -> None:
        self.at, self._end, self._sequence = lease.at, lease.end, lease.sequence
        self.half = (lease.at + lease.end) // 2
        """Behind this more is to be asked for."""
        # For a while after one that was slow it is looked at whether others have waited.
        self._watched, self._slow, self.is_slow = 0, 0, False
        """``is_slow``: syncs take too long for the proxy to wait for them."""
        self.at_once = False
        """The last write took so little that no record need wait for the others of its turn (``write_at_once``)."""
        self._descriptor = os.open(lease.path, os.O_WRONLY)

    def extend(self, end: int) -> None:
        """Take note that more is lent."""
        self.half, self._end = (self.at + end) // 2, end
        self._slow = 0

    def write(self, lines: Sequence[Line]) -> bool:
        """Write records and have them synced; False, and nothing done, where they have no room. OSError, and none is in the log."""
        number, descriptor, at = self._sequence, self._descriptor, self.at
        parts: list[bytes] = []
        for each, (before, *behind) in enumerate(lines, number):
            parts += before, b"%d" % each, *behind, b"\n"
        data = b"".join(parts)
        end = at + len(data)
        if end > self._end:
            return False
        waits = None
        if self._watched:
            self._watched, waits = self._watched - 1, _waits()
        began = perf_counter()
        at += os.pwrite(descriptor, data, at)
        while at < end:
            at += os.pwrite(descriptor, data[at - end :], at)
        os.fdatasync(descriptor)
        taken = perf_counter() - began
        self.at, self._sequence = end, number + len(lines)
        self.at_once = taken < AT_ONCE and not self._watched
        if taken > SLOW:
            self._note_slow(taken, waits)
        return True

    def write_at_once(self, line: Line) -> bool:
        """Do as ``write`` for one record; False, and nothing done, also where more is to be asked for, or looked at."""
        number, descriptor, at = self._sequence, self._descriptor, self.at
        data = b"".join((line[0], b"%d" % number, *line[1:], b"\n"))
        end = at + len(data)
        if end > self.half:
            return False
        began = perf_counter()
        if os.pwrite(descriptor, data, at) < len(data):
            return False  # what is there of it is written over
        os.fdatasync(descriptor)
        taken = perf_counter() - began
        self.at, self._sequence = end, number + 1
        if taken > AT_ONCE:
            self.at_once = False
            if taken > SLOW:
                self._note_slow(taken, None)
        return True

    def _note_slow(self, taken: float, waits: int | None) -> None:
        self._watched = WATCHED
        if waits is not None and _waits() > waits:
            self._slow += 1
            self.is_slow = self._slow > MOST_SLOW or taken > MUCH_LONGER

    def close(self) -> None:
        """Use it no longer."""
        os.close(self._descriptor)


def _waits() -> int:
    """Return how many times this thread has given up the processor to wait for something."""
    return resource.getrusage(_OWN).ru_nvcsw
