"""``reindex``: a new slot of a blind index is filled, row by row, and takes over; the slot before it goes.

building → ready → active → the old one dropped. Before each step every live proxy has taken the one before over, and what a step
says is made sure of: the guard lets no value without the new tag in, and is validated, before the slot is ready; the server's
indexes exist before it is searched; uniqueness holds by both slots until the old one goes. Where a job is, the registry and the
catalogue say, so it goes on from wherever it was broken off.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from phiproxy.errors import ConfigError
from phiproxy.jobs.identity_tables import Tables, Tagged, Wanted, read_tables, scans_of
from phiproxy.jobs.relations import Connection, Part, refuse_unless_owner, rows_of
from phiproxy.jobs.running import JobSite, Run
from phiproxy.jobs.sealed_values import SealedValues
from phiproxy.jobs.short_locks import with_short_lock
from phiproxy.jobs.tag_columns import drop_tag_columns, make_tag_columns, refuse_keys
from phiproxy.jobs.tag_indexes import build_first, build_next, drop_unfinished, take_names
from phiproxy.jobs.tagging import Tagging
from phiproxy.keys.slots import leaving_slots, next_generation, set_slot_states
from phiproxy.net.service_login import connect_service
from phiproxy.ops.physical_tables import same_sql
from phiproxy.policy.identifiers import quote_ident, shorten
from phiproxy.policy.physical_columns import tag
from phiproxy.policy.plaintext_guards import guard, guard_name
from phiproxy.policy.protection import Slot, SlotState
from phiproxy.policy.registry_layout import Layout, RegisteredIdentity

FILLING: Final = "filling slot {} of {}"
FOLLOWING: Final = "filling slot {} of {}, what was written before the guard"
TAKING_OVER: Final = "searching by slot {} of {}"
DROPPING: Final = "dropping slot {} of {}"
CLEARING: Final = "clearing slot {} of {}"
FILLING_ALL: Final = "filling new slots of all indexes"
CLEARING_ALL: Final = "clearing old slots of all indexes"


def waiting(identity: RegisteredIdentity, expression: str | None) -> list[Slot]:
    """Return the slots that a reindexing of an identity is about: one for each expression that something is left to do for.

    The slot that is to take over, or that has and whose predecessor is yet to be dropped.
    """
    slots = []
    for name in dict.fromkeys(s.expression for s in identity.slots if s.state != "dropped"):
        if expression not in (None, name):
            continue
        own = [s for s in identity.slots if s.expression == name and s.state != "dropped"]
        active = next((s for s in own if s.state == "active"), None)
        if active is None:
            slots.append(max(own, key=lambda s: s.generation))
        elif (following := next_generation(own, active)) is not None:
            slots.append(following)
        elif leaving_slots(own, active):
            slots.append(active)
    return slots


async def look(site: JobSite, name: str) -> None:
    """ConfigError where the slots of an identity could not be brought to their end: before anything is begun."""
    layout = await site.registry.layout()
    identity = identity_of(layout, name)
    async with await connect_service(site.settings, site.policy.database) as conn:
        tables = await read_tables(conn, site, layout, identity)
        await refuse_unless_owner(conn, tables.parts)
        for slot in identity.slots:
            if slot.state == "active":
                await refuse_keys(conn, tables.own_families, slot.number)


async def run(run: Run) -> None:
    """Bring the job's slots to their end, one after the other."""
    options = run.job.options
    await bring(run, options["identity"], options.get("expression"))
    if options.get("clear"):
        await clear(run, [options["identity"]])


async def bring(run: Run, name: str, expression: str | None) -> None:
    """Bring the slots of an identity that wait to their end."""
    identity = identity_of(await run.site.registry.layout(), name)
    for slot in waiting(identity, expression):
        await _one(run, name, slot.number)


def identity_of(layout: Layout, name: str) -> RegisteredIdentity:
    """Return an identity by its name; ConfigError where the registry has none, or somebody has changed it past phiproxy."""
    identity = next((i for i in layout.identities.values() if i.identity == name), None)
    if identity is None or layout.distrusted & {n for n, number in layout.columns.items() if number == identity.number}:
        raise ConfigError(f"what the key registry says of {name} does not verify", hint="phiproxy check")
    return identity


