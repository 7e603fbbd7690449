"""Sealed columns take the place of plain ones: in one short transaction, for which every proxy holds its statements over them.

Nothing is half done: whatever keeps an attempt from its end takes all of it back, and the proxies go on as before.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import psycopg
from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.jobs.conversion import TRIGGERS, ConvertedTable, Look, hanging, privileges
from phiproxy.jobs.conversion_sql import prepare, switch
from phiproxy.jobs.dependents import Dependent, converted, spelled
from phiproxy.jobs.filling import fill_scan
from phiproxy.jobs.physical_definitions import Converter
from phiproxy.jobs.records import Progress, write_progress
from phiproxy.jobs.refused_rows import REFUSED
from phiproxy.jobs.relations import Part, rows_of
from phiproxy.jobs.row_sql import Row, Scan
from phiproxy.jobs.row_sql import Work as Filler
from phiproxy.jobs.running import Run
from phiproxy.jobs.tenant_rows import Values, filling
from phiproxy.keys.clear_columns import allow_clear, forbid_clear
from phiproxy.keys.holds import end_hold, place_hold, unconfirmed, withdraw_hold
from phiproxy.keys.key_state_changes import notify
from phiproxy.keys.registry_checked_on_read import Change
from phiproxy.keys.registry_locks import SHORT
from phiproxy.keys.registry_schema import table as registry_table
from phiproxy.net.catalog_reader import read_catalog
from phiproxy.policy.identifiers import quote_ident

HOLD: Final = 15.0
"""Seconds for which proxies hold their statements at most, in a first attempt."""
MOST_HELD: Final = 120.0
"""The same in later ones: each attempt that was too short for a slow machine is followed by one that may take twice as long."""
LONG_HOLD: Final = 600.0
"""The same where somebody has said that tables may be locked for long."""
MOST_WAITED: Final = 2
"""Seconds for which statements may wait where nobody has said so."""
LOCKING: Final = "when that may be: phiproxy jobs abort {}, and the command once more with --lock-tables"
PATIENCE: Final = 1.2
"""Seconds within which all of them have to confirm that. So long statements wait for nothing where a transaction lasts longer."""
MOST_LEFT: Final = 2000
"""Rows that are sealed under the lock; of more the job goes on filling first."""
STEP: Final = 0.01
SETTLE: Final = "settling"
"""The phase behind a switch: what takes its time and keeps nobody out."""


Work = Callable[[Change], Awaitable[None]]
"""What is done in the transaction, and says what of the registry it changes."""


class Changed(ConfigError):
    """Something that hangs on a column was made, changed or dropped since it was looked at."""


class _NotNow(Exception):
    """This attempt came to nothing; its text says why."""


class _TooShort(_NotNow):
    """It would have come to its end, had statements been held for longer."""


async def with_held_statements(run: Run, what: str, tables: Sequence[ConvertedTable], work: Work, *, attempts: int) -> float:
    """Do ``work`` in one short transaction for which every proxy holds its statements over tables; returns for how many seconds.

    ConfigError when it cannot be done in so many attempts; nothing is changed then.
    """
    why = ""
    seconds = LONG_HOLD if run.job.options.get("lock_tables") else HOLD
    for attempt in range(attempts):
        await run.goes_on()
        try:
            held = await _attempt(run, tables, work, seconds)
        except _NotNow as not_now:
            why = str(not_now)
            if isinstance(not_now, _TooShort):
                seconds = max(seconds, min(2 * seconds, MOST_HELD))
            run.display.waits(f"{what}: {why}")
            await asyncio.sleep(min(30.0, 0.5 * 2**attempt))
        else:
            if why:
                run.display.waits("")
            return held
    raise ConfigError(
        f"{what} could not be done in {attempts} attempts: {why}; nothing was changed",
        hint=f"pg_stat_activity shows which transactions are open for so long; phiproxy jobs resume {run.job.id} goes on",
    )


async def prepare_table(run: Run, table: ConvertedTable, there: frozenset[str], *, attempts: int) -> float:
    """Add what is filled beside the plain columns. Proxies hide it from the first statement on."""

    async def work(_: Change) -> None:
        await _as_owner(run, table.owner, prepare(table, there))

    return await with_held_statements(run, f"preparing {table.label}", [table], work, attempts=attempts)


async def switch_tables(
    run: Run,
    seen: Look,
    converter: Converter,
    values: Values,
    slots: Sequence[tuple[int, int]] = (),
    *,
    keep: bool = False,
    attempts: int,
) -> float:
    """Switch tables, with what hangs on them, in one transaction; returns for how many seconds statements were held.

    ``slots`` are (identity, slot) that become active with it. What is left to be looked at is the progress of phase ``SETTLE``.
    ConfigError when it cannot be done in so many attempts, Changed when something is another one than was seen.
    """
    tables = seen.tables
    made = await converted(seen.dependents, converter)
    looked_at = [dependent.validated for dependent in seen.dependents]
    looked_at += [each.looked_at for table in tables for column in table.columns for each in reversed(column.not_null)]
    left = [name for constraint in looked_at if constraint is not None for name in constraint]
    progress = Progress(SETTLE, "", tuple(left), run.progress.counts)

    async def work(change: Change) -> None:
        await _lock(run, seen)
        await run.conn.execute("SET LOCAL ROLE NONE")
        granted = await privileges(run.conn, seen)
        if await hanging(run.conn, tables) != seen.hanging or not await _watched(run, tables):
            raise _changed(run)
        await _seal_rest(run, tables, values)
        for dependent in reversed(seen.dependents):
            await _as_owner(run, dependent.owner, dependent.drop)
        for table in tables:
            await _as_owner(run, table.owner, switch(table, keep=keep))
        # No lock keeps GRANT out. What it has changed until it had to wait for these statements, the other connection sees.
        if await privileges(run.reading, seen) != granted:
            raise _changed(run)
        await _make(run, made)
        await run.conn.execute("SET LOCAL ROLE NONE")
        await write_progress(run.conn, run.site.schema, run.job.id, progress)
        await _record(change, tables, slots)

    held = await with_held_statements(run, "switching", tables, work, attempts=attempts)
    progress.counts["held_ms"] = round(held * 1000)
    run.progress = progress
    await write_progress(run.asking, run.site.schema, run.job.id, progress)
    return held


async def _make(run: Run, made: Iterable[tuple[Dependent, Sequence[str]]]) -> None:
    """Make definitions again; ConfigError for one that takes longer than statements may wait, such as a materialized view's."""
    limit = 0 if run.job.options.get("lock_tables") else MOST_WAITED
    await run.conn.execute(f"SET LOCAL statement_timeout TO {limit * 1000}")
    for dependent, statements in made:
        try:
            await _as_owner(run, dependent.owner, statements)
        except psycopg.errors.QueryCanceled:
            raise ConfigError(
                f"{dependent.label} takes longer than {limit} s to be made again, while everybody waits; nothing was switched",
                hint=f"{LOCKING.format(run.job.id)}; or drop it, and create it again afterwards",
            ) from None
        except (psycopg.ProgrammingError, psycopg.NotSupportedError) as error:
            if dependent.view is None:
                raise
            raise ConfigError(
                f"{dependent.label} cannot be made again ({type(error).__name__}, {error.sqlstate}); nothing was switched",
                hint=f"drop it, and create it again afterwards; phiproxy jobs resume {run.job.id} goes on",
            ) from None
    await run.conn.execute("SET LOCAL statement_timeout TO 0")


