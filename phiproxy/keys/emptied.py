"""Slots that were registered over stored values become active once no value lacks their tag, as in a table that was emptied.

Called by ``lifecycle.init`` inside its transaction and under its lock.
"""

from __future__ import annotations

from psycopg import sql

from phiproxy.keys.identities import BYTEA_OID, Name, Registered, column_types
from phiproxy.keys.registry import Connection, read_layout, record_event
from phiproxy.keys.schema import table
from phiproxy.keys.trust import Change
from phiproxy.policy.guards import lacks_tag
from phiproxy.policy.protection import Slot


async def activate_slots(change: Change, registered: Registered) -> list[tuple[str, str]]:
    """Make every wanted slot active that waits for values to be rewritten, of which there are none, and return what was done.

    A slot beside an active one of the same expression, the next generation of an index key, stays as it is: searches, unique
    indexes and foreign keys go by the other one.
    """
    done: list[tuple[str, str]] = []
    conn, schema = change.conn, change.schema
    layout = await read_layout(conn, schema)
    for number, want in registered.wanted.items():
        identity = layout.identities[number]
        answered = {s.expression for s in identity.slots if s.state == "active"}
        waiting = [s for s in identity.slots if s.state in ("building", "ready") and s.expression in want.expressions]
        names = [name for name, of in layout.columns.items() if of == number]
        for slot in [s for s in waiting if s.expression not in answered]:
            if await _is_lacking(conn, names, slot):
                continue
            query = sql.SQL("UPDATE {} SET state = 'active' WHERE number = %s AND slot = %s AND state = %s")
            await change.before("slot", number, slot.number)
            await conn.execute(query.format(table(schema, "slot")), (number, slot.number, slot.state))
            change.became("slot", number, slot.number, fields=(..., ..., ..., ..., "active"))
            subject = f"{slot.expression} of {identity.identity} in slot {slot.number}"
            await record_event(conn, schema, "slot active", subject, (slot.state, "active"))
            done.append(("slot active", subject))
    return done


async def _is_lacking(conn: Connection, names: list[Name], slot: Slot) -> bool:
    """Say whether a value of these columns may have no tag in a slot, and keep writers out until the end of the transaction."""
    # RLS must not hide rows from this question: with row_security off the query fails instead.
    await conn.execute("SET LOCAL row_security TO off")
    for place in sorted({name[:2] for name in await column_types(conn, names)}):
        await conn.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(sql.Identifier(*place)))
    for name, oid in (await column_types(conn, names)).items():
        # Rows in plaintext are yet to be sealed, whatever is in them.
        lacks = sql.SQL(lacks_tag(name[2], slot.number) if oid == BYTEA_OID else "true")
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} AND ({} IS NOT NULL OR {}))").format(
            sql.Identifier(*name[:2]), lacks, sql.Identifier(name[2]), sql.Literal(oid != BYTEA_OID)
        )
        row = await (await conn.execute(query)).fetchone()
        if row is None or row[0] is not False:
            return True
    return False
