"""What a process believes of one registry: what is in a manifest, by a counter not older than it has seen (docs/registry.md).

``Trust.reading`` is one snapshot of the registry in which every row that is read is looked for in its manifest; ``Trust.changing``
is one transaction whose changes enter the manifests and raise the counter before it commits. What does not verify is told once to
``alarm`` and never used: the rows' readers refuse what it concerns, and everything else goes on.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import EllipsisType
from typing import Any, Final, Literal, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from phiproxy.crypto.envelope import frame
from phiproxy.errors import NotAuthentic
from phiproxy.keys.authenticated_tables import AUTHENTICATED, AuthenticatedTable, Connection, Read, of_key, read_rows
from phiproxy.keys.counter_file import Watermark
from phiproxy.keys.manifest import Counter, Manifest, RegistryKey, Row, parse_label, row_text
from phiproxy.keys.registry_schema import table
from phiproxy.policy.registry_layout import Layout

# Who can write the registry can make up rows without end; what was told of them is remembered up to here.
MAX_TOLD = 10_000

SNAPSHOT: Final = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# A change waits for its rivals and then sees what they did, and survives a crash of the server.
CHANGING: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit TO on"

ROLLED_BACK = "the key registry was rolled back: its counter is {}, {} was seen"
ROLLBACK_HINT = "nothing is written until it is accepted, once the reason is known: phiproxy keys accept-rollback --reason TEXT"


FaultKind = Literal["row", "manifest", "counter", "rollback", "unknown_key"]


class Fault(NamedTuple):
    """What does not verify: ``what`` names it, ``why`` says how it differs.

    ``unknown_key``: stored values are under a data key that is not there.
    """

    kind: FaultKind
    what: str
    why: str


class Trust:
    """The registry key of one database and the highest counter that was seen. Connections are the service role's."""

    def __init__(self, schema: str, key: RegistryKey, watermark: Watermark | None = None) -> None:
        self.schema = schema
        self.key = key
        self.watermark = watermark or Watermark(key.anchor)
        self.alarm: Callable[[Fault], None] = lambda _fault: None
        self.faults: Tally[FaultKind] = Tally()
        """Faults told so far, by kind."""
        self.rolled_back = ""
        """Says so from when the registry was older than it was seen, until that is accepted."""
        self._noticed_at = 0
        self._told: OrderedDict[Fault, None] = OrderedDict()
        self._manifests: dict[str, Manifest] = {}
        self.verified_layout: tuple[TupleRow, Layout] | None = None
        """The layout that was verified last, and the rows that it was of: mostly nothing has changed when a proxy looks again."""

    def tell(self, fault: Fault) -> None:
        """Raise the alarm, once for each fault."""
        if fault not in self._told:
            self._told[fault] = None
            if len(self._told) > MAX_TOLD:
                self._told.popitem(last=False)
            self.faults[fault.kind] += 1
            self.alarm(fault)

    def refuse_if_rolled_back(self) -> None:
        """Raise NotAuthentic from when the registry was older than it was seen until that is accepted: nothing may be written."""
        if self.rolled_back:
            raise NotAuthentic(self.rolled_back, hint=ROLLBACK_HINT)

    @asynccontextmanager
    async def reading(self, conn: Connection) -> AsyncIterator[View]:
        """A verified snapshot of the registry; ``conn`` is outside a transaction. NotAuthentic when the counter does not verify."""
        floor = self.watermark.counter  # as it was before the snapshot: another connection may see a later one meanwhile
        async with conn.transaction():
            await conn.execute(SNAPSHOT)
            counter = await self.counter(conn, floor)
            yield View(self, conn, counter)

    @asynccontextmanager
    async def changing(self, conn: Connection) -> AsyncIterator[Change]:
        """One transaction that changes rows; they are in the manifests when it commits, or nothing is changed.

        Raises NotAuthentic when the registry was rolled back, or a row that was changed is not as its manifest says.
        """
        self.refuse_if_rolled_back()
        value = 0
        async with conn.transaction():
            await conn.execute(CHANGING)
            change = Change(self, conn)
            yield change
            value = await change.flush()
        await self.watermark.raise_to(value)

    async def counter(self, conn: Connection, floor: int, *, lock: bool = False) -> Counter:
        """Read and verify the counter, and compare it with ``floor``, the highest seen before.

        Changes of who has not seen the later state raise an older counter one by one. Only what accepts it raises it to the time in
        microseconds, and so above the time at which it was noticed here.
        """
        counter = await read_counter(conn, self.schema, self.key, lock=lock, trust=self)
        if counter.value < floor:
            self._noticed_at = self._noticed_at or time.time_ns() // 1000
            self.rolled_back = ROLLED_BACK.format(counter.value, floor)
            self.tell(Fault("rollback", "counter", f"is {counter.value}, and {floor} was seen: the registry was rolled back"))
        elif counter.value >= max(self.watermark.counter, self._noticed_at):
            self.rolled_back, self._noticed_at = "", 0
            if not lock:
                await self.watermark.raise_to(counter.value)
        return counter

    async def manifest(self, conn: Connection, counter: Counter, group: str, *, lock: bool = False) -> Manifest:
        """Return a group's manifest as of this counter; one that does not verify is told and has no entry."""
        at = counter.groups.get(group)
        held = self._manifests.get(group)
        if not lock and held is not None and held.counter == at:
            return held
        query = sql.SQL("SELECT counter, entries, mac FROM {} WHERE group_name = %s {}").format(
            table(self.schema, "manifest"), sql.SQL("FOR UPDATE" if lock else "")
        )
        rows = await (await conn.execute(query, (group,))).fetchall()
        if at is None:
            if rows:
                self.tell(Fault("manifest", f"manifest of {group}", "was added"))
            return Manifest(group, 0, {})
        try:
            if len(rows) != 1 or rows[0][0] != at:
                raise NotAuthentic(f"the manifest of {group} in the key registry is missing or not its last one")
            manifest = self.key.open_manifest(group, *rows[0])
        except NotAuthentic as error:
            self.tell(Fault("manifest", f"manifest of {group}", error.message))
            if lock:
                raise
            return Manifest(group, at, {})
        if not lock:
            self._manifests[group] = manifest
        return manifest


