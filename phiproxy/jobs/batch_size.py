"""How many rows a batch takes: as many as are locked for 20 ms, and no large part of a table."""

from typing import Final

TARGET: Final = 0.02
"""Seconds that the server is to be at the rows of one transaction, of the few that write a batch: for so long they stay locked.

What else a batch takes does not count, such as the commits between, or what the job's process waits for a core: on a machine that
is busy each waits for its turn, whatever the number of rows, so that fewer of them would only make the job slower. By 100 rows at a
time a row takes a third more CPU than by 1000.
"""
PREPARING: Final = 50
"""Rows may be worked on for so many times as long, while others are written: nothing is locked then."""
FIRST: Final = 200
FEWEST: Final = 100
MOST: Final = 20_000
SHARE: Final = 50
"""A batch has one in so many rows of a table at most: else many of the application's statements would meet one that is locked."""
FEWEST_OF_SHARE: Final = 200
MOST_BYTES: Final = 16 * 1024 * 1024
"""What the values of a batch may have together; a longer one comes in a batch of its own."""


class BatchSize:
    """``rows`` of the next batch; it follows what batches took, at most twice as many or half as many as before."""

    def __init__(self, target: float = TARGET) -> None:
        self._target = target
        self.rows = FIRST

    def of(self, table: int) -> int:
        """Return the rows of the next batch of a table with about so many rows (0: not known)."""
        return min(self.rows, max(FEWEST_OF_SHARE, table // SHARE)) if table else self.rows

    def took(self, rows: int, preparing: float, locked: float = 0.0) -> None:
        """Note how long a batch of so many rows took; one that was not full says nothing of larger ones.

        ``preparing`` are the seconds until its rows could be written, ``locked`` those for which one of its transactions had rows
        locked.
        """
        seconds = max(locked, preparing / PREPARING)
        factor = max(0.5, min(2.0, self._target / max(seconds, 0.001)))
        if rows < self.rows and factor > 1:
            return
        self.rows = max(FEWEST, min(MOST, round(self.rows * factor)))
