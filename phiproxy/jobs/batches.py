"""Going through a relation's rows in the order of its key, batch by batch, while others read and write it.

A batch is read by itself, worked on without any transaction open, and written back by a few transactions, the last of which has the
job's progress: a job that is killed at any moment goes on behind the last batch that was written whole. While one batch is sent,
the next is read over another connection; while the server writes it, the next is worked on. A row is written only where it is as it
was read (compare-and-set), and one that somebody else has locked is waited for no longer than ``PATIENCE``: then it is taken once
more, as one that was changed meanwhile. So no write is lost, and of a deadlock the job gives way, long before the server looks for
one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, Self

import psycopg
from psycopg import sql

from phiproxy.errors import SealError
from phiproxy.jobs.batch_size import BatchSize
from phiproxy.jobs.refused_rows import REFUSED, refused_rows
from phiproxy.jobs.relations import Connection
from phiproxy.jobs.row_sql import Changed, Done, Row, Scan, Statement, Work
from phiproxy.net.tasks import spawn

RETRY_AFTER: Final = 0.05
STRIPES: Final = 4
"""A batch is written by so many transactions, each of every fourth row.

Neighbours are mostly in one page. What one transaction has moved out of it leaves room there for rows of the next, once the server
has looked at the page (``Scan.tidy``): of rows that become twice as long nearly half stay, of such as become four times as long a
quarter. No index is written for these, and the table grows by so much less.
"""
FEWEST_OF_STRIPE: Final = 25
SLICE: Final = 200
"""Rows that are worked on before the event loop sees to what goes to the server, and comes from it, beside."""
PATIENCE: Final = 2
"""Milliseconds for which a row that others have locked is waited for, far less than any ``deadlock_timeout``.

Not to lock rows before they are updated, so that locked ones can be passed over, takes a quarter less of the server's CPU; and few
are locked. Where one is for longer, the batch is written once more, by statements that pass over locked rows, and so are the next.
"""
PASSING: Final = 8
"""How many batches are written so, then: where one row is locked, more may be."""
ATTEMPTS: Final = 10
"""How often rows that others have locked or changed are tried again at once, where a batch is small; else by the next pass."""

# Whatever the planner thinks of a large batch, or of how few rows are wanted: a job goes through a table in the order of its key's
# index. Else it would read and sort for each batch all that is behind the last one.
_BY_INDEX: Final = ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin")


class Batch(NamedTuple):
    """What became of a batch: rows ``read`` and ``written``, and those ``left`` that others were at work on for too long.

    ``wrong``: how rows are named that could not be done, and why.
    """

    read: int
    written: int
    left: int
    cursor: tuple[str, ...]
    wrong: tuple[tuple[str, str], ...] = ()


Commit = Callable[[Connection, Batch], Awaitable[None]]
"""Is called within the transaction of a batch, as the session's own role: what it writes is there with the rows, or not at all.

