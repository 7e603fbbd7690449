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

from phiproxy.audit.records import Line, numbered

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
        """The last write took so little that no record need wait for the others of its turn."""
        self._descriptor = os.open(lease.path, os.O_WRONLY)

    def extend(self, end: int) -> None:
        """Take note that more is lent."""
        self.half, self._end = (self.at + end) // 2, end
        self._slow = 0

    def write(self, lines: Sequence[Line]) -> bool:
        """Write records and have them synced; False, and nothing done, where they have no room. OSError, and none is in the log."""
        number, descriptor, at = self._sequence, self._descriptor, self.at
        if len(lines) == 1:
            data = b"%b%d%b\n" % (lines[0][0], number, lines[0][1])
        else:
            data = b"".join([b"%b\n" % numbered(line, each) for each, line in enumerate(lines, number)])
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
        self.at, self._sequence, self.at_once = end, number + len(lines), taken < AT_ONCE
        if taken > SLOW:
            self._note_slow(taken, waits)
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
