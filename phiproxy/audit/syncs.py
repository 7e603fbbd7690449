"""Syncs that overlap: while the disk syncs some records, the next are written behind them, and their own sync begins.

A disk that takes a millisecond for a sync takes hardly longer for two at once, and who comes while the first is under way does not
wait for two. Where a sync is over sooner than another thread is told of it, nothing overlaps. Records are said to be durable in
their order; where one sync fails, all records fail that are under way.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from phiproxy.audit.committer import Committer
from phiproxy.audit.lease import QUICK, Lease
from phiproxy.audit.open_log_file import SYNCS, Written
from phiproxy.audit.records import Line

# A sync that takes longer than so many seconds overlaps with the next.
LONG: Final = 0.0003
# Of so many latest syncs, so many are to be quick: the processor may have been away in some of them.
RECENT: Final = 16
MOST: Final = 12
Told = Callable[[int, OSError | None], None]
"""Told that so many of the oldest records are durable, or why they are not."""


@dataclass(slots=True)
class _UnderWay:
    """Records of which a sync is under way; ``synced`` is None until it is over."""

    lines: Sequence[Line]
    written: Written
    synced: bool | None = None


class Syncs:
    """Has records committed, for one thread that says ``commit`` and calls all else only when nothing is under way (``drain``)."""

    def __init__(self, committer: Committer, told: Told) -> None:
        self._committer, self._told = committer, told
        self._changed = threading.Condition()
        self._under_way: deque[_UnderWay] = deque()
        self._free = list(range(SYNCS))
        self._failure: OSError | None = None
        self._latest = 0.0
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._jobs: SimpleQueue[tuple[_UnderWay, int]] = SimpleQueue()
        for number in range(SYNCS):
            threading.Thread(target=self._run, name=f"audit sync {number}", daemon=True).start()

    def commit(self, lines: Sequence[Line]) -> None:
        """Have records written, and begin to have them synced; blocks while as many syncs are under way as there may be."""
        with self._changed:
            # After a failure the next file is begun when nothing of the failed one is under way.
            while not self._free or self._failure is not None:
                self._changed.wait()
            written = self._committer.begin(lines) if self._latest > LONG else None
            if written is not None:
                own = _UnderWay(lines, written)
                self._under_way.append(own)
                self._jobs.put((own, self._free.pop()))
                return
        self.drain()
        error, began = None, time.perf_counter()
        try:
            self._committer.commit(lines)
        except OSError as failure:
            error = failure
        self._took(time.perf_counter() - began)
        self._told(len(lines), error)

    @property
    def are_quick(self) -> bool:
        """Tell whether the latest syncs, but for a few, were so quick that the proxy may do them itself."""
        return self._recent.count(True) >= MOST

    def lend(self) -> Lease | None:
        """Let the proxy write and sync records itself (further), where syncs are quick; None where it may not."""
        if not self.are_quick:
            return None
        self.drain()
        return self._committer.lend()

    def slow(self) -> None:
        """Take note that syncs are no longer quick."""
        self._recent.clear()

    def _took(self, seconds: float) -> None:
        self._latest = seconds
        self._recent.append(seconds < QUICK)

    def settle(self) -> None:
        """Hash what is durable, when nobody waits for it any longer."""
        with self._changed:
            self._committer.settle()

    def drain(self) -> None:
        """Wait until nothing is under way."""
        with self._changed:
            while self._under_way:
                self._changed.wait()

    def _run(self) -> None:
        while True:
            own, slot = self._jobs.get()
            error, began = None, time.perf_counter()
            try:
                self._committer.sync(slot)
            except OSError as failure:
                error = failure
            with self._changed:
                self._took(time.perf_counter() - began)
                own.synced, self._failure = error is None, self._failure or error
                self._free.append(slot)
                self._tell()
                self._changed.notify()

    def _tell(self) -> None:
        """Say of the oldest what is over; once one has failed and all are over, that all of them have."""
        durable = 0
        while self._under_way and self._under_way[0].synced:
            own = self._under_way.popleft()
            self._committer.confirm(own.written)
            durable += len(own.lines)
        if durable:
            self._told(durable, None)
        if self._failure is not None and all(own.synced is not None for own in self._under_way):
            lines = [line for own in self._under_way for line in own.lines]
            self._under_way.clear()
            error, self._failure = self._failure, None
            self._committer.fail(lines)
            self._told(len(lines), error)