It is called again where that transaction was not committed, since others had rows of it locked.
Of a large batch it is not known yet whether rows are ``left``: all are taken to be written, and ``Batches.next`` says how it was.
"""


class _Taken(NamedTuple):
    """Rows that were read, what is to become of each, and the seconds that this took."""

    rows: Sequence[Row]
    done: Sequence[Done]
    seconds: float


class Batches:
    """The batches of one scan behind a key (None: from the first row on): ``async with Batches(…) as batches:``.

    ``conn`` writes, and ``reading`` reads the next batch meanwhile; both are in autocommit mode. ``size`` is shared by the scans of
    a job. ``role`` reads and writes the rows, where it is another one than the session's: row-level security hides rows from that.
    """

    def __init__(
        self,
        conn: Connection,
        reading: Connection,
        scan: Scan,
        work: Work,
        size: BatchSize,
        *,
        after: tuple[str, ...] | None = None,
        role: str | None = None,
    ) -> None:
        self._conn = conn
        self._reading = reading
        self._scan = scan.over(conn)
        self._work = work
        self._size = size
        self._after = after
        self._role = role
        self._ahead: asyncio.Task[_Taken] | None = None
        self._passing = 0

    async def __aenter__(self) -> Self:
        settings = "; ".join(f"SET {name} TO off" for name in _BY_INDEX)
        for conn in (self._conn, self._reading):
            await conn.execute(settings.encode())
        if self._role is not None:
            await self._reading.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self._role)))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)  # an error of a batch that nobody asks for any more
        for conn in (self._conn, self._reading):
            if not conn.broken:
                await conn.execute("; ".join(["RESET ROLE", *(f"RESET {name}" for name in _BY_INDEX)]).encode())

    async def next(self, commit: Commit) -> Batch | None:
        """Do the next batch; None where there is no row any more. psycopg.Error."""
        ahead, self._ahead = self._ahead, None
        taken = await (ahead or self._take())
        if not taken.rows:
            return None
        self._after = taken.rows[-1].key
        sent = asyncio.Event()
        self._ahead = spawn(self._take(sent), "next batch")
        try:
            return await self._do(taken, commit, sent)
        finally:
            sent.set()

    async def _take(self, sent: asyncio.Event | None = None) -> _Taken:
        """Read a batch, and work on it once the one before was ``sent``: each step of that would else wait for a slice of this."""
        began = time.monotonic()
        rows = await self._rows(self._scan.read(self._after, self._size.of(self._scan.part.rows)))
        if sent is not None:
            await sent.wait()
        done: list[Done] = []
        for begin in range(0, len(rows), SLICE):
            done += await self._scan.work(rows[begin : begin + SLICE], self._work)
            await asyncio.sleep(0)
        return _Taken(rows, done, time.monotonic() - began)

    async def _do(self, taken: _Taken, commit: Commit, sent: asyncio.Event) -> Batch:
        rows, done, _ = taken
        wrong: list[tuple[str, str]] = []
        changes, told = self._sorted(rows, done, wrong), list[tuple[int, float]]()
        if len(changes) >= STRIPES * FEWEST_OF_STRIPE:
            whole = Batch(len(rows), len(changes), 0, rows[-1].key, tuple(wrong))
            with suppress(*REFUSED):  # what was written until then is not written again: it is not as it was read any more
                batch, locked = await self._write_stripes(whole, rows, changes, commit, sent, told)
                self._size.took(len(rows), taken.seconds, locked)
                return batch
        sent.set()
        whole = Batch(len(rows), sum(number for number, _ in told), 0, rows[-1].key)
        batch, locked = await self._write_few(whole, changes, wrong, commit)
        self._size.took(len(rows), taken.seconds, locked)
        return batch

    async def _write_few(
        self, batch: Batch, changes: Sequence[Changed], wrong: list[tuple[str, str]], commit: Commit
    ) -> tuple[Batch, float]:
        """Write rows by one transaction, again those that others were at work on, without those that the server refuses."""
        written, attempt = batch.written, 1
        while True:
            left = list[Row]()
            try:
                async with self._conn.pipeline(), self._conn.transaction():
                    async with self._as_role():
                        more, locked = await self._write(changes, left)
                    if not left or attempt == ATTEMPTS:
                        batch = batch._replace(written=written + more, left=len(left), wrong=tuple(wrong))
                        await commit(self._conn, batch)
            except REFUSED:
                refused = await refused_rows(self._conn, changes, self._try)
                if not refused:
                    raise
                wrong += [(self._scan.spelled(row), why) for (row, _), why in refused]
                bad = {id(change) for change, _ in refused}
                changes = [change for change in changes if id(change) not in bad]
                continue
            if not left or attempt == ATTEMPTS:
                return batch, locked
            written, attempt = written + more, attempt + 1
            await asyncio.sleep(RETRY_AFTER)
            tried = await self._rows(self._scan.again(left))
            changes = self._sorted(tried, await self._scan.work(tried, self._work), wrong)

    async def _try(self, changes: Sequence[Changed]) -> None:
        async with self._as_role():
            await self._write(changes, [])

    async def _write_stripes(
        self,
        batch: Batch,
        rows: Sequence[Row],
        changes: Sequence[Changed],
        commit: Commit,
        sent: asyncio.Event,
        told: list[tuple[int, float]],
    ) -> tuple[Batch, float]:
        """Write a batch by transactions that are all ``sent`` before the first is answered; return what became of it.

        And for how many seconds rows were locked, those of one transaction. ``batch`` is what becomes of it where nobody has one of
        the ``changes`` locked. To ``told`` is added what was committed.
        """
        waiting = not self._passing
        self._passing -= not waiting
        try:
            await self._send_stripes(batch, rows, changes, commit, sent, told, waiting=waiting)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if not waiting:
                raise
            self._passing = PASSING  # rows that were written are not as they were read any more: they are not written again
            await self._send_stripes(batch, rows, changes, commit, sent, told, waiting=False)
        written, locked = sum(number for number, _ in told), sum(seconds for _, seconds in told) / STRIPES
        return batch._replace(written=written, left=batch.written - written), locked

    async def _send_stripes(
        self,
        batch: Batch,
        rows: Sequence[Row],
        changes: Sequence[Changed],
        commit: Commit,
        sent: asyncio.Event,
        told: list[tuple[int, float]],
        *,
        waiting: bool,
    ) -> None:
        """Add to ``told`` how many rows each transaction that was committed has written, and the seconds; psycopg.Error."""
        tidy, cursors = self._scan.tidy(rows), list[tuple[psycopg.AsyncCursor[Any], psycopg.AsyncCursor[Any]]]()
        try:
            async with self._conn.pipeline():
                for n in range(STRIPES):
                    if n and tidy is not None:
                        async with self._transaction(), self._as_role():
                            await self._conn.execute(*tidy)
                    await self._conn.execute(b"BEGIN")
                    if waiting:
                        await self._conn.execute(f"SET LOCAL lock_timeout TO {PATIENCE}".encode())
                    async with self._as_role():
                        cursor = self._conn.cursor(row_factory=psycopg.rows.tuple_row)
                        await cursor.execute(*self._scan.write(changes[n::STRIPES], waiting=waiting))
                    if n == STRIPES - 1:
                        await commit(self._conn, batch)
                    cursors.append((cursor, await self._conn.execute(b"COMMIT")))
                self._conn.pgconn.flush()
                sent.set()
        except Exception:
            if not self._conn.broken:
                await self._conn.rollback()  # of the one that has failed; none behind it was begun
            raise
        finally:
            for cursor, committed in cursors:
                if committed.statusmessage == "COMMIT":
                    ((number, seconds),) = await cursor.fetchall()
                    told.append((number if waiting else len(number), seconds))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        """Begin and commit a transaction without waiting for either: psycopg's own waits for what went before."""
        await self._conn.execute(b"BEGIN")
        yield
        await self._conn.execute(b"COMMIT")

    @asynccontextmanager
    async def _as_role(self) -> AsyncIterator[None]:
        if self._role is None:
            yield
            return
        await self._conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self._role)))
        yield
        await self._conn.execute("RESET ROLE")

    async def _write(self, changes: Sequence[Changed], left: list[Row]) -> tuple[int, float]:
        """Write rows that nobody has locked and that are as they were read; add the others to ``left``.

        Return how many, and for how many seconds they were locked.
        """
        if not changes:
            return 0, 0.0
        ((positions, seconds),) = await _tuples(self._conn, self._scan.write(changes))
        return _note(changes, positions, left), seconds

    def _sorted(self, rows: Sequence[Row], done: Sequence[Done], wrong: list[tuple[str, str]]) -> list[Changed]:
        """Return the rows that are to be written; those that could not be done are added to ``wrong``."""
        changes: list[Changed] = []
        for row, new in zip(rows, done, strict=True):
            if isinstance(new, SealError):
                wrong.append((self._scan.spelled(row), new.message))
            elif new is not None:
                changes.append((row, new))
        return changes

    async def _rows(self, statement: Statement) -> list[Row]:
        return self._scan.rows(await _tuples(self._reading, statement))


def _note(changes: Sequence[Changed], positions: Iterable[int], left: list[Row]) -> int:
    """Add the rows that were not written to ``left``; ``positions`` are those of the others, which are counted."""
    written = set(positions)
    left += [row for n, (row, _) in enumerate(changes, 1) if n not in written]
    return len(written)


async def _tuples(conn: Connection, statement: Statement) -> list[tuple[Any, ...]]:
    async with conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(*statement, binary=True)
        return await cursor.fetchall()