async def _one(run: Run, name: str, number: int) -> None:
    """Bring one slot to its end."""
    layout = await run.site.registry.layout()
    tables = await read_tables(run.conn, run.site, layout, identity_of(layout, name))
    await run.lock_tables({part.name for part in tables.parts})
    await refuse_unless_owner(run.conn, tables.parts)
    slot = _slot(layout, name, number)
    active = _active(layout, name, slot.expression)
    if active is not None and active != slot:
        await refuse_keys(run.conn, tables.own_families, active.number)
    if slot.state == "building":
        await run.acknowledged()  # from here on every proxy fills it
        await make_tag_columns(run, tables, _shaped(tables, slot), active)
        await fill(run, FILLING.format(number, name), layout, tables, slot)
        await _guard(run, layout, tables, slot)
        await _indexes(run, tables, slot, active)
        await set_slot_states(run.site.registry, identity_of(layout, name), [(slot, "ready")])
        layout, slot = await _again(run, name, number)
    if slot.state == "ready":
        run.display.phase(TAKING_OVER.format(number, name), 0)
        await run.acknowledged()
        await _indexes(run, tables, slot, active)
        demoted: list[tuple[Slot, SlotState]] = [] if active is None else [(active, "ready")]
        await set_slot_states(run.site.registry, identity_of(layout, name), [*demoted, (slot, "active")])
        layout, slot = await _again(run, name, number)
    await run.acknowledged()  # from here on every proxy searches by it
    for old in leaving_slots(identity_of(layout, name).slots, slot):
        run.display.phase(DROPPING.format(old.number, name), 0)
        for column_name, parts in tables.families.items():
            for column in tables.columns[column_name].searched:
                await take_names(run, parts, column, old.number, slot.number)
        await set_slot_states(run.site.registry, identity_of(layout, name), [(old, "dropped")])
        await run.acknowledged()
        await drop_tag_columns(run, tables.own_families, old.number)


async def _again(run: Run, name: str, number: int) -> tuple[Layout, Slot]:
    layout = await run.site.registry.layout()
    return layout, _slot(layout, name, number)


def _slot(layout: Layout, name: str, number: int) -> Slot:
    return next(s for s in identity_of(layout, name).slots if s.number == number)


def _active(layout: Layout, name: str, expression: str) -> Slot | None:
    slots = identity_of(layout, name).slots
    return next((s for s in slots if s.expression == expression and s.state == "active"), None)


def _shaped(tables: Tables, slot: Slot) -> Slot:
    """Return a slot of the registry with what its expression is."""
    return next(s for s in tables.slots if s.number == slot.number)


async def fill(run: Run, phase: str, layout: Layout, tables: Tables, slot: Slot) -> None:
    """Give every value of an identity that has no tag in a slot all of its tags, sealed anew."""
    await _rewrite(run, phase, layout, [(tables, partial(Tagged.lacking, slot=slot.number))])


async def _rewrite(run: Run, phase: str, layout: Layout, wanted: Sequence[Wanted]) -> None:
    values = SealedValues(run.site, layout)
    await run.go_through(phase, [(scan, Tagging(values, columns)) for scan, columns in scans_of(wanted)])


async def fill_together(run: Run, names: Iterable[str]) -> None:
    """Give every value the tags of all slots of these identities that are building: each row is written once, not for each slot.

    What is left for ``bring`` is to look whether that is so.
    """
    layout = await run.site.registry.layout()
    wanted: list[Wanted] = []
    for name in names:
        identity = identity_of(layout, name)
        building = [slot for slot in waiting(identity, None) if slot.state == "building"]
        if building:
            tables = await read_tables(run.conn, run.site, layout, identity)
            wanted += [(tables, partial(Tagged.lacking, slot=slot.number)) for slot in building]
    if wanted:
        await run.lock_tables({part.name for tables, _ in wanted for part in tables.parts})
        await run.acknowledged()  # from here on every proxy fills them
        await _rewrite(run, FILLING_ALL, layout, wanted)


async def _guard(run: Run, layout: Layout, tables: Tables, slot: Slot) -> None:
    """Let no value without the slot's tag in any more: the guard of every column counts the slot, and holds of every row."""
    slots = tuple(replace(s, state="ready") if s.number == slot.number else s for s in tables.slots)
    for (schema, table, name), tagged in tables.columns.items():
        (part,) = [p for p in tables.families[schema, table, name] if p.name == (schema, table)]
        column = tagged.with_slots(slots)
        if await _is_inherited(run.conn, part, name) or await _has_guard(run.conn, part, guard_name(name), guard(column)):
            continue
        beside, own = quote_ident(_next_guard(name)), quote_ident(guard_name(name))
        if not await _has_guard(run.conn, part, _next_guard(name), guard(column)):
            text = f"ALTER TABLE {part.label} DROP CONSTRAINT IF EXISTS {beside}, ADD CONSTRAINT {beside} {guard(column)} NOT VALID"
            await _short(run, part, text)
        # What was written in statements that were under way when the slot was made.
        await fill(run, FOLLOWING.format(slot.number, column.label), layout, tables, slot)
        await _short(run, part, f"ALTER TABLE {part.label} VALIDATE CONSTRAINT {beside}")
        swap = [f"ALTER TABLE {part.label} DROP CONSTRAINT IF EXISTS {own}"]
        swap += [f"ALTER TABLE {part.label} RENAME CONSTRAINT {beside} TO {own}"]
        swap += await _comments(run.conn, tables.families[schema, table, name], guard_name(name))
        await _short(run, part, "; ".join(swap))