async def _attempt(run: Run, tables: Sequence[ConvertedTable], work: Work, seconds: float) -> float:
    conn, asking, schema = run.conn, run.asking, run.site.schema
    lease = max(5.0, 3 * run.site.settings.catalog.poll)
    parts = {part.name for table in tables for part in table.family}
    names = {name for _, name in parts}.union((await read_catalog(conn, parts)).reaching)
    began = time.monotonic()
    hold = await place_hold(asking, schema, names, seconds)
    done = False
    try:
        while waiting := await unconfirmed(asking, schema, hold, lease):
            if time.monotonic() - began > PATIENCE:
                raise _NotNow(f"{waiting} proxies have transactions or statements that do not end")
            await asyncio.sleep(STEP)
        async with run.site.registry.trust.changing(conn) as change:
            await conn.execute(SHORT)
            await work(change)
            await conn.execute("SET LOCAL ROLE NONE")
            if not await end_hold(conn, schema, hold):
                raise _TooShort("it took longer than statements are held")
        done = True
        await notify(conn, schema)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise _NotNow("others hold a lock") from None
    finally:
        if not done:
            await withdraw_hold(asking, schema, hold)
    return time.monotonic() - began


_WATCHING: Final = """
SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = ANY (%s::oid[]) AND tgname = ANY (%s) AND tgenabled = 'A'
"""


