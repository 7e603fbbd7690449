"""The next generation of an index key: a slot of its own beside the old one, and what becomes of both (spec/stored-format 6.5)."""

from collections.abc import Sequence
from dataclasses import replace

from psycopg import sql

from phiproxy.crypto.envelope import MAX_SLOTS
from phiproxy.errors import ConfigError
from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.key_rows import RootRow
from phiproxy.keys.key_state_changes import announce
from phiproxy.keys.new_tenants import new_root_key
from phiproxy.keys.provider import KeyProvider, Purpose
from phiproxy.keys.registry import Registry, record_event
from phiproxy.keys.registry_schema import table
from phiproxy.policy.protection import Slot, SlotState
from phiproxy.policy.registry_layout import RegisteredIdentity

MAX_GENERATION = 255


async def next_slot(registry: Registry, provider: KeyProvider, deployment: str, identity: str, expression: str) -> Slot:
    """Register the slot of an expression's next generation, in state ``building``, and the index root that it is under.

    A slot that is building or ready already is returned as it is. Writers fill the new slot from their next statement on; every use
    goes on with the old one until all values were re-encrypted. Raises ConfigError when there is no active slot of this expression,
    or no number left; ProviderError when the index root cannot be made.
    """
    registered = await _identity(registry, identity)
    new, is_there = following_slot(registered, expression)
    if is_there:
        return new
    await ensure_index_root(registry, provider, deployment, (registered.scope, ""), new.generation)
    async with registry.changing() as change:
        query = sql.SQL(
            "INSERT INTO {slots} (number, slot, expression, normaliser, family, generation, state)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'building') ON CONFLICT DO NOTHING"
        ).format(slots=table(registry.schema, "slot"))
        fields = (expression, str(new.normaliser), new.family or None, str(new.generation))
        values = (registered.number, new.number, *fields)
        if (await change.conn.execute(query, values)).rowcount == 1:
            change.added("slot", registered.number, new.number, fields=(*fields, "building"))
            await _told(change.conn, change.schema, registered, new)
    now = await _identity(registry, identity)
    waiting = _slot(now, expression, "building")
    if waiting is None:
        raise ConfigError(f"the slots of {identity} were changed by somebody else at this moment; look again")
    return waiting


def following_slot(registered: RegisteredIdentity, expression: str) -> tuple[Slot, bool]:
    """Return the slot of an expression's next generation as it would be made, or is there already; and whether it is there.

    ConfigError when there is no active slot of this expression, or no number left.
    """
    identity = registered.identity
    active = _slot(registered, expression, "active")
    if active is None:
        raise ConfigError(
            f"{identity} has no active index {expression} to rotate", hint="one that answers nothing yet: phiproxy reindex"
        )
    waiting = next_generation(registered.slots, active)
    if waiting is not None:
        return waiting, True
    if leaving := leaving_slots(registered.slots, active):
        raise ConfigError(
            f"{identity}: slot {leaving[0].number} of index {expression} is yet to be dropped", hint="phiproxy reindex ends it"
        )
    if active.generation >= MAX_GENERATION or len(registered.slots) >= MAX_SLOTS:
        raise ConfigError(f"{identity} has no generation or slot left for another index key")
    number = max(s.number for s in registered.slots) + 1
    return replace(active, number=number, generation=active.generation + 1, state="building"), False


def next_generation(slots: Sequence[Slot], active: Slot) -> Slot | None:
    """Return the slot that is to follow the active one of its expression: building, or ready."""
    same = [s for s in slots if s.expression == active.expression and s.state in ("building", "ready")]
    return next((s for s in same if s.generation > active.generation), None)


def leaving_slots(slots: Sequence[Slot], active: Slot) -> list[Slot]:
    """Return the slots that the active one of their expression has followed: still filled, and yet to be dropped."""
    same = [s for s in slots if s.expression == active.expression and s.state == "ready"]
    return [s for s in same if s.generation < active.generation]


async def set_slot_states(registry: Registry, identity: RegisteredIdentity, changes: Sequence[tuple[Slot, SlotState]]) -> None:
    """Give slots other states, in this order and in one transaction; ConfigError where one is not in its state any more."""
    async with registry.changing() as change:
        for slot, state in changes:
            await change.before("slot", identity.number, slot.number)
            query = sql.SQL("UPDATE {} SET state = %s WHERE number = %s AND slot = %s AND state = %s")
            values = (state, identity.number, slot.number, slot.state)
            if (await change.conn.execute(query.format(table(change.schema, "slot")), values)).rowcount != 1:
                raise ConfigError(f"the slots of {identity.identity} were changed by somebody else at this moment; look again")
            change.became("slot", identity.number, slot.number, fields=(..., ..., ..., ..., state))
            subject = f"{slot.expression} of {identity.identity} in slot {slot.number}"
            await record_event(change.conn, change.schema, f"slot {state}", subject, (slot.state, state))
        await announce(change.conn, change.schema)


async def _told(conn: Connection, schema: str, identity: RegisteredIdentity, slot: Slot) -> None:
    subject = f"{slot.expression} of {identity.identity} in slot {slot.number}, generation {slot.generation}"
    await record_event(conn, schema, "slot made", subject, (None, slot.state))
    await announce(conn, schema)


async def _identity(registry: Registry, identity: str) -> RegisteredIdentity:
    layout = await registry.layout()
    registered = next((i for i in layout.identities.values() if i.identity == identity), None)
    if registered is None:
        raise ConfigError(f"the registry knows no identity {identity}")
    return registered


def _slot(identity: RegisteredIdentity, expression: str, state: str) -> Slot | None:
    return next((s for s in identity.slots if s.expression == expression and s.state == state), None)


async def ensure_index_root(
    registry: Registry, provider: KeyProvider, deployment: str, scope: tuple[str, str], generation: int
) -> RootRow:
    """Return the index root of (scope, tenant) of a generation, made unless it is there: it is pending."""
    root_scope: tuple[str, str, Purpose] = (*scope, "index")
    existing = await registry.root_at(*root_scope, generation)
    if existing is None:
        row = RootRow(0, *root_scope, generation, "pending", ())
        new = await new_root_key(provider, row, deployment)
        await registry.add_root(row, provider.uri, new.wrapped)
        existing = await registry.root_at(*root_scope, generation)
    assert existing is not None  # ours, or that of who was first
    return existing
