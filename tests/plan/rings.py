"""A keyring with fixed keys for the clinic model, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable

from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.plan.ciphers import Ciphers
from phiproxy.policy.protection import Protection
from tests.clinic_model import PROTECTION

FAR = 1e9


def full_ring(uses: int = 1000, protection: Protection = PROTECTION, clock: Callable[[], float] = lambda: 0.0) -> Keyring:
    """Return a ring that holds a lease and every index key of the clinic's columns."""
    ring = Keyring(clock)
    for table in protection.tables:
        for column in table.columns.values():
            key = DataKey(column.number + 100, column.scope, "", column.number, bytes([column.number]) * 32, "active")
            ring.put_data_key(key, FAR)
            if ring.balance(column.scope) == (0, 0):
                ring.put_lease(column.scope, key, uses, FAR)
            for slot in column.slots:
                ring.put_index_key(column.number, slot.number, bytes([column.number + 50]) * 32, column.number, FAR)
    return ring


def full_ciphers() -> Ciphers:
    """Return ciphers over such a ring."""
    return Ciphers(full_ring())
