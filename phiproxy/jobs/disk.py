"""What room a conversion, or writing rows anew, takes on the server's disks, and what is free there, where that is seen.

How much a table grows is estimated from the lengths of some of its values; nothing of these is read but their lengths. What is free
PostgreSQL does not say: where its data directory is on this machine, and this user may look into it, the file system does.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from phiproxy.jobs.relations import Connection, Part, rows_of
from phiproxy.policy.identifiers import quote_ident

SAMPLED: Final = 200
"""Pages of a relation whose values are measured."""
_SOME: Final = "phi_row <= 500 OR phi_row % 32 = 0"
"""Of the rows in them: a document is read whole for its length, and a page may refer to hundreds of megabytes."""
_OF_INDEX: Final = 48
"""Bytes of a row in an index over tags, with the room that the server leaves in it."""
_LOGGED: Final = 60
"""Bytes of WAL for a row that is written, beside what is in it."""
_LOGGED_OF_INDEX: Final = 90
_SURE: Final = 2
"""What is needed is estimated within this factor: what does not fit by it does not fit."""


class Grown(NamedTuple):
    """A column that is stored a second time, as another kind of value with so many bytes more; ``binary``: it is of bytea now."""

    name: str
    more: int
    binary: bool


@dataclass(frozen=True)
class Need:
    """What a job takes until tables are rewritten, in bytes; ``spaces``: it by tablespace, by oid and name."""

    label: str
    rows: int
    size: int
    wal: int
    spaces: dict[tuple[int, str], int]

    @property
    def more(self) -> int:
        """What it takes in all tablespaces."""
        return sum(self.spaces.values())

    def as_json(self) -> dict[str, object]:
        """Return it as numbers."""
        more = {name: count for (_, name), count in self.spaces.items()}
        return {"table": self.label, "rows": self.rows, "bytes": self.size, "wal_bytes": self.wal, "more_bytes": more}

    @property
    def text(self) -> str:
        """Say it in words."""
        places = ", ".join(f"{spelled(more)} more in {name}" for (_, name), more in sorted(self.spaces.items()))
        return f"{self.label}: about {self.rows} rows, {spelled(self.size)}; up to about {places}, and {spelled(self.wal)} of WAL"


@dataclass
class Rewritten:
    """Rows of a relation that are written anew where they stand, and once more to be ``cleared``.

    ``built`` counts indexes that are made beside others. ``rows`` is None where nobody has counted: all, more than any job takes.
    """

    part: Part
    rows: int | None = 0
    cleared: int = 0
    built: int = 0


class _Sizes(NamedTuple):
    rows: float
    main: int
    table: int
    space: tuple[int, str]
    building: tuple[int, str]
    """Where indexes are built unless somebody says where."""
    logs_pages: bool


_SIZES: Final = """
SELECT c.reltuples::float8, pg_catalog.pg_relation_size(c.oid), pg_catalog.pg_table_size(c.oid), t.oid::int8, t.spcname::text,
       b.oid::int8, b.spcname::text, pg_catalog.current_setting('full_page_writes')::bool
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
  JOIN pg_catalog.pg_tablespace t ON t.oid = CASE c.reltablespace WHEN 0 THEN d.dattablespace ELSE c.reltablespace END
  JOIN pg_catalog.pg_tablespace b ON CASE pg_catalog.current_setting('default_tablespace') WHEN '' THEN b.oid = d.dattablespace
       ELSE b.spcname = pg_catalog.current_setting('default_tablespace') END
 WHERE c.oid = %s::oid
"""
_INDEXES: Final = """
SELECT t.oid::int8, t.spcname::text, pg_catalog.pg_relation_size(c.oid)
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
  JOIN pg_catalog.pg_tablespace t ON t.oid = CASE c.reltablespace WHEN 0 THEN d.dattablespace ELSE c.reltablespace END
 WHERE i.indrelid = %s::oid