async def _watched(run: Run, tables: Iterable[ConvertedTable]) -> bool:
    """Tell whether the triggers that empty stale values fire always, as they were made.

    ENABLE TRIGGER of one that was disabled, as pg_restore --disable-triggers does it, lets it fire for ordinary sessions only: so
    it is seen that it was.
    """
    parts = [part.oid for table in tables for part in table.family]
    ((number,),) = await rows_of(run.conn, _WATCHING, parts, list(TRIGGERS))
    return bool(number == len(TRIGGERS) * len(parts))


def _changed(run: Run) -> Changed:
    hint = f"phiproxy jobs resume {run.job.id} looks at it once more, and goes on"
    return Changed("what hangs on the columns was changed while they were filled; nothing was switched", hint=hint)


async def _lock(run: Run, seen: Look) -> None:
    """Lock views and tables, in the order in which who reads them does, before it is looked at what is there.

    Somebody may just have replaced a view, by a query over other views or none, and may commit that once it was read. A view is
    locked by what changes nothing of it: LOCK would lock the tables that it reads too.
    """
    try:
        for dependent in reversed(seen.dependents):
            if dependent.view is not None:
                of = dependent.view.create.removeprefix("CREATE ")
                await _as_owner(run, dependent.owner, [f"ALTER {of} OWNER TO {quote_ident(dependent.owner, always=True)}"])
    except (psycopg.errors.UndefinedTable, psycopg.errors.WrongObjectType, psycopg.errors.InsufficientPrivilege):
        raise _changed(run) from None
    for table in sorted(seen.tables, key=lambda table: table.name):
        await _as_owner(run, table.owner, [f"LOCK TABLE {spelled(table.name)} IN ACCESS EXCLUSIVE MODE"])


async def _as_owner(run: Run, owner: str, statements: Iterable[str]) -> None:
    """Run statements as an owner, all in one message: while statements are held, each answer would be waited for by everybody."""
    await run.conn.execute("\n;\n".join([f"SET LOCAL ROLE {quote_ident(owner, always=True)}", *statements]).encode())


async def _seal_rest(run: Run, tables: Sequence[ConvertedTable], values: Values) -> None:
    """Seal what was written since the last pass, under the lock."""
    for table in tables:
        work = filling(table, values)
        await run.conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(table.owner)))
        for part in table.parts:
            await _seal_rest_of(run, table, part, work)


async def _seal_rest_of(run: Run, table: ConvertedTable, part: Part, work: Filler) -> None:
    scan = fill_scan(table, part).over(run.conn)
    sealed = 0
    while True:
        rows = await _rows(run, scan)
        if not rows:
            return
        changes = []
        for row, new in zip(rows, await scan.work(rows, work), strict=True):
            if new is None or isinstance(new, Exception):
                raise ConfigError(f"{part.label}, {scan.spelled(row)}: {new}", hint="put this right, and resume the job")
            changes.append((row, new))
        sealed += len(changes)
        if sealed > MOST_LEFT:
            raise _NotNow(f"more than {MOST_LEFT} rows of {part.label} were written since the last pass")
        try:
            await run.conn.execute(*scan.write(changes))
        except REFUSED:
            raise _changed(run) from None  # filling once more says which row it is


async def _rows(run: Run, scan: Scan) -> list[Row]:
    async with run.conn.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(*scan.read(None, MOST_LEFT), binary=True)
        return scan.rows(await cursor.fetchall())


async def _record(change: Change, tables: Sequence[ConvertedTable], slots: Sequence[tuple[int, int]]) -> None:
    """Let the registry know that these columns are sealed, for good, and that their indexes answer; or are in clear again."""
    columns = [(c, table.opening) for table in tables for c in table.columns]
    opened = [name for c, opening in columns for name in (c.sealed_names if opening else c.opened_names)]
    await allow_clear(change, opened)
    await forbid_clear(change, [name for c, opening in columns if not opening for name in c.sealed_names])
    for number, slot in slots:
        await change.before("slot", number, slot)
        query = sql.SQL("UPDATE {} SET state = 'active' WHERE number = %s AND slot = %s AND state IN ('building', 'ready')")
        updated = await change.conn.execute(query.format(registry_table(change.schema, "slot")), (number, slot))
        if updated.rowcount:
            change.became("slot", number, slot, fields=(..., ..., ..., ..., "active"))
    await change.conn.execute(sql.SQL("UPDATE {} SET epoch = epoch + 1").format(registry_table(change.schema, "meta")))
