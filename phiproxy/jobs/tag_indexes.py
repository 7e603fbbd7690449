"""Indexes over tags: those that go by one slot are built anew by another, beside the old ones, and take their names in the end.

Nobody is kept out meanwhile (CREATE INDEX CONCURRENTLY), and a unique index holds by both slots until the old one goes. Of a
partitioned table each partition's index is built so, and then attached to one of the whole.
"""

import hashlib
import re
from functools import partial
from typing import Final, NamedTuple

from phiproxy.documents.field_paths import parse_path
from phiproxy.documents.sealed_leaves import FIRST_TAG as FIRST_TAG_OF_TEXT
from phiproxy.documents.sealed_leaves import PREFIX, TAG_LENGTH
from phiproxy.jobs.index_settings import TABLESPACE, TARGETS, Targets, in_tablespace, set_targets
from phiproxy.jobs.relations import Connection, Part, rows_of
from phiproxy.jobs.running import Run
from phiproxy.jobs.short_locks import run_as, with_short_lock
from phiproxy.policy.identifiers import literal, quote_ident, shorten
from phiproxy.policy.physical_documents import bare_path, reached
from phiproxy.policy.protection import ProtectedColumn

NEXT: Final = "phi_next_"
OLD: Final = "phi_old_"
_FIRST_LEAF_TAG: Final = FIRST_TAG_OF_TEXT - len(PREFIX)
"""Where the tag of slot 0 begins in the header of a sealed leaf, which is what stands behind its first colon."""

_INDEXES: Final = f"""
SELECT c.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid, k.contype IS NOT NULL,
       (SELECT p.relname::text FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
         WHERE h.inhrelid = i.indexrelid),
       pg_catalog.obj_description(i.indexrelid, 'pg_class'), {TARGETS}, i.indisclustered, {TABLESPACE}
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
 WHERE i.indrelid = %s::oid ORDER BY c.relname
"""


class TagIndex(NamedTuple):
    """An index of a relation, as the server prints it; ``parent`` is the index of the partitioned table that it is attached to."""

    part: Part
    name: str
    definition: str
    valid: bool
    parent: str | None
    comment: str | None = None
    targets: Targets = ()
    clustered: bool = False
    tablespace: str | None = None

    @property
    def qualified(self) -> str:
        """Its name with the schema, quoted."""
        return f"{quote_ident(self.part.name[0])}.{quote_ident(self.name)}"


async def indexes_of(conn: Connection, part: Part) -> list[TagIndex]:
    """Return all indexes of a relation but those of constraints, which no tag has."""
    return [
        TagIndex(part, name, definition, valid, *rest)
        for name, definition, valid, constraint, *rest in await rows_of(conn, _INDEXES, part.oid)
        if not constraint
    ]


def goes_by(definition: str, column: ProtectedColumn, slot: int) -> bool:
    """Tell whether an index's definition has the tag of a slot of a column, or of a field of a document."""
    return _tag(column, slot).search(definition) is not None


def by_other_slot(definition: str, column: ProtectedColumn, old: int, new: int) -> str:
    """Return the definition with the tags of another slot: ``"substring"(ssn, 13, 16)`` -> ``"substring"(ssn, 29, 16)``."""
    first, digits = (_FIRST_LEAF_TAG, TAG_LENGTH) if column.path else (13, 16)
    return _tag(column, old).sub(lambda match: f"{match[1]}{first + digits * new}{match[2]}", definition)


def _tag(column: ProtectedColumn, slot: int) -> re.Pattern[str]:
    """Return how the server prints a tag of a slot: what is before and behind its offset."""
    name = quote_ident(column.name)
    if not column.path:
        return re.compile(rf'("?substring"?\({re.escape(name)}, ){13 + 16 * slot}(, 16\))')
    document = re.escape(reached(name, parse_path(column.path), text=True).removeprefix("pg_catalog."))
    header = rf"split_part\({document}, ':'::text, 2\)"
    return re.compile(rf"""("?substring"?\({header}, ){_FIRST_LEAF_TAG + TAG_LENGTH * slot}(, {TAG_LENGTH}\))""")


