"""The rewrites of a statement, each one edit of text and tree alike; noted in any order, carried out in that of their ``Step``s."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import IntEnum
from operator import attrgetter
from typing import Protocol, TypeVar, cast

from phiproxy.sql.result import Edit, Occurrence
from phiproxy.sql.rewrite.draft import Draft, Insert, TextEdit, merged
from phiproxy.sql.text.parse import Node
from phiproxy.sql.values.uses import Use


class Step(IntEnum):
    """When a rewrite is carried out: behind those of the steps before, in whose place it may put something around theirs."""

    NAMES = 0  # schemas of relations
    CASTS = 1
    REFERENCES = 2  # columns that have another name
    TAGS = 3  # columns that become their tags
    EXPRESSIONS = 4  # what the rules of expressions, target lists and column lists do
    GROUPS = 5  # columns that become any value of their group
    NULLIF = 6
    QUERIES = 7  # what is put around queries, and what takes the place of items of GROUP BY and DISTINCT
    SUBQUERIES = 8  # queries around subquery expressions: outside of all that begins or ends where they do
    VALUES = 9  # parameters and constants that become something else
    MORE_VALUES = 10  # values where the client has none
    WHOLE = 11  # what is put around trees whose parts are what they will be
    COMMENTS = 12  # blanks, where nothing else was replaced


class Rewrite(Protocol):
    """One change of a statement."""

    @property
    def step(self) -> Step:
        """When it is carried out."""

    def apply(self, draft: Draft) -> Iterable[TextEdit]:
        """Edit the tree, and return the same edits of the text."""


R = TypeVar("R", bound=Rewrite)


class Rewrites:
    """The rewrites of one statement. Of one kind a node has one: the first counts."""

    __slots__ = ("_all", "_dropped", "_of_nodes")

    def __init__(self) -> None:
        self._all: list[Rewrite] = []
        self._of_nodes: dict[tuple[type, int], Rewrite] = {}
        self._dropped: dict[tuple[type, int], Rewrite] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def __iter__(self) -> Iterator[Rewrite]:
        return iter(sorted(self._all, key=attrgetter("step")))

    def add(self, rewrite: Rewrite, node: Node | None = None) -> None:
        """Note a rewrite; ``node`` is what it replaces, where others ask whether it does."""
        if node is not None:
            key = type(rewrite), id(node)
            if key in self._of_nodes:
                return
            self._of_nodes[key] = rewrite
        self._all.append(rewrite)

    def of(self, kind: type[R], node: Node) -> R | None:
        """Return the rewrite of this kind that replaces a node, if there is one."""
        return cast("R | None", self._of_nodes.get((kind, id(node))))

    def any_of(self, kinds: Iterable[type[Rewrite]], node: Node) -> bool:
        """Tell whether a rewrite of one of these kinds replaces a node."""
        return not self._of_nodes.keys().isdisjoint([(kind, id(node)) for kind in kinds])

    def every(self, kind: type[R]) -> Iterator[R]:
        """Yield all rewrites of a kind."""
        return (rewrite for rewrite in self._all if isinstance(rewrite, kind))

    def drop(self, kind: type[R], node: Node) -> R | None:
        """Take back the rewrite of this kind that replaces a node, and return it, if there is one."""
        rewrite = self._of_nodes.pop((kind, id(node)), None)
        if rewrite is not None:
            self._all.remove(rewrite)
            self._dropped[kind, id(node)] = rewrite
        return cast("R | None", rewrite)

    def dropped(self, kind: type[R], node: Node) -> R | None:
        """Return the rewrite of this kind that was taken back of a node last, if one was."""
        return cast("R | None", self._dropped.get((kind, id(node))))


def carry_out(rewrites: Rewrites, draft: Draft) -> tuple[list[Edit], list[Occurrence]]:
    """Return the edits and occurrences of the text, both in its order; the draft's tree is edited likewise.

    Of edits of one span the last counts, of occurrences of one use at one place the first: a node may be in a tree twice (the
    source of a multiple assignment).
    """
    edits: dict[tuple[int, int], Edit] = {}
    occurrences: dict[tuple[int, Use], Occurrence] = {}
    inserts: list[Insert] = []
    blanks: list[Edit] = []
    for rewrite in rewrites:
        for change in rewrite.apply(draft):
            if isinstance(change, Occurrence):
                occurrences.setdefault((change.start, change.use), change)
            elif isinstance(change, Insert):
                inserts.append(change)
            elif rewrite.step == Step.COMMENTS:
                blanks.append(change)
            else:
                edits[change.start, change.end] = change
    for offset, text in merged(inserts).items():
        there = edits.get((offset, offset))
        edits[offset, offset] = Edit(offset, offset, text + (there.text if there is not None else b""))
    values = sorted(occurrences.values(), key=attrgetter("start", "end", "order"))
    replaced = [*edits.values(), *outside(blanks, edits.values(), values)]
    return sorted(replaced, key=attrgetter("start", "end")), values


def outside(blanks: Sequence[Edit], edits: Collection[Edit], occurrences: Collection[Occurrence]) -> Iterator[Edit]:
    """Yield those blanks that are not in the text that an edit or an occurrence replaces."""
    if not blanks:
        return
    spans = sorted([(e.start, e.end) for e in edits] + [(o.start, o.end) for o in occurrences])
    starts = [start for start, _ in spans]
    for blank in blanks:
        i = bisect_right(starts, blank.start) - 1
        if i < 0 or spans[i][1] <= blank.start:
            yield blank
