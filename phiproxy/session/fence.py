"""Until when what a proxy knows of a database's names may be relied on.

DDL that makes a name waits for every proxy that lives. One that was stopped, or that could not reach the database, is no longer
waited for: it must look again before it says of a statement that nothing protected is in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# What names relations, or runs what was planned with the names of then.
NAMES = frozenset(b"QPB")


@dataclass(slots=True)
class Fence:
    """``until``: a moment of the clock that ``State.now`` is of. All sessions of a database share one."""

    until: float = math.inf
