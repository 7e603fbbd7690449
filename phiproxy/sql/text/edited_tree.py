"""A statement's tree as the server will see it, over the client's, which stays as it was parsed.

What is edited is known by its identity: the client's own nodes, lists and messages are looked up in a table of what stands in their
place. So a change costs as much as the part it changes, and what the client wrote is there to be read again.
"""

from typing import Any, TypeVar

from phiproxy.sql.text.parse import LOCATIONS, PARTS, Node, let_go

Part = TypeVar("Part", Node, list[Any])


class EditedTree:
    """The tree of one statement, whose ``root`` is ``{"SelectStmt": {…}}``, with other parts in place of some.

    ``WHERE ssn = 'x'``, edited by ``replace(<'x'>, <$1>)``, is ``WHERE ssn = $1`` to ``now``, ``copy`` and ``same``.
    """

    __slots__ = ("_instead", "_own", "_replaced", "root")

    def __init__(self, root: Node) -> None:
        self.root = root
        self._instead: dict[int, Any] = {}
        self._replaced: list[Any] = []  # they stay alive, for an id is unique among what is alive only
        self._own: set[int] = set()

    def now(self, part: Part) -> Part:
        """Return what stands in the place of a part: itself, where it was not edited. What is in it may have been."""
        while (other := self._instead.get(id(part))) is not None:
            part = other
        return part

    def replace(self, part: Part, other: Part) -> None:
        """Put another part in the place of one; the one itself may not be in the other, but ``dict(now(part))`` may.

        Names are replaced as lists only: those of one part are compared as they are.
        """
        assert "String" not in part
        assert isinstance(part, list) or not isinstance(part.get("sval"), str)
        self._replaced.append(part)
        self._instead[id(part)] = other

    def edit(self, part: Part) -> Part:
        """Return a shallow copy that stands in the place of a part from now on, to be changed: the same one each time."""
        current = self.now(part)
        if id(current) in self._own:
            return current
        copy = current.copy()
        self._replaced.append(copy)
        self._own.add(id(copy))
        self.replace(current, copy)
        return copy

    def copy(self, part: Part) -> Part:
        """Return a deep copy of a part as it is now; a type or parameter that is known as a declared one stays one."""
        copied: Part = self._copied(part)
        return copied

    def _copied(self, part: Any) -> Any:
        current = self.now(part)
        if type(current) is dict:
            return {key: self._copied(value) for key, value in current.items()}
        if type(current) is list:
            return [self._copied(value) for value in current]
        return current

    def same(self, other: Node) -> bool:
        """Tell whether another tree, which was not edited, is this one, but for where things stand in the text."""
        return _same(self.root, other, self._instead)

    def let_go(self) -> None:
        """Empty a large tree that nobody looks at any longer, piece by piece, as ``parse.let_go`` does.

        What stands in the place of its parts may stand elsewhere too, and is not emptied.
        """
        let_go(self.root)
        while self._replaced:
            self._replaced.pop()
        while self._instead:
            self._instead.popitem()


def _same(mine: Any, other: Any, instead: dict[int, Any]) -> bool:  # noqa: C901 - one call for each part
    """Tell whether a part of another tree, with parts of its own, is this one, or what stands ``instead`` of that by its id."""
    while (now := instead.get(id(mine))) is not None:
        mine = now
    if other.__class__ is list:
        if not isinstance(mine, list) or len(mine) != len(other):
            return False
        if len(other) == 1 and "String" in other[0]:
            return bool(mine == other)
        for one, value in zip(mine, other, strict=True):  # a loop: a call by C would need the stack for each level
            if not (_same(one, value, instead) if isinstance(value, PARTS) else one == value):
                return False
        return True
    if not isinstance(mine, dict):
        return False
    more = len(mine)  # fields of this tree that the other does not have
    for key, value in other.items():
        if value.__class__ is dict or value.__class__ is list:
            if not _same(mine.get(key), value, instead):
                return False
        elif key in LOCATIONS:
            more += 1
        elif mine.get(key) != value:
            return False
        more -= 1
    return not more or (more == 1 and "location" in mine) or more == sum(map(mine.__contains__, LOCATIONS))