"""


async def need_of(conn: Connection, label: str, parts: Sequence[tuple[Part, int]], columns: Sequence[Grown]) -> Need | None:
    """Estimate what it takes to convert columns of relations, each with so many indexes that are built; None where there are none.

    A row is written once more, with what is stored beside; at the worst nothing of its old version's room is used again while the
    job lasts. It gets entries in all indexes, and in those that are built.
    """
    spaces = Counter[tuple[int, str]]()
    rows_in_all = size = wal = 0
    for part, built in parts:
        found = await rows_of(conn, _SIZES, part.oid)
        indexes = [((oid, name), length) for oid, name, length in await rows_of(conn, _INDEXES, part.oid)]
        for rows_there, main, table, oid, name, to, to_name, logs_pages in found:  # none of one that was dropped meanwhile
            each = _Sizes(rows_there, main, table, (oid, name), (to, to_name), logs_pages)
            rows, beside = await _sampled(conn, part, each, columns)
            new, entries = int(rows * beside), rows * _OF_INDEX * built
            spaces[each.space] += each.main + new
            spaces[each.building] += entries
            for space, length in indexes:
                spaces[space] += length
            there = each.table + sum(length for _, length in indexes)
            rows_in_all, size = rows_in_all + rows, size + there
            wal += each.main + new + entries + rows * (_LOGGED + _LOGGED_OF_INDEX * len(indexes))
            wal += there if each.logs_pages else 0
    return Need(label, rows_in_all, size, wal, dict(spaces)) if spaces else None


async def need_of_rows(conn: Connection, work: Rewritten) -> Need | None:
    """Estimate what it takes to write rows anew where they stand; None where there are none."""
    if work.rows == work.cleared == work.built == 0:
        return None
    spaces, size, wal = Counter[tuple[int, str]](), 0, 0
    indexes = [((oid, name), length) for oid, name, length in await rows_of(conn, _INDEXES, work.part.oid)]
    for rows_there, _, table, oid, name, to, to_name, logs_pages in await rows_of(conn, _SIZES, work.part.oid):
        whole = max(round(rows_there), work.rows or 0, work.cleared, 1)
        rows = 3 * whole if work.rows is None else work.rows + work.cleared
        entries = whole * _OF_INDEX * work.built
        spaces[oid, name] += table * rows // whole
        spaces[to, to_name] += entries
        for space, length in indexes:
            spaces[space] += length * rows // whole
        size += table + sum(length for _, length in indexes)
        wal += table * rows // whole + entries + rows * (_LOGGED + _LOGGED_OF_INDEX * len(indexes))
        wal += size if logs_pages else 0
        return Need(work.part.label, whole, size, wal, dict(spaces))
    return None  # it was dropped meanwhile


async def _sampled(conn: Connection, part: Part, sizes: _Sizes, columns: Sequence[Grown]) -> tuple[int, float]:
    """Return how many rows a relation has, about, and how many bytes the columns take beside in each, by some of its pages."""
    pages = sizes.main // 8192 or 1
    share = min(1.0, SAMPLED / pages)
    lengths = " + ".join(
        f"coalesce({c.more} + pg_catalog.octet_length({quote_ident(c.name)}{'' if c.binary else '::pg_catalog.text'}), 0)"
        for c in columns
    )
    listed = ", ".join(quote_ident(c.name) for c in columns)  # the role may not read the others
    sampled = f"SELECT {listed}, pg_catalog.row_number() OVER () AS phi_row FROM ONLY {part.label}"
    sampled += f" TABLESAMPLE SYSTEM ({100 * share})"
    query = f"SELECT pg_catalog.count(*), pg_catalog.avg({lengths}) FILTER (WHERE {_SOME})::float8 FROM ({sampled}) AS sampled"
    try:
        async with conn.transaction():
            ((count, beside),) = await rows_of(conn, query.replace("%", "%%"))
    except psycopg.errors.InsufficientPrivilege:
        count, beside = 0, None
    rows = round(sizes.rows if sizes.rows > 0 else count / share)
    if beside is None:  # nothing was seen: a value is as long as a row at most
        beside = sum(column.more for column in columns) + sizes.main / max(1, rows)
    return rows, beside


class _Free(NamedTuple):
    bytes: int
    device: int


async def room_told(conn: Connection, needs: Iterable[Need], *, anyway: bool = False) -> tuple[list[str], list[str]]:
    """Say how much is free where tables grow, and in which file system they cannot: what is told, and what is an obstacle.

    ``anyway``: somebody who knows better has said that it is none.
    """
    by_space = Counter[tuple[int, str]]()
    for need in needs:
        by_space.update(need.spaces)
    if not by_space:
        return [], []
    free = await _free(conn, by_space)
    if free is None:
        return ["how much is free, only the server's machine says (df): its data directory cannot be seen from here"], []
    (limit,) = (await rows_of(conn, "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))"))[0]
    told = [f"free in {name}: {spelled(free[oid].bytes)}" for oid, name in by_space]
    told.append(f"free in pg_wal: {spelled(free[_WAL].bytes)}; of what is archived, and no slot holds, it keeps {spelled(limit)}")
    obstacles, devices = [], {free[oid].device for oid, _ in by_space}
    for device in sorted(devices):
        on_it = [(oid, name) for oid, name in by_space if free[oid].device == device]
        least, there = sum(by_space[space] for space in on_it) // _SURE, free[on_it[0][0]].bytes
        if least > there:
            names = ", ".join(name for _, name in on_it)
            obstacles.append(f"{names}: {spelled(there)} are free, and {spelled(least)} are needed at least, beside WAL")
    if anyway:
        return [*told, *obstacles], []
    return told, [f"{obstacle}; to begin all the same: --disk-anyway" for obstacle in obstacles]


_WAL: Final = 0
_WHERE: Final = """
SELECT (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'),
       extract(epoch FROM pg_catalog.pg_postmaster_start_time())::int8
"""


async def _free(conn: Connection, spaces: Iterable[tuple[int, str]]) -> dict[int, _Free] | None:
    """Return what is free for the server in tablespaces, by oid, and (0) in pg_wal; None where that cannot be known."""
    ((data, started),) = await rows_of(conn, _WHERE)
    if data is None:  # the role does not see that
        return None
    try:
        async with conn.transaction():
            ((identifier,),) = await rows_of(conn, "SELECT system_identifier FROM pg_catalog.pg_control_system()")
            places = {_WAL: f"{data}/pg_wal"}
            for oid, _ in spaces:
                ((place,),) = await rows_of(conn, "SELECT pg_catalog.pg_tablespace_location(%s::oid)", oid)
                places[oid] = place or data
    except psycopg.errors.InsufficientPrivilege:
        return None
    return await asyncio.to_thread(_looked, Path(data), identifier, started, places)


def _looked(data: Path, identifier: int, started: int, places: dict[int, str]) -> dict[int, _Free] | None:
    """Look at the file systems, if this is the directory of that server: a directory of that name may be another one's."""
    try:
        stored = int.from_bytes((data / "global" / "pg_control").read_bytes()[:8], sys.byteorder, signed=True)
        began = int((data / "postmaster.pid").read_text().splitlines()[2])
        if stored != identifier or abs(began - started) > 60:
            return None
        found = {}
        for oid, place in places.items():
            there = os.statvfs(place)
            found[oid] = _Free(there.f_bavail * there.f_frsize, Path(place).stat().st_dev)
    except (OSError, ValueError, IndexError):
        return None
    return found


def spelled(size: int) -> str:
    """Return bytes as PostgreSQL writes them: ``600 kB``."""
    left = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if left < 10 * 1024:
            return f"{left:.0f} {unit}"
        left /= 1024
    return f"{left:.0f} TB"
