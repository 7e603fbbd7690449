"""Choices by number: the same for one seed in every run and version of Python; what was chosen can be chosen again, or simpler."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A sequence of choices, each below a bound; from a seed, or again from ``choices``, with 0, the simplest, after their end."""

    def __init__(self, seed: str = "", choices: Sequence[int] | None = None) -> None:
        self.taken: list[int] = []
        self._choices = choices
        # Of random.Random only random() of a seeded generator is promised to stay the same between versions.
        self._random = random.Random(seed).random if choices is None else None

    def below(self, bound: int) -> int:
        """Return a number from 0 to ``bound`` - 1."""
        if self._random is not None:
            taken = int(self._random() * bound)
        else:
            position = len(self.taken)
            taken = min(self._choices[position], bound - 1) if self._choices and position < len(self._choices) else 0
        self.taken.append(taken)
        return taken

    def of(self, items: Sequence[T]) -> T:
        """Return one of them; one that is listed twice is drawn twice as often."""
        return items[self.below(len(items))]

    def once_in(self, times: int) -> bool:
        """Return True once in so many times."""
        return self.below(times) == times - 1
