"""Plans that are kept, by text and whatever else they depend on: bounded, the one that was used longest ago gives way."""

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

# psycopg's lesson: generated IN lists and bulk inserts make texts that never come again, and must not drive out the others.
SHORT = 16 * 1024
# About 4 KiB a plan: 8 MiB at most. An application has hundreds of distinct statements, an ad-hoc client unbounded ones.
MAX_PLANS = 2048
# Some do come again: SQLAlchemy's inserts of 1 000 rows are one text. A plan takes about forty times its text: 40 MiB at most.
MAX_LONG = 512 * 1024
MAX_LONG_IN_ALL = 1024 * 1024

P = TypeVar("P")


class PlanCache(Generic[P]):
    """Plans by key; the first part of each key is the text. Long texts are kept apart from short ones. For several threads."""

    def __init__(self) -> None:
        self._short: OrderedDict[tuple[bytes, *tuple[object, ...]], P] = OrderedDict()
        self._long: OrderedDict[tuple[bytes, *tuple[object, ...]], P] = OrderedDict()
        self._long_size = 0
        self._adding = Lock()

    def get(self, key: tuple[bytes, *tuple[object, ...]]) -> P | None:
        """Return the plan of a key, or None."""
        plans = self._short if len(key[0]) <= SHORT else self._long
        if len(key[0]) > MAX_LONG:
            return None  # even the hash of a giant takes milliseconds
        plan = plans.get(key)
        if plan is not None:
            try:  # noqa: SIM105 - it is the hot path
                plans.move_to_end(key)
            except KeyError:
                pass  # another thread has just let it go
        return plan

    def add(self, key: tuple[bytes, *tuple[object, ...]], plan: P) -> None:
        """Keep a plan; giants are not kept."""
        with self._adding:
            self._add(key, plan, len(key[0]))

    def _add(self, key: tuple[bytes, *tuple[object, ...]], plan: P, size: int) -> None:
        if size <= SHORT:
            self._short[key] = plan
            if len(self._short) > MAX_PLANS:
                self._short.popitem(last=False)
        elif size <= MAX_LONG:
            self._long_size += size if key not in self._long else 0
            self._long[key] = plan
            while self._long_size > MAX_LONG_IN_ALL:
                oldest, _ = self._long.popitem(last=False)
                self._long_size -= len(oldest[0])
