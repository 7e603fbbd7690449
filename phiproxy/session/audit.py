"""Values opened under a key that is compromised, or stale: counted per execution of a statement, told when that is over.

The database counts what its ciphers open. Nothing here awaits, so what is counted between two calls belongs to one session.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from phiproxy.session.pipeline import Expected


class Doubt(NamedTuple):
    """What is told of an opened value: never the value."""

    column: str
    data_key: int
    why: str


@dataclass(slots=True)
class DoubtfulReads:
    """What the result that comes now has shown of such values: whose reply it is, and which of a simple query's."""

    front: Expected
    part: int
    opened: Counter[Doubt] = field(default_factory=Counter)

    def is_of(self, front: Expected) -> bool:
        """Tell whether this is the execution that the reply belongs to."""
        return self.front is front and self.part == front.part