async def _comments(conn: Connection, parts: Sequence[Part], name: str) -> list[str]:
    """Return what gives a constraint the comments that one of its name has: they say in which order clients see the columns."""
    query = (
        "SELECT pg_catalog.obj_description(oid, 'pg_constraint') FROM pg_catalog.pg_constraint"
        " WHERE conrelid = %s::oid AND conname = %s AND contype = 'c'"
    )
    there = [(part, text) for part in parts for (text,) in await rows_of(conn, query, part.oid, name) if text is not None]
    return [
        f"COMMENT ON CONSTRAINT {quote_ident(name)} ON {part.label} IS '{text.replace(chr(39), chr(39) * 2)}'"
        for part, text in there
    ]


async def _is_inherited(conn: Connection, part: Part, column: str) -> bool:
    """Tell whether a relation has a column, and its guard with it, from a parent."""
    query = "SELECT attinhcount > 0 FROM pg_catalog.pg_attribute WHERE attrelid = %s::oid AND attname = %s"
    return await rows_of(conn, query, part.oid, column) == [(True,)]


def _next_guard(name: str) -> str:
    return shorten(f"phi_next_guard_{name}", hashlib.sha256(name.encode()).hexdigest()[:8])


async def _has_guard(conn: Connection, part: Part, name: str, text: str) -> bool:
    """Tell whether a relation has this constraint, validated or not."""
    query = (
        "SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint"
        " WHERE conrelid = %s::oid AND conname = %s AND contype = 'c'"
    )
    rows = await rows_of(conn, query, part.oid, name)
    return bool(rows) and same_sql(rows[0][0].removesuffix(" NOT VALID"), text)


async def _indexes(run: Run, tables: Tables, slot: Slot, active: Slot | None) -> None:
    """Build the server's indexes by a slot: beside those by the active one, or the first."""
    for name, parts in tables.families.items():
        for column in tables.columns[name].searched:
            if active is not None and active.number != slot.number:
                await build_next(run, parts, column, active.number, slot.number)
            else:
                await build_first(run, parts, column, slot.number, tag(column, _shaped(tables, slot)))


async def clear(run: Run, names: Sequence[str]) -> None:
    """Put zeros in place of the tags of dropped slots that values still have: their index key may be known to somebody."""
    layout = await run.site.registry.layout()
    wanted: list[Wanted] = []
    phase = CLEARING_ALL
    for name in names:
        identity = identity_of(layout, name)
        dropped = [s.number for s in identity.slots if s.state == "dropped"]
        if dropped:
            tables = await read_tables(run.conn, run.site, layout, identity)
            wanted.append((tables, partial(Tagged.tagged_in, slots=dropped)))
            phase = CLEARING.format(", ".join(map(str, dropped)), name) if len(names) == 1 else phase
    if wanted:
        await run.lock_tables({part.name for tables, _ in wanted for part in tables.parts})
        await run.acknowledged()
        await _rewrite(run, phase, layout, wanted)
        written = -1
        while written != run.progress.counts.get("written", 0):
            written = run.progress.counts.get("written", 0)
            await run.older_ended()
            await _rewrite(run, phase, layout, wanted)  # what they have copied with such tags


async def abort(run: Run) -> None:
    """Give a slot up that nothing is searched by yet; one that is searched by goes on to its end, which ``resume`` brings."""
    layout = await run.site.registry.layout()
    name = run.job.options["identity"]
    for slot in waiting(identity_of(layout, name), run.job.options.get("expression")):
        if slot.state == "active":
            raise ConfigError(f"slot {slot.number} of {name} is searched by already", hint=f"phiproxy jobs resume {run.job.id}")
        tables = await read_tables(run.conn, run.site, layout, identity_of(layout, name))
        await run.lock_tables({part.name for part in tables.parts})
        await refuse_unless_owner(run.conn, tables.parts)
        for column_name, parts in tables.families.items():
            for column in tables.columns[column_name].searched:
                await drop_unfinished(run, parts, column, slot.number)
            (part,) = [p for p in parts if p.name == column_name[:2]]
            beside = quote_ident(_next_guard(column_name[2]))
            await _short(run, part, f"ALTER TABLE {part.label} DROP CONSTRAINT IF EXISTS {beside}")
        await set_slot_states(run.site.registry, identity_of(layout, name), [(slot, "dropped")])
        await run.acknowledged()
        await drop_tag_columns(run, tables.own_families, slot.number)


async def _short(run: Run, part: Part, text: str) -> None:
    what, *_ = text.split(" CHECK ")
    await with_short_lock(run.conn, part.owner, what, partial(_execute, text.encode()), told=run.display.waits)


async def _execute(text: bytes, conn: Connection) -> None:
    await conn.execute(text)