def next_name(part: Part, name: str, prefix: str = NEXT) -> str:
    """Return what an index is called beside the one of this name, which it will follow; or (``OLD``) once it is followed."""
    digest = hashlib.sha256(repr((part.name, name)).encode()).hexdigest()[:8]
    return shorten(f"{prefix}{name}_{digest}", digest)


async def build_next(run: Run, parts: list[Part], column: ProtectedColumn, old: int, new: int) -> None:
    """Build beside each index that goes by the old slot the one that goes by the new slot; those that are there are kept."""
    for part in sorted(parts, key=lambda part: not part.stores):  # the partitions first
        for index in await indexes_of(run.conn, part):
            if index.name.startswith((NEXT, OLD)) or not goes_by(index.definition, column, old):
                continue
            if goes_by(index.definition, column, new):
                continue  # somebody's own, over both
            text = by_other_slot(index.definition, column, old, new)
            await _build(run, part, next_name(part, index.name), text, index.tablespace)
    await _attach(run, parts)


async def build_first(run: Run, parts: list[Part], column: ProtectedColumn, slot: int, tag: str) -> None:
    """Build an index of a slot that has none yet, of each relation."""
    for part in sorted(parts, key=lambda part: not part.stores):
        indexes = await indexes_of(run.conn, part)
        name = _first_name(part, column, slot)
        if any(index.valid and index.name != name and goes_by(index.definition, column, slot) for index in indexes):
            continue
        text = f"CREATE INDEX {quote_ident(name)} ON {part.label} ({tag})"
        await _build(run, part, name, text)
    partitioned = [part for part in parts if not part.stores]
    for parent in partitioned:
        for child in await _children(run.conn, parent, parts):
            await _attach_one(run, parent, _first_name(parent, column, slot), child, _first_name(child, column, slot))


def _first_name(part: Part, column: ProtectedColumn, slot: int) -> str:
    digest = hashlib.sha256(repr((*part.name, column.name + column.path, slot)).encode()).hexdigest()[:8]
    return shorten(f"phi_tag_idx_{part.name[1]}_{column.name}{bare_path(column)}_{slot}", digest)


async def take_names(run: Run, parts: list[Part], column: ProtectedColumn, old: int, new: int) -> None:
    """Give the indexes that go by the new slot the names of those that go by the old one, and drop these."""
    await build_next(run, parts, column, old, new)  # those that were made meanwhile
    for part in parts:
        for index in await indexes_of(run.conn, part):
            following = not index.name.startswith((NEXT, OLD)) and goes_by(index.definition, column, old)
            if following and not goes_by(index.definition, column, new):
                await _swap(run, index)
    for part in sorted(parts, key=lambda part: part.stores):  # a partitioned table's first: its partitions' go with it
        for index in await indexes_of(run.conn, part):
            if index.name.startswith(OLD) and goes_by(index.definition, column, old) and index.parent is None:
                await _drop(run, index)


async def drop_unfinished(run: Run, parts: list[Part], column: ProtectedColumn, slot: int) -> None:
    """Drop the indexes of a slot that is given up."""
    for part in sorted(parts, key=lambda part: part.stores):
        for index in await indexes_of(run.conn, part):
            if goes_by(index.definition, column, slot) and index.parent is None:
                await _drop(run, index)


async def _swap(run: Run, index: TagIndex) -> None:
    """Exchange the names of an index and of the one that follows it."""
    part = index.part
    following, old = next_name(part, index.name), next_name(part, index.name, OLD)
    schema = quote_ident(part.name[0])
    text = (
        f"ALTER INDEX {index.qualified} RENAME TO {quote_ident(old)};"
        f"ALTER INDEX {schema}.{quote_ident(following)} RENAME TO {quote_ident(index.name)}"
    )
    if index.comment is not None:  # which may say that it stands for a constraint
        text += f";COMMENT ON INDEX {index.qualified} IS {literal(index.comment)}"
    text = ";".join([text, *set_targets(index.qualified, index.targets)])
    if index.clustered:
        text += f";ALTER TABLE {part.label} CLUSTER ON {quote_ident(index.name)}"
    await _short(run, part, f"renaming {following}", text)


