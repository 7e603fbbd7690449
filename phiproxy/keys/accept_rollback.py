"""``keys accept-rollback``: go on with a registry that is older than it was seen, once somebody says why that is so."""

import time

from phiproxy.errors import NotAuthentic
from phiproxy.keys.anchoring import verify
from phiproxy.keys.authenticated_tables import Connection
from phiproxy.keys.key_state_changes import announce
from phiproxy.keys.registry import record_event
from phiproxy.keys.registry_checked_on_read import CHANGING, Trust, read_counter, write_manifests


async def accept_rollback(conn: Connection, trust: Trust, reason: str) -> tuple[int, int]:
    """Raise the counter above whatever a proxy can have seen, leave an event with the reason; returns the counter before and after.

    The new counter is the time in microseconds, which no registry reaches by its changes: proxies on other hosts have seen counters
    that nobody here knows. Raises NotAuthentic, naming each row, when the registry that is there does not verify as it is.
    """
    faults = [fault for fault in await verify(trust, conn) if fault.kind != "rollback"]
    if faults:
        raise NotAuthentic("\n".join(f"the key registry is not authentic: {fault.what} {fault.why}" for fault in faults))
    async with conn.transaction():
        await conn.execute(CHANGING)
        before = await read_counter(conn, trust.schema, trust.key, lock=True)
        value = max(before.value, trust.watermark.counter, time.time_ns() // 1000) + 1
        await record_event(conn, trust.schema, "rollback accepted", reason, (str(before.value), str(value)))
        await announce(conn, trust.schema)
        await write_manifests(conn, trust.schema, trust.key, before, [], value)
    return before.value, value
