"""The expected replies, in the order of the messages sent: whose reply is this, and what does an error skip?

Manual 55.2.3: on an error the server discards messages up to the next Sync; a simple Query is its own Sync. Flush has no reply.
Changes to the names of statements and portals are made when the client speaks, since the next message may use them, and undone
here when the server says that the message failed or was skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Any

from phiproxy.errors import PhiproxyError, WireError
from phiproxy.plan.ciphers import Ciphers
from phiproxy.plan.copy import CopyOut
from phiproxy.plan.statement import Columns, ScriptPart, StatementPlan
from phiproxy.types.styles import Styles
from phiproxy.wire.encodings import Encoding
from phiproxy.wire.fields import RowsFunction


class Kind(Enum):
    """What was sent."""

    PARSE = auto()
    BIND = auto()
    DESCRIBE = auto()
    EXECUTE = auto()
    CLOSE = auto()
    SYNC = auto()
    QUERY = auto()
    FUNCTION_CALL = auto()
    COPY_END = auto()
    INTERNAL = auto()


class Later(Exception):
    """A message of the client cannot be judged yet: it is taken again when the server, or the client, has said more."""


class Whole(Exception):
    """A message that has begun cannot pass as it comes: it is held until it is whole."""


@dataclass(slots=True)
class Undo:
    """One change of a map of names, to be taken back.

    ``part`` is the statement of a simple Query that makes it; ``lost`` says that the previous is gone even when the message fails.
    """

    names: MutableMapping[bytes, Any]
    key: bytes
    previous: Any
    part: int = 0
    lost: bool = False

    def apply(self) -> None:
        """Take the change back."""
        if self.previous is None:
            self.names.pop(self.key, None)
        else:
            self.names[self.key] = self.previous


class Step(Enum):
    """What follows from a reply that goes on as it came, or, protected, as the plan shows it."""

    SHOW = auto()
    STAY = auto()
    POP = auto()
    NEXT_PART = auto()
    READY = auto()


# A member costs eight times as much by way of its class.
SHOW, STAY, POP, NEXT_PART = Step.SHOW, Step.STAY, Step.POP, Step.NEXT_PART
_SYNC, _COPY_END = Kind.SYNC, Kind.COPY_END

Edits = tuple[tuple[int, int, int], ...]
"""Start and end in the client's text, and the length of what the server gets instead."""
Passes = Mapping[int, Step]
"""The replies to one message that need no handler, by their tags."""

PARSE_PASSES: Passes = {ord("1"): Step.POP}
BIND_PASSES: Passes = {ord("2"): Step.POP}
CLOSE_PASSES: Passes = {ord("3"): Step.POP}
DESCRIBE_PASSES: Passes = {ord("t"): Step.STAY, ord("T"): Step.POP, ord("n"): Step.POP}
SHOW_PASSES: Passes = {ord("T"): Step.SHOW}
END_PASSES: Passes = {ord("C"): Step.POP, ord("I"): Step.POP, ord("s"): Step.POP}
EXECUTE_PASSES: Passes = {ord("D"): Step.STAY, **END_PASSES}
OPEN_PASSES: Passes = {ord("D"): Step.SHOW, **END_PASSES}
READY_PASSES: Passes = {ord("Z"): Step.READY}
QUERY_PASSES: Passes = {
    ord("T"): Step.STAY, ord("D"): Step.STAY, ord("C"): Step.NEXT_PART, ord("I"): Step.NEXT_PART, **READY_PASSES,
}  # fmt: skip


@dataclass
class Expected:
    """One message whose replies are awaited. ``substitute`` holds the SQLSTATE that stands for ``refusal`` when it comes.

    ``passes`` (None: no reply) holds for as long as there is no refusal. ``whole``: this is a Bind, and as many entries behind it
    were queued with it, the last of them a Sync; or a Query of one statement whose result is shown. ``made``: the rows of a table
    made from a query. ``said``: why the client ended its COPY. ``closes``: so many Closes are the end of a query of the proxy's
    own, in a group of the client's. One object may stand for many messages, where nothing of it changes. Without slots, so that the
    defaults are the class's and ``expect`` need not set them.
    """

    kind: Kind
    refusal: PhiproxyError | None = None
    substitute: str = ""
    undo: Sequence[Undo] = ()
    plan: StatementPlan | None = None
    columns: Columns | None = None
    formats: tuple[int, ...] | None = None
    styles: Styles = Styles.CANONICAL
    binary: bool = False
    opener: RowsFunction | None = None
    ciphers: Ciphers | None = None
    encoding: Encoding | None = None
    parts: tuple[ScriptPart, ...] | None = None
    part: int = 0
    texts: tuple[bytes, bytes, Edits | Callable[[], Edits]] | None = None
    alone: bool = False
    group: int = 0
    touches: bool = False
    done: Callable[[bool, list[bytes]], None] | None = None
    rows: list[bytes] | None = None
    failed: bool = False
    copy_out: CopyOut | None = None
    where: str | None = None
    made: int | None = None
    said: bytes | None = None
    closes: int = 0
    passes: Passes | None = None
    whole: int = 0


