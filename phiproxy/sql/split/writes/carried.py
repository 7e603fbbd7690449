"""Values for unprotected columns that an UPDATE takes from what the write does not have: they are given to it."""

from __future__ import annotations

from collections.abc import Sequence

from phiproxy.policy.column_types import by_oid
from phiproxy.sql.context import Analysis
from phiproxy.sql.split.impossible import Impossible
from phiproxy.sql.split.writes.assigned_values import Given, Written, reads_ctes, reads_others
from phiproxy.sql.split.writes.drawn import is_drawn


def carried(a: Analysis, write: Written) -> list[Given]:
    """Return the values for unprotected columns that are to be given to an UPDATE; Impossible where one cannot be.

    UPDATE patients p SET notes = p.notes || v.city, city = v.city FROM patients v
    → write: UPDATE patients p SET notes = phi_write.phi_3, city = phi_write.phi_4 FROM …
    """
    others = write.clauses.others is not None
    computed = [given.node for given in write.values if given.computed]
    draws = is_drawn(computed)
    taken = [
        given
        for given in write.values
        if not given.computed and (_is_taken(write, given, computed, others=others) or (draws and is_drawn(given.node)))
    ]
    if any(given.protected or by_oid(write.target.type(a.context.catalog, given.column).oid) is None for given in taken):
        raise Impossible("a value that is not carried")
    return taken


def _is_taken(write: Written, given: Given, computed: Sequence[object], *, others: bool) -> bool:
    of_computed = given.picks[1] > 0 and any(given.node is node for node in computed)
    return of_computed or reads_ctes(write, (given.node,)) or (others and reads_others(write.target, (given.node,)))
