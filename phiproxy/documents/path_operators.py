"""Paths into JSON documents: the operators ``->``, ``->>``, ``#>``, ``#>>`` and subscripts as one value object.

PostgreSQL has three kinds of steps, and they are not interchangeable:

- ``-> 'a'`` takes the member of an object, and of an array nothing;
- ``-> 0`` takes the element of an array, and of an object nothing. Over ``jsonb`` a scalar counts as an array of itself;
- a text of ``#> '{a,0}'`` or of a subscript takes either, whichever is there: of an array only where the text is an integer.

So a text that is no integer is the same as a key, and ``doc -> 'a' -> 'b'`` is ``doc #> '{a,b}'``; ``doc -> 'a' -> 0`` is not
``doc #> '{a,0}'``, which also finds the member ``"0"`` of an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from phiproxy.types.json_types import Value

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", re.ASCII)
# INT_MIN is what PostgreSQL itself marks "no index" with.
_INDEXES = range(-(2**31) + 1, 2**31)


class Absent(Enum):
    """That there is nothing at a path, which is SQL NULL; JSON's null is a value (None)."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Key:
    """The member of an object: ``-> 'name'``."""

    name: str


@dataclass(frozen=True, slots=True)
class Position:
    """The element of an array, from 0; a negative one counts from the end: ``-> 0``."""

    number: int


@dataclass(frozen=True, slots=True)
class KeyOrPosition:
    """The member of an object by a name that is an integer, or the element of an array by that: ``#> '{0}'``."""

    name: str

    @property
    def number(self) -> int:
        """The integer."""
        match = _INTEGER.fullmatch(self.name)
        assert match is not None
        return int(match[1])


Step = Key | Position | KeyOrPosition


def text_step(text: str) -> Key | KeyOrPosition:
    """Return the step that one text of ``#>`` is, or a subscript."""
    match = _INTEGER.fullmatch(text)
    return KeyOrPosition(text) if match is not None and int(match[1]) in _INDEXES else Key(text)


@dataclass(frozen=True, slots=True)
class Path:
    """A path of constant steps, from the outside in. Without steps it is the whole document.

    ``Path.of_texts(["name", "family"])`` is that of ``#> '{name,family}'``, and equal to that of ``-> 'name' -> 'family'``.
    """

    steps: tuple[Step, ...] = ()

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Path:
        """Return the path of ``#>``, ``jsonb_extract_path`` or subscripts with these texts."""
        return cls(tuple(map(text_step, texts)))

    def then(self, *steps: Step) -> Path:
        """Return the path that goes on with more steps."""
        return Path((*self.steps, *steps))

    @property
    def keys(self) -> tuple[str, ...] | None:
        """The names of all steps where each is a key; None for a path that may go through an array."""
        names = tuple(step.name for step in self.steps if isinstance(step, Key))
        return names if len(names) == len(self.steps) else None

    def find(self, document: Value) -> Value | Literal[Absent.ABSENT]:
        """Return what is there in a ``jsonb`` that ``types.json_types.parse`` has read; ABSENT where there is nothing."""
        value: Value | Literal[Absent.ABSENT] = document
        for step in self.steps:
            if value is ABSENT:
                return ABSENT
            value = _step(value, step)
        return value


def _step(value: Value, step: Step) -> Value | Literal[Absent.ABSENT]:
    if isinstance(value, dict):
        return ABSENT if isinstance(step, Position) else value.get(step.name, ABSENT)
    if isinstance(step, Key):
        return ABSENT
    elements = value if isinstance(value, list) else [value] if isinstance(step, Position) else []
    number = step.number
    return elements[number] if -len(elements) <= number < len(elements) else ABSENT