def expect(kind: Kind, passes: Passes | None, group: int = 0) -> Expected:
    """Return ``Expected(kind, passes=…, group=…)`` in a fifth of the time, for the hot path."""
    made = Expected.__new__(Expected)
    made.kind, made.passes, made.group = kind, passes, group
    return made


def expect_ready(group: int) -> Expected:
    """Return what a Sync awaits, as ``expect`` does."""
    made = Expected.__new__(Expected)
    made.kind, made.passes, made.group = _SYNC, READY_PASSES, group
    return made


EXTENDED = frozenset({Kind.PARSE, Kind.BIND, Kind.DESCRIBE, Kind.EXECUTE, Kind.CLOSE})


class Pipeline:
    """The queue. ``skipping``: the server discards until Sync, so nothing sent now is expected to be answered.

    ``ignored`` counts the Syncs that a copy-in should have eaten: if it fails before it reads them, they are answered after all.
    """

    __slots__ = ("copy_in", "ignored", "queue", "skipping")

    def __init__(self) -> None:
        self.queue: deque[Expected] = deque()
        self.skipping = False
        self.copy_in = False
        self.ignored = 0

    def front(self) -> Expected | None:
        """Return the message whose reply comes next, or None."""
        while self.queue and self.queue[0].kind is _COPY_END:
            self.queue.popleft()
        return self.queue[0] if self.queue else None

    def push(self, expected: Expected) -> None:
        """Expect the replies of one more message."""
        self.queue.append(expected)

    def pop(self, *kinds: Kind) -> Expected | None:
        """Remove and return the front when it is one of these kinds; None when it is not."""
        front = self.front()
        if front is None or front.kind not in kinds:
            return None
        self.queue.popleft()
        self.front()
        return front

    def error(self) -> Expected | None:
        """Apply an ErrorResponse to the queue and return the message it answers (None: it answers none).

        Skipped messages leave the queue and their names are undone. The failed one's are too, except that a Parse of the unnamed
        statement, or a Query, has dropped the old unnamed one before failing (postgres.c), and that what the statements of a Query
        before the failing one did to names stays: PREPARE and DEALLOCATE are not transactional.
        """
        front = self.front()
        self.copy_in = False
        if front is None:
            return None
        for undo in front.undo:
            if undo.lost:
                undo.previous = None
        if front.closes:
            front.failed = self.skipping = True
            del self.queue[0]
            return front
        if front.kind not in EXTENDED:
            front.failed = True
            self._take_back([undo for undo in front.undo if undo.part >= front.part], behind=1)
            return front
        skipped: list[Expected] = []
        while self.queue and self.queue[0].kind is not Kind.SYNC:
            skipped.append(self.queue.popleft())
        # A Sync that was sent ends this skipping; what was sent behind it may have been refused and skips on its own account.
        self.skipping = self.skipping or not self.queue
        self._take_back([undo for entry in skipped for undo in entry.undo], behind=0)
        return front

    def _take_back(self, undone: list[Undo], *, behind: int) -> None:
        """Undo changes, the last first. One that was overtaken by a message behind it becomes what that one would restore."""
        if not undone:
            return
        overtaking: dict[tuple[int, bytes], Undo] = {}
        for entry in islice(self.queue, behind, None):
            for change in entry.undo:
                overtaking.setdefault((id(change.names), change.key), change)
        for undo in reversed(undone):
            overtaken_by = overtaking.get((id(undo.names), undo.key))
            if overtaken_by is None:
                undo.apply()
            else:
                overtaken_by.previous = undo.previous

    def copy_in_began(self) -> None:
        """Apply CopyInResponse: the server ignores Sync until the copy ends, so those already sent will not be answered.

        What else was sent behind it ends the connection, if the COPY has not failed by then: the server says so. Raises WireError
        when nothing that copies was sent.
        """
        front = self.front()
        if front is None or front.kind not in (Kind.EXECUTE, Kind.QUERY):
            raise WireError("the server expects COPY data that nobody offered")
        del self.queue[0]
        self.ignored = 0
        while self.queue and self.queue[0].kind is Kind.SYNC:
            del self.queue[0]
            self.ignored += 1
        following = self.queue[0].kind if self.queue else None
        self.queue.appendleft(front)
        if following is Kind.COPY_END:
            del self.queue[1]
        elif following is None:
            self.copy_in = True

    def late_sync(self, group: int) -> Expected | None:
        """Return a Sync that a failed copy-in left to be answered, or None."""
        if not self.ignored:
            return None
        self.ignored -= 1
        self.skipping = False
        return Expected(Kind.SYNC, group=group)

    def only_closes_before_sync(self) -> bool:
        """Tell whether nothing but Close stands between the front and a Sync that was sent."""
        for i, entry in enumerate(self.queue):
            if i and entry.kind is Kind.SYNC:
                return True
            if i and entry.kind is not Kind.CLOSE:
                return False
        return False

    def may_copy(self) -> bool:
        """Tell whether COPY data may be for the server: it asked for some, or the last thing that can ask was not refused."""
        if self.copy_in:
            return True
        if not self.skipping:
            for entry in reversed(self.queue):
                if entry.refusal is not None or entry.kind in (Kind.EXECUTE, Kind.QUERY):
                    return entry.refusal is None
        return False
