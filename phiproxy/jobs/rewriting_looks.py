"""What a job that rewrites sealed values where they stand would do, and what keeps it from that: nothing is changed by a look.

What is counted are values by the data key that they name, rows by whether they lack a tag: what the job itself goes by.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from psycopg import sql

from phiproxy.errors import ConfigError
from phiproxy.jobs.disk import Rewritten, need_of_rows, room_told
from phiproxy.jobs.identity_tables import Tables, Tagged, read_tables, scans_of
from phiproxy.jobs.recrypt import columns_of, under_keys
from phiproxy.jobs.relations import Identifier, Part, may_act_as, refuse_unless_owner
from phiproxy.jobs.resealed_definitions import sealed_under
from phiproxy.jobs.sight import JobSite, Sight, looking
from phiproxy.jobs.stored_columns import Stored, stored_columns
from phiproxy.jobs.tag_columns import lacking_tag_columns, refuse_keys, rewritten
from phiproxy.jobs.tag_indexes import NEXT, OLD, goes_by, indexes_of
from phiproxy.keys.key_rows import DataKeyRow, RootRow
from phiproxy.keys.slots import leaving_slots
from phiproxy.policy.identifiers import quote_ident
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity

Keys = Mapping[int, tuple[DataKeyRow, RootRow]]


@dataclass
class RewritingLook:
    """What would be done in a database, in words; what keeps it from being done; and the same in numbers (``facts``, of JSON).

    ``room`` says what it takes on disks, and what of these obstacles is ``cramped``.
    """

    database: str
    done: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    rewritten: dict[str, Rewritten] = field(default_factory=dict)
    room: list[str] = field(default_factory=list)
    cramped: list[str] = field(default_factory=list)

    def work_on(self, part: Part) -> Rewritten:
        """Return what is done to the rows of a relation."""
        return self.rewritten.setdefault(part.label, Rewritten(part))

    async def names(self, refusing: Awaitable[object]) -> None:
        """Name what something refuses as an obstacle, with what to do."""
        try:
            await refusing
        except ConfigError as error:
            self.named(error)

    def named(self, error: ConfigError) -> None:
        """Name a refusal as an obstacle, once."""
        self.obstacle(error.message + (f"; {error.hint}" if error.hint else ""))

    def obstacle(self, text: str) -> None:
        """Name an obstacle, once."""
        if text not in self.obstacles:
            self.obstacles.append(text)


async def look_at_keys(sight: Sight, look: RewritingLook, layout: Layout, keys: Keys, *, fire_triggers: bool) -> None:
    """Tell what is under data keys, and would be sealed anew: values by key and column, rows, and what is in definitions.

    ConfigError where the registry does not verify.
    """
    tables = await columns_of(sight, layout, {root.scope for _, root in keys.values()})
    values, written = await _under(sight, look, tables, keys)
    for key, (row, root) in keys.items():
        told = ", ".join(f"{count} of {column}" for column, count in sorted(values[key].items()))
        look.done.append(f"values under data key {key:08x} ({root.scope}, {row.state}) are sealed anew: {told or 'there is none'}")
        look.facts.setdefault("keys", []).append(
            {"id": f"{key:08x}", "scope": root.scope, "tenant": root.tenant, "state": row.state, "values": dict(values[key])}
        )
    for what, owner in await sealed_under(sight.conn, tables, keys):
        look.done.append(f"{what} is sealed anew")
        look.facts.setdefault("definitions", []).append(what)
        if not await may_act_as(sight.conn, owner):
            user = quote_ident(sight.site.settings.service.user)
            look.obstacles.append(f"{what}: the service role may not alter it; GRANT {quote_ident(owner)} TO {user}")
    await _told_of_parts(sight, look, [part for part, _ in tables], written, fire_triggers=fire_triggers)


async def _under(
    sight: Sight, look: RewritingLook, tables: Stored, keys: Collection[int]
) -> tuple[dict[int, Counter[str]], list[Part]]:
    """Count the values of each column under each key, and the rows of each relation; return the former, and the relations."""
    values: dict[int, Counter[str]] = {key: Counter() for key in keys}
    written = []
    for part, columns in tables:
        try:
            found = await under_keys(sight, part, columns, keys) if part.stores else []
        except ConfigError as error:
            look.named(error)
            continue
        for under, rows in found:
            for column, key in zip(columns, under, strict=True):
                if key is not None:
                    values[key][f"{part.label}.{quote_ident(column.name)}"] += rows
        if found:
            written.append(part)
            _count(look, part, sum(rows for _, rows in found))
    return values, written


def _count(look: RewritingLook, part: Part, rows: int) -> None:
    there = look.facts.setdefault("rows", {})
    look.work_on(part).rows = there[part.label] = max(rows, there.get(part.label, 0))


async def _told_of_parts(
    sight: Sight, look: RewritingLook, parts: Iterable[Part], written: Collection[Part], *, fire_triggers: bool
) -> None:
    """Name what keeps rows of relations from being ``written``: nothing names them, or something would fire.

    A job refuses the latter before it looks for rows, wherever rows can be named: of the other ``parts`` too.
    """
    for part in written:
        if not part.key:
            look.obstacle(f"{part.label} has no primary key, nor a unique key that is never NULL: its rows cannot be named")
    for part in parts:
        if not fire_triggers and part.stores and (part.key or part in written):
            await look.names(sight.refuse_firing([part]))


async def look_at_slots(
    sight: Sight,
    look: RewritingLook,
    layout: Layout,
    identity: RegisteredIdentity,
    slots: Iterable[Slot],
    options: Mapping[str, Any],
) -> None:
    """Tell what it takes that slots of an identity, made already or not, are searched: rows, indexes, and what goes then.

    ``options`` as of a job: ``clear``, ``lock_tables``, ``fire_triggers``.
    """
    tables = await read_tables(sight.conn, sight.site, layout, identity)
    await look.names(refuse_unless_owner(sight.conn, tables.parts))
    for slot in identity.slots:
        if slot.state == "active":
            await look.names(refuse_keys(sight.conn, tables.own_families, slot.number))
    gone, fire = {slot.number for slot in identity.slots if slot.state == "dropped"}, bool(options.get("fire_triggers"))
    for slot in slots:
        active = next((s for s in identity.slots if s.expression == slot.expression and s.state == "active"), None)
        old = [*leaving_slots(identity.slots, slot)] if active is None or active.number == slot.number else [active]
        gone.update(s.number for s in old)
        label = f"index {slot.expression} of {identity.identity}"
        rows, indexes = await _filled(sight, look, tables, slot, fire_triggers=fire), list[str]()
        told = ", ".join(f"{count} rows of {part}" for part, count in rows.items()) or "no row lacks a tag in it"
        look.done.append(f"{label}: slot {slot.number}, generation {slot.generation}, is filled: {told}")
        if slot.state != "active":
            indexes = await _indexes(sight, tables, active)
            built = f"others are built beside {', '.join(indexes)}, in whose place they come" if indexes else "an index is built"
            look.done.append(f"{label}: {built}; then searches go by slot {slot.number}")
            for part in tables.parts:
                if part.stores:
                    look.work_on(part).built += sum(len(tagged.searched) for tagged in tables.of(part))
            await _generated(sight, look, tables, slot, active, lock_tables=bool(options.get("lock_tables")))
        look.done += [f"{label}: slot {s.number} is dropped then" for s in old]
        facts = {"identity": identity.identity, "expression": slot.expression, "slot": slot.number, "generation": slot.generation}
        there = {"state": slot.state, "rows": rows, "indexes": indexes, "dropped": [s.number for s in old]}
        look.facts.setdefault("slots", []).append(facts | there)
    if options.get("clear") and gone:
        cleared = await _counted(sight, look, tables, partial(Tagged.tagged_in, slots=sorted(gone)))
        told = ", ".join(f"{count} rows of {part.label}" for part, count in cleared)
        look.done.append(f"{identity.identity}: tags of slots {', '.join(map(str, sorted(gone)))} are cleared: {told or 'no row'}")
        look.facts.setdefault("cleared", {}).update({part.label: count for part, count in cleared})
        for part, count in cleared:
            look.work_on(part).cleared += count
        await _told_of_parts(sight, look, tables.parts, [part for part, _ in cleared], fire_triggers=fire)


async def _filled(
    sight: Sight, look: RewritingLook, tables: Tables, slot: Slot, *, fire_triggers: bool
) -> dict[str, int]:
    """Return how many rows of each relation lack a tag in a slot that is building, or yet to be made."""
    if slot.state != "building":
        return {}
    counted = await _counted(sight, look, tables, partial(Tagged.lacking, slot=slot.number))
    for part, rows in counted:
        _count(look, part, rows)
    await _told_of_parts(sight, look, tables.parts, [part for part, _ in counted], fire_triggers=fire_triggers)
    return {part.label: rows for part, rows in counted}


async def _counted(sight: Sight, look: RewritingLook, tables: Tables, wanted: Any) -> list[tuple[Part, int]]:
    """Return how many rows of each relation are wanted, where there is one."""
    counted = []
    for scan, _ in scans_of([(tables, wanted)]):
        query = sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {} t WHERE {}").format(Identifier(*scan.part.name), scan.wanted)
        try:
            ((rows,),) = await sight.see(scan.part, query)
        except ConfigError as error:
            look.named(error)
            continue
        if rows:
            counted.append((scan.part, rows))
    return sorted(counted, key=lambda each: each[0].label)


async def tell_room(sight: Sight, look: RewritingLook, options: Mapping[str, Any]) -> None:
    """Tell what room it takes that what was looked at is done, and (an obstacle) where that is not there."""
    needs = [need for work in look.rewritten.values() if (need := await need_of_rows(sight.conn, work)) is not None]
    told, look.cramped = await room_told(sight.conn, needs, anyway=bool(options.get("disk_anyway")))
    look.room += [*(need.text for need in needs), *told]
    look.obstacles += look.cramped
    if needs:
        look.facts["disk"] = [need.as_json() for need in needs]


async def refuse_without_room(
    site: JobSite, options: Mapping[str, Any], look: Callable[[], Awaitable[RewritingLook]]
) -> None:
    """ConfigError where what a job writes has no room on the server's disks, as far as that is seen: before anything is begun.

    Rows are counted only where there is not enough for all that the database has sealed.
    """
    if options.get("disk_anyway"):
        return
    layout = await site.registry.layout()
    async with looking(site, fire_triggers=True) as sight:
        stored = await stored_columns(sight.conn, site.policy, layout, layout.columns)
        needs = [await need_of_rows(sight.conn, Rewritten(part, None)) for part, _ in stored if part.stores]
        _, cramped = await room_told(sight.conn, [need for need in needs if need is not None])
    if cramped and (cramped := (await look()).cramped):
        raise ConfigError("\n".join(cramped), hint="nothing was changed; --dry-run shows what would be done")


async def _indexes(sight: Sight, tables: Tables, active: Slot | None) -> list[str]:
    """Return the names of the server's indexes that go by the slot which is searched now."""
    names = set[str]()
    for name, parts in tables.families.items() if active is not None else ():
        assert active is not None
        for column in tables.columns[name].searched:
            for part in parts:
                own = [index for index in await indexes_of(sight.conn, part) if not index.name.startswith((NEXT, OLD))]
                names.update(index.name for index in own if goes_by(index.definition, column, active.number))
    return sorted(names)


async def _generated(
    sight: Sight, look: RewritingLook, tables: Tables, slot: Slot, active: Slot | None, *, lock_tables: bool
) -> None:
    """Tell of generated columns, for which a table is rewritten: an obstacle where nobody said that it may."""
    for name, part in await lacking_tag_columns(sight.conn, tables, slot.number, active):
        if lock_tables:
            look.done.append(rewritten(part, name, slot.number))
        else:
            look.obstacles.append(f"{rewritten(part, name, slot.number)}; when that may be: --lock-tables")


def keys_that_write(look: RewritingLook, keys: Collection[tuple[DataKeyRow, RootRow]]) -> None:
    """Tell of keys that write yet: each is followed by another before anything else."""
    for row, root in keys:
        if row.state == "active":
            of = root.scope + (f", tenant {root.tenant}" if root.tenant else "")
            look.done.append(f"data key {row.id:08x} writes for {of}: another one follows it first")
