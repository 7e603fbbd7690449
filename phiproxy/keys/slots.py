"""The next generation of an index key: a slot of its own beside the old one (crypto.md section 6, rotation by slot)."""

from __future__ import annotations

from psycopg import sql

from phiproxy.crypto.envelope import MAX_SLOTS
from phiproxy.errors import ConfigError
from phiproxy.keys.changes import announce
from phiproxy.keys.provider import KeyProvider
from phiproxy.keys.registry import Registry, record_event
from phiproxy.keys.rows import RootRow
from phiproxy.keys.schema import table
from phiproxy.keys.tables import Connection
from phiproxy.keys.tenants import new_root_key
from phiproxy.policy.layout import RegisteredIdentity
from phiproxy.policy.protection import Slot

MAX_GENERATION = 255


async def next_slot(registry: Registry, provider: KeyProvider, deployment: str, identity: str, expression: str) -> Slot:
    """Register the slot of an expression's next generation, in state ``building``, and the index root that it is under.

    A slot that is building or ready already is returned as it is. Writers fill the new slot from their next statement on; every use
    goes on with the old one until all values were re-encrypted. Raises ConfigError when there is no active slot of this expression,
    or no number left; ProviderError when the index root cannot be made.
    """
    found = await _identity(registry, identity)
    waiting = _slot(found, expression, "building") or _slot(found, expression, "ready")
    if waiting is not None:
        return waiting
    active = _slot(found, expression, "active")
    if active is None:
        raise ConfigError(f"{identity} has no active index {expression} to rotate")
    if active.generation >= MAX_GENERATION or len(found.slots) >= MAX_SLOTS:
        raise ConfigError(f"{identity} has no generation or slot left for another index key")
    new = Slot(max(s.number for s in found.slots) + 1, expression, active.generation + 1, "building", active.normaliser)
    await _ensure_index_root(registry, provider, deployment, found.scope, new.generation)
    async with registry.changing() as change:
        query = sql.SQL(
            "INSERT INTO {slots} (number, slot, expression, normaliser, family, generation, state)"
            " VALUES (%s, %s, %s, %s, %s, %s, 'building') ON CONFLICT DO NOTHING"
        ).format(slots=table(registry.schema, "slot"))
        fields = (expression, str(active.normaliser), active.family or None, str(new.generation))
        values = (found.number, new.number, *fields)
        if (await change.conn.execute(query, values)).rowcount == 1:
            change.added("slot", found.number, new.number, fields=(*fields, "building"))
            await _told(change.conn, change.schema, found, new)
    now = await _identity(registry, identity)
    waiting = _slot(now, expression, "building")
    if waiting is None:
        raise ConfigError(f"the slots of {identity} were changed by somebody else at this moment; look again")
    return waiting


async def _told(conn: Connection, schema: str, identity: RegisteredIdentity, slot: Slot) -> None:
    subject = f"{slot.expression} of {identity.identity} in slot {slot.number}, generation {slot.generation}"
    await record_event(conn, schema, "slot made", subject, (None, slot.state))
    await announce(conn, schema)


async def _identity(registry: Registry, identity: str) -> RegisteredIdentity:
    layout = await registry.layout()
    found = next((i for i in layout.identities.values() if i.identity == identity), None)
    if found is None:
        raise ConfigError(f"the registry knows no identity {identity}")
    return found


def _slot(identity: RegisteredIdentity, expression: str, state: str) -> Slot | None:
    return next((s for s in identity.slots if s.expression == expression and s.state == state), None)


async def _ensure_index_root(registry: Registry, provider: KeyProvider, deployment: str, scope: str, generation: int) -> None:
    """Make the index root of a generation unless it is there. It is pending: new columns go on with the active one."""
    if await registry.root_at(scope, "", "index", generation) is not None:
        return
    row = RootRow(0, scope, "", "index", generation, "pending", ())
    new = await new_root_key(provider, row, deployment)
    await registry.add_root(row, provider.uri, new.wrapped)
