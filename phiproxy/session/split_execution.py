"""A split statement that is executed now, from its Execute until the engine has said all, or it has failed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from phiproxy.errors import PhiproxyError
from phiproxy.plan.split_plan import SplitPlan
from phiproxy.plan.statement_record import Touched
from phiproxy.session.needs import Enter, Results
from phiproxy.session.split_explain import Explained, Plan
from phiproxy.session.statements_and_portals import Portal


@dataclass(slots=True)
class Computing:
    """``computation`` is whatever stands for its session of the engine, ``results`` what is asked for at the end."""

    plan: SplitPlan
    portal: Portal
    computation: object
    results: Results
    # How a session of the engine is asked for, where that waits for the rows.
    enter: Enter | None = None
    # The settings of the session that the engine is still to be told of.
    settings: Mapping[str, str] | None = None
    # Opened rows of the source that the engine was not given yet.
    rows: list[bytes] = field(default_factory=list)
    # The server has given all rows.
    complete: bool = False
    # The engine is at work on rows or results.
    asked: bool = False
    # Why nothing of it will be shown: the rest of the server's rows is dropped.
    failed: PhiproxyError | None = None
    # The engine's description of the result was looked at; the end of what it has said last.
    described: bool = False
    last: bytes = b""
    # Of a split write what the engine has said, which its write is made of, of EXPLAIN the plans; and how many rows the client
    # wants to be shown.
    kept: list[bytes] = field(default_factory=list)
    limit: int = 0
    # Of EXPLAIN ANALYZE the plans of the parts before.
    plans: list[Plan] = field(default_factory=list)
    # Of a source that writes: its CommandComplete, which the client is shown.
    tag: bytes = b""
    # When who asked for the rows ceases to see what he saw then: a reason or token ends.
    until: float = math.inf

    @property
    def one_plan(self) -> bool:
        """Tell whether it is an EXPLAIN whose plans are shown as one when all are there."""
        split = self.plan.split
        return (split.explained_as != "text" or split.analyzed is not None) and not self.results.suspended


@dataclass(slots=True)
class Counted:
    """A write of which it is known how many rows it writes, unless another session has inserted one that was not seen.

    ``locked`` tells which rows were seen; ``again`` are the messages that have the split statement executed again, none where that
    is not possible.
    """

    expected: int
    locked: tuple[bytes | None, ...]
    again: tuple[bytes, ...]


@dataclass(slots=True)
class Writing:
    """The write of a split statement, whose messages stand before the client's: so many of them are ``left``.

    ``computed`` are the numbers of its parameters whose values were computed, ``text`` is the client's statement, ``touched`` what
    a record says of that. ``kept`` are those that only the engine may be given, ``shown`` what a simple Query is told of the
    columns that are computed with them.
    """

    left: int
    computed: frozenset[int]
    was_silent: bool
    text: bytes
    touched: Touched
    counted: Counted | None = None
    kept: frozenset[int] = frozenset()
    shown: bytes = b""
    # The one before, which has written nothing, so that all is done once more.
    before: Counted | None = None
    # It is explained.
    explained: Explained | None = None
    # Of COPY FROM: the values of its last columns.
    copied: tuple[bytes | None, ...] = ()
    # Where the write is split as well: of its own write, that one; and where positions of its text are in the client's.
    outer: "Writing | None" = None
    # Until when it may be executed (``Computing``).
    until: float = math.inf
    placing: Callable[[int], int | None] | None = None
