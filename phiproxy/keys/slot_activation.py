"""Slots that were registered over stored values become active once no value lacks their tag, as in a table that was emptied.

Called by ``lifecycle.init`` inside its transaction and under its lock.
"""

from psycopg import sql

from phiproxy.keys.identities import Name, Registered, locked_columns
from phiproxy.keys.layout_rows import read_layout
from phiproxy.keys.registry import Connection, record_event
from phiproxy.keys.registry_checked_on_read import Change
from phiproxy.keys.registry_schema import table
from phiproxy.policy.physical_columns import lacks_tag
from phiproxy.policy.physical_documents import lacks_leaf_tag
from phiproxy.policy.protection import Slot
from phiproxy.policy.registry_layout import column_of, field_path
from phiproxy.wire.oids import BYTEA_OID


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
    for name, oid in (await locked_columns(conn, names)).items():
        # Rows in plaintext are yet to be sealed, whatever is in them.
        lacks = sql.SQL(lacks_tag(name[2], slot.number) if oid == BYTEA_OID else "true")
        if path := field_path(name):
            lacks = sql.SQL(lacks_leaf_tag(column_of(name)[2], path, slot.number))
        query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} AND ({} IS NOT NULL OR {}))").format(
            sql.Identifier(*name[:2]), lacks, sql.Identifier(column_of(name)[2]), sql.Literal(oid != BYTEA_OID)
        )
        row = await (await conn.execute(query)).fetchone()
        if row is None or row[0] is not False:
            return True
    return False