async def _drop(run: Run, index: TagIndex) -> None:
    if index.part.stores:
        await _concurrently(run, index.part, f"DROP INDEX CONCURRENTLY IF EXISTS {index.qualified}")
    else:
        await _short(run, index.part, f"dropping {index.name}", f"DROP INDEX IF EXISTS {index.qualified}")


async def _build(run: Run, part: Part, name: str, definition: str, tablespace: str | None = None) -> None:
    """Build an index by its definition under another name, unless it is there and valid; of a partitioned table the frame only."""
    existing = next((index for index in await indexes_of(run.conn, part) if index.name == name), None)
    if existing is not None:
        if existing.valid or not part.stores:
            return
        await _concurrently(run, part, f"DROP INDEX CONCURRENTLY {existing.qualified}")  # of a build that was broken off
    head, rest = definition.split(" INDEX ", 1)
    _, rest = rest.split(" ON ", 1)
    rest = rest.removeprefix("ONLY ")
    run.display.phase(f"building index {name}", 0)
    if part.stores:
        await run_as(run.conn, part.owner, f"{head} INDEX CONCURRENTLY {quote_ident(name)} ON {rest}", tablespace=tablespace)
    else:
        made = [*in_tablespace(tablespace, local=True), f"{head} INDEX {quote_ident(name)} ON ONLY {rest}"]
        await _short(run, part, f"making index {name}", ";".join(made))


async def _attach(run: Run, parts: list[Part]) -> None:
    """Attach partitions' indexes that were built beside others, to what was made beside those' parents."""
    by_name = {part.name: part for part in parts}
    for part in parts:
        for index in await indexes_of(run.conn, part):
            if index.parent is None or index.name.startswith((NEXT, OLD)):
                continue
            following = next_name(part, index.name)
            parent = await _parent_of(run.conn, part, by_name)
            if parent is not None and any(i.name == following for i in await indexes_of(run.conn, part)):
                await _attach_one(run, parent, next_name(parent, index.parent), part, following)


async def _attach_one(run: Run, parent: Part, parent_index: str, child: Part, child_index: str) -> None:
    attached = next((i.parent for i in await indexes_of(run.conn, child) if i.name == child_index), None)
    if attached is not None:
        return
    text = (
        f"ALTER INDEX {quote_ident(parent.name[0])}.{quote_ident(parent_index)}"
        f" ATTACH PARTITION {quote_ident(child.name[0])}.{quote_ident(child_index)}"
    )
    await _short(run, parent, f"attaching index {child_index}", text)


_PARENT: Final = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhparent
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE h.inhrelid = %s::oid AND c.relkind = 'p'
"""


async def _parent_of(conn: Connection, part: Part, by_name: dict[tuple[str, str], Part]) -> Part | None:
    rows = await rows_of(conn, _PARENT, part.oid)
    return by_name.get((rows[0][0], rows[0][1])) if rows else None


async def _children(conn: Connection, parent: Part, parts: list[Part]) -> list[Part]:
    by_name = {part.name: part for part in parts}
    return [part for part in parts if await _parent_of(conn, part, by_name) is parent]


async def _concurrently(run: Run, part: Part, text: str) -> None:
    """Run what no transaction may hold, as the owner of a relation."""
    await run_as(run.conn, part.owner, text)


async def _short(run: Run, part: Part, what: str, text: str) -> None:
    await with_short_lock(run.conn, part.owner, what, partial(_execute, text.encode()), told=run.display.waits)


async def _execute(text: bytes, conn: Connection) -> None:
    await conn.execute(text)