class View:
    """A snapshot of the registry: its rows, and whether each is as its manifest says."""

    def __init__(self, trust: Trust, conn: Connection, counter: Counter) -> None:
        self.conn = conn
        self.schema = trust.schema
        self.counter = counter
        self.trust = trust

    async def manifest(self, group: str) -> Manifest:
        """Return a group's manifest; one that does not verify is empty."""
        return await self.trust.manifest(self.conn, self.counter, group)

    async def rows(
        self, of: AuthenticatedTable, where: sql.Composable, values: Sequence[Any] = (), extra: Sequence[str] = ()
    ) -> list[tuple[Read, bool]]:
        """Read rows, each with whether it is authentic; what is not is told."""
        return await self.verified(await read_rows(self.conn, self.schema, of, where, values, extra=extra))

    async def verified(self, reads: Sequence[Read]) -> list[tuple[Read, bool]]:
        """Say of rows of this snapshot whether each is authentic; what is not is told. Of a row that is there twice neither is."""
        copies = Tally(read.row.label for read in reads)
        return [(read, await self._authentic(read, copies[read.row.label])) for read in reads]

    async def missing(self, group: str, table: str, key: Sequence[str], present: set[bytes]) -> list[tuple[str, ...]]:
        """Return, and tell, the keys of a group's rows of a table whose key begins like this and that are not among ``present``."""
        prefix = frame(table.encode(), *(part.encode() for part in key))
        manifest = await self.manifest(group)
        missing = [parse_label(m)[1:] for m in manifest.macs if m.startswith(prefix) and m not in present]
        for lost in missing:
            self.trust.tell(Fault("row", row_text(table, lost), "is missing"))
        return missing

    async def _authentic(self, read: Read, copies: int) -> bool:
        if copies > 1:
            self.trust.tell(Fault("row", read.row.text, "is there more than once"))
            return False
        expected = (await self.manifest(read.group)).macs.get(read.row.label) if read.group else None
        if expected is not None and hmac.compare_digest(expected, self.trust.key.row_mac(read.row)):
            return True
        why = "is not one that phiproxy has written" if expected is None else "is not as phiproxy has written it last"
        self.trust.tell(Fault("row", read.row.text, why))
        return False


Fields = Sequence[str | EllipsisType | None]
"""Fields of a row as they are authenticated; ``...`` is one that the server gives, or that a change leaves as it was."""


