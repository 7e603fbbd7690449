"""Records are taken by the files, or where there are none by another destination; what nothing takes waits, up to a bound."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from time import monotonic
from typing import Any, Final

from phiproxy.audit.destinations import Forwarder
from phiproxy.audit.lease import Lease
from phiproxy.audit.log_files import LogFiles
from phiproxy.audit.open_log_file import Written
from phiproxy.audit.records import Line, line_of, numbered

# Records that wait in memory while nothing takes them; of more the youngest are given up, and counted in a record of its own.
MAX_BACKLOG: Final = 50_000
# How long another destination may take where there are no files, or these have failed.
PATIENCE: Final = 10.0
Head = dict[str, Any]


class Committer:
    """Files and other destinations; each method blocks until it is done."""

    def __init__(self, files: LogFiles | None, others: Sequence[Forwarder]) -> None:
        self._files, self._others = files, others
        self._backlog: list[Line] = []
        self._lost = self._sequence = 0

    def commit(self, lines: Sequence[Line]) -> None:
        """Have records taken, those that waited first; OSError where nothing takes them, and then they wait."""
        gap = [line_of("log.gap", {"lost": self._lost})] if self._lost else []
        batch = [*gap, *self._backlog, *lines]
        if not batch:
            return
        try:
            self._take(batch)
        except OSError:
            self._put_off(lines)
            raise
        self._backlog, self._lost = [], 0

    def _put_off(self, lines: Sequence[Line]) -> None:
        waiting = [*self._backlog, *lines]
        self._lost += max(0, len(waiting) - MAX_BACKLOG)
        self._backlog = waiting[:MAX_BACKLOG]

    def begin(self, lines: Sequence[Line]) -> Written | None:
        """Write records into the open file, to be synced by ``sync``. None where they are to be committed as a whole.

        Then nothing else may be under way: other records wait before them, or there is no open file that takes them.
        """
        if self._files is None or self._backlog or self._lost or not lines:
            return None
        try:
            return self._files.write(lines)
        except OSError:
            return None  # the whole of it fails too, or it does not any more

    def sync(self, slot: int) -> None:
        """Have synced what was begun; OSError."""
        assert self._files is not None
        self._files.sync(slot)

    def confirm(self, written: Written) -> None:
        """Take note that the oldest records that were begun are durable."""
        assert self._files is not None
        self._files.confirm(written)
        for other in self._others:
            other.send(written.lines)

    def fail(self, lines: Sequence[Line]) -> None:
        """Take note that all records that were begun are not durable: they wait, and the next are written to another file."""
        assert self._files is not None
        self._files.abandon()
        self._put_off(lines)

    def lend(self) -> Lease | None:
        """Let the proxy write into the open file itself (further); None where it may not, or not any more."""
        if self._files is None or self._others or self._backlog or self._lost:
            return None
        try:
            return self._files.lend()
        except OSError:
            return None  # what was lent before still is, until the proxy gives it back

    def written_by_others(self, end: int) -> None:
        """Take note of how far the proxy has written; OSError."""
        if self._files is not None:
            self._files.written_by_others(end)

    def take_back(self, end: int | None, *, failed: bool = False) -> None:
        """Take back what was lent; OSError."""
        if self._files is not None:
            self._files.take_back(end, failed=failed)

    def _take(self, batch: Sequence[Line]) -> None:
        failure: OSError | None = None
        if self._files is not None:
            try:
                numbers = self._files.append(batch)
            except OSError as error:
                failure = error
            else:
                for other in self._others:
                    other.send([numbered(line, number) for line, number in zip(batch, numbers, strict=True)])
                return
        sent = [numbered(line, number) for number, line in enumerate(batch, start=self._sequence + 1)]
        futures = [other.send(sent) for other in self._others]
        done, waiting = wait(futures, PATIENCE, FIRST_COMPLETED)
        while done and waiting and all(future.exception() for future in done):
            done, waiting = wait(waiting, PATIENCE, FIRST_COMPLETED)
        if not any(future.exception() is None for future in done):
            for future in waiting:
                future.cancel()  # they are sent again, with what comes then
            raise failure or OSError("no destination has taken the records")
        self._sequence += len(sent)

    def settle(self) -> None:
        """Hash what was written, when nobody waits for it any longer."""
        if self._files is not None:
            self._files.settle()

    def checkpoint(self) -> Head | None:
        """Sign what is there; OSError."""
        return self._files.checkpoint() if self._files is not None else None

    def close(self) -> None:
        """Write what waits, and end the log."""
        try:
            self.commit([])
            if self._files is not None:
                self._files.close()
        finally:
            for other in self._others:
                other.stop()
            until = monotonic() + PATIENCE
            for other in self._others:
                other.close(max(0.0, until - monotonic()))
