"""A keyring with fixed keys for the clinic model, and what it answers with."""

from __future__ import annotations

from collections.abc import Callable

from phiproxy.crypto.keyring import DataKey, Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.plan.whether_split import Refusal, Splitting
from phiproxy.policy.protection import Protection
from tests.clinic_model import PROTECTION

FAR = 1e9


def index_key(number: int) -> bytes:
    """Return the key of every slot of an identity."""
    return bytes([number + 50]) * 32


def full_ring(uses: int = 1000, protection: Protection = PROTECTION, clock: Callable[[], float] = lambda: 0.0) -> Keyring:
    """Return a ring that holds a lease and every index key of the clinic's columns."""
    ring = Keyring(clock)
    for table in protection.tables:
        for column in table.columns.values():
            key = DataKey(column.number + 100, column.scope, "", column.number, bytes([column.number]) * 32, "active")
            ring.put_data_key(key, FAR)
            if ring.balance(column.scope) == (0, 0):
                ring.put_lease(column.scope, key, uses, FAR)
            for each in (column, *(column.document.fields if column.document is not None else ())):
                for slot in each.slots:
                    ring.put_index_key(each.number, slot.number, index_key(each.number), column.number, FAR)
    return ring


def full_ciphers() -> Ciphers:
    """Return ciphers over such a ring."""
    return Ciphers(full_ring())


class _Unasked(Splitting):
    def found(self, refusal: Refusal, *_: object, **__: object) -> Exception:
        return refusal


def unasked(planner: Planner) -> Planner:
    """Have a planner not ask whether an engine would answer: that takes most of a refusal's time, and changes its hint only."""
    planner.splitting.__class__ = _Unasked
    return planner