class Change:
    """The rows that a transaction changes. ``schema`` and ``conn`` are for the statements that change them.

    Whoever changes a row says what it becomes: a trigger, a rule or another owner of the tables may have stored something else,
    which must not be taken into the manifests as if phiproxy had written it.
    """

    def __init__(self, trust: Trust, conn: Connection) -> None:
        self.conn = conn
        self.schema = trust.schema
        self._trust = trust
        self._before: dict[tuple[str, tuple[str, ...]], tuple[str, Row | None]] = {}
        self._after: dict[tuple[str, tuple[str, ...]], Fields | None] = {}

    async def before(self, name: str, *key: object) -> None:
        """Say that a row is about to be changed or deleted: it is locked, and must be as its manifest says when this commits."""
        texts = _texts(key)
        if (name, texts) not in self._before and (read := await self._read(name, texts, lock=True)) is not None:
            self._before[name, texts] = read.group, read.row

    def became(self, name: str, *key: object, fields: Fields) -> None:
        """Say what a row is now, after ``before``."""
        texts = _texts(key)
        _, row = self._before.get((name, texts), ("", None))
        was: Fields = row.fields if row is not None else self._after.get((name, texts)) or [...] * len(fields)
        self._after[name, texts] = [old if new is ... else new for old, new in zip(was, fields, strict=True)]

    def deleted(self, name: str, *key: object) -> None:
        """Say that a row is no longer there, after ``before``."""
        self._after[name, _texts(key)] = None

    def added(self, name: str, *key: object, fields: Fields) -> None:
        """Say that a row was inserted."""
        self._before.setdefault((name, _texts(key)), ("", None))
        self._after[name, _texts(key)] = fields

    async def _read(self, name: str, key: tuple[str, ...], *, lock: bool = False) -> Read | None:
        of = AUTHENTICATED[name]
        reads = await read_rows(self.conn, self.schema, of, of_key(of), key, lock=lock)
        if len(reads) > 1 or any(read.row.key != key for read in reads):
            raise self._not_authentic(row_text(name, key), "is not the only one that is there under its name")
        return reads[0] if reads else None

    def _not_authentic(self, what: str, why: str) -> NotAuthentic:
        self._trust.tell(Fault("row", what, why))
        return NotAuthentic(f"{what} of the key registry is not authentic; nothing was changed")

    async def flush(self) -> int:
        """Write the manifests of what was changed and raise the counter; returns it, or 0 where nothing is another than before."""
        changed: dict[str, list[tuple[Row, bytes | None, bytes | None]]] = {}
        for (name, key), (group, old) in self._before.items():
            read = await self._read(name, key)
            now = read.row if read is not None else None
            if not _is(now, self._after.get((name, key), old.fields if old is not None else None)):
                raise self._not_authentic(row_text(name, key), "was not stored as phiproxy has written it")
            before, after = (None if row is None else self._trust.key.row_mac(row) for row in (old, now))
            if after != before:
                changed.setdefault(read.group if read is not None else group, []).append((now or Row(name, key, ()), before, after))
        if not changed:
            return 0
        # Last, so that nobody who holds it waits for anybody.
        counter = await self._trust.counter(self.conn, self._trust.watermark.counter, lock=True)
        self._trust.refuse_if_rolled_back()
        manifests = []
        for group, rows in changed.items():
            macs = dict((await self._trust.manifest(self.conn, counter, group, lock=True)).macs)
            for row, before, after in rows:
                if macs.get(row.label) != before:
                    raise self._not_authentic(row.text, "is not as phiproxy has written it last")
                if after is None:
                    del macs[row.label]
                else:
                    macs[row.label] = after
            manifests.append(Manifest(group, counter.value + 1, macs))
        return await write_manifests(self.conn, self.schema, self._trust.key, counter, manifests)


def _texts(key: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(part) for part in key)


def _is(row: Row | None, fields: Fields | None) -> bool:
    """Say whether a row has these fields; None: whether it is not there."""
    if row is None or fields is None:
        return row is None and fields is None
    return all(wanted is ... or wanted == value for wanted, value in zip(fields, row.fields, strict=True))


async def read_counter(
    conn: Connection, schema: str, key: RegistryKey, *, lock: bool = False, trust: Trust | None = None
) -> Counter:
    """Read and verify the counter's row; NotAuthentic when it is not there or does not verify."""
    query = sql.SQL("SELECT value, groups, mac FROM {} {}").format(table(schema, "counter"), sql.SQL("FOR UPDATE" if lock else ""))
    try:
        try:
            rows = await (await conn.execute(query)).fetchall()
        except psycopg.errors.UndefinedTable:
            rows = []
        if len(rows) != 1:
            raise NotAuthentic(f"the key registry in schema {schema} cannot be used: its counter is missing")
        return key.open_counter(*rows[0])
    except NotAuthentic as error:
        if trust is not None:
            trust.tell(Fault("counter", "counter", error.message))
        raise


async def write_manifests(
    conn: Connection, schema: str, key: RegistryKey, counter: Counter, manifests: Sequence[Manifest], value: int | None = None
) -> int:
    """Write these manifests, and the counter (by default one more) over them and all others; returns its value."""
    now = Counter(counter.value + 1 if value is None else value, {**counter.groups, **{m.group: m.counter for m in manifests}})
    query = sql.SQL(
        "INSERT INTO {} (group_name, counter, entries, mac) VALUES (%s, %s, %s, %s) ON CONFLICT (group_name)"
        " DO UPDATE SET counter = excluded.counter, entries = excluded.entries, mac = excluded.mac"
    ).format(table(schema, "manifest"))
    for m in manifests:
        await conn.execute(query, (m.group, m.counter, m.encode(), key.manifest_mac(m)))
    query = sql.SQL(
        "INSERT INTO {} (value, groups, mac) VALUES (%s, %s, %s) ON CONFLICT (one)"
        " DO UPDATE SET value = excluded.value, groups = excluded.groups, mac = excluded.mac"
    ).format(table(schema, "counter"))
    await conn.execute(query, (now.value, now.encode(), key.counter_mac(now)))
    return now.value
