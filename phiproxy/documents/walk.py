"""The walk through a document along the paths of its fields: each field that is there becomes something else, the rest stays.

What stands on the way to a field is what its path says, an object or an array: a policy that lists ``$.name.family`` says nothing
of ``{"name": "Smith"}``, which would pass in clear, so such a document is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from phiproxy.documents.field_paths import ELEMENTS, Path, Step, spell_path
from phiproxy.documents.field_values import kind_of
from phiproxy.errors import SealError, ValueRefused
from phiproxy.types.json_types import Value

Change = Callable[[int, Value], Value]
"""Takes the number of a field and the value that stands there, never null; returns what shall stand there."""
ChangeOther = Callable[[Path, Value], Value]
"""Takes the path of a scalar that no path lists, and the scalar."""


@dataclass(slots=True)
class Listed:
    """What is listed at one path, or further down: the number of a field, or that all below is in clear."""

    below: dict[Step, Listed] = field(default_factory=dict)
    number: int | None = None
    clear: bool = False
    fields: bool = False
    """Whether a field is further down."""

    def at(self, path: Iterable[Step]) -> Listed | None:
        """Return what is listed at a path from here, or None."""
        node: Listed | None = self
        for step in path:
            node = node.below.get(step) if node is not None else None
        return node


def listed(fields: Iterable[Path], clear: Iterable[Path] = ()) -> Listed:
    """Return the tree of paths; the fields have the numbers of their order."""
    root = Listed()
    for number, path in enumerate(fields):
        node = _reached(root, path, fields=True)
        node.number = number
    for path in clear:
        _reached(root, path, fields=False).clear = True
    return root


def _reached(root: Listed, path: Path, *, fields: bool) -> Listed:
    node = root
    for step in path:
        node.fields |= fields
        node = node.below.setdefault(step, Listed())
    return node


@dataclass(frozen=True, slots=True)
class Walk:
    """One direction: ``change`` is done to each field, ``others`` (None: nothing) to each scalar that is neither listed nor clear.

    ``complain`` makes the error where the document is not as the paths say.
    """

    change: Change
    others: ChangeOther | None
    complain: Callable[[str], Exception]

    def through(self, value: Value, node: Listed | None, path: Path = ()) -> Value:
        """Return what a value at a path becomes; raises what the changes raise, and what ``complain`` makes.

        Parts of it that do not change are the same objects in both.

        ``{"ssn": "1", "city": "X"}`` with the field ``$.ssn`` → ``{"ssn": change(0, "1"), "city": "X"}``
        """
        if value is None:
            return None
        if node is not None and node.number is not None:
            return self.change(node.number, value)
        if node is not None and node.clear:
            return value
        if node is not None and node.fields:
            self._check(value, node, path)
        below: Mapping[Step, Listed] = node.below if node is not None else {}
        if isinstance(value, dict):
            return self._members(value, below, path)
        if isinstance(value, list):
            if self.others is None and not below:
                return value
            elements = [self.through(item, below.get(ELEMENTS), (*path, ELEMENTS)) for item in value]
            return elements if any(new is not item for new, item in zip(elements, value, strict=True)) else value
        return value if self.others is None else self.others(path, value)

    def _members(self, value: dict[str, Value], below: Mapping[Step, Listed], path: Path) -> Value:
        """Return what an object becomes; of one of which only what is listed changes, other keys are not looked at."""
        changed: dict[str, Value] = {}
        for key in value if self.others is not None else [key for key in below if key in value]:
            assert key is not None
            item = self.through(value[key], below.get(key), (*path, key))
            if item is not value[key]:
                changed[key] = item
        if not changed:
            return value
        members = value.copy()  # which copies its table as it is; ``{**value}`` may look up each key
        members.update(changed)
        return members

    def _check(self, value: Value, node: Listed, path: Path) -> None:
        wanted = "array" if ELEMENTS in node.below else "object"
        kind = kind_of(value)
        if kind != wanted:
            raise self.complain(f"{spell_path(path)} is {_A[kind]}, and a field is listed in {_A[wanted]} there")


_A = {
    "array": "an array",
    "boolean": "a boolean",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


AS_LISTED: Final = "The policy says what stands at which path of the document."


def refused_document(text: str) -> ValueRefused:
    """Return the error for a document that is to be stored and is not as the policy says (22P02)."""
    return ValueRefused(text, hint=AS_LISTED)


def stored_otherwise(text: str) -> SealError:
    """Return the error for a stored document that is not as the policy says (XX001)."""
    return SealError(f"a stored document is not as the policy says: {text}")
