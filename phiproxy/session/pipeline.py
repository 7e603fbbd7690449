"""The expected replies, in the order of the messages sent: whose reply is this, and what does an error skip?

Manual 55.2.3: on an error the server discards messages up to the next Sync; a simple Query is its own Sync. Flush has no reply.
Changes to the names of statements and portals are made when the client speaks, since the next message may use them, and undone
here when the server says that the message failed or was skipped.
"""

from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from typing import Any

from phiproxy.errors import PhiproxyError, WireError
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.copy_sealing import CopyOut
from phiproxy.plan.result_columns import Columns
from phiproxy.plan.statement_plan import ScriptPart, StatementPlan
from phiproxy.plan.statement_record import Touched
from phiproxy.plan.subjects_of_execution import Noted
from phiproxy.session.split_explain import Explained
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
_COPY_END = Kind.COPY_END

Edits = Sequence[tuple[int, int, int]]
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
# Where the audit log records how it ends, its end is looked at.
RECORDED_PASSES: Passes = {ord("D"): Step.STAY}
RECORDED_OPEN_PASSES: Passes = {ord("D"): Step.SHOW}
READY_PASSES: Passes = {ord("Z"): Step.READY}
QUERY_PASSES: Passes = {
    ord("T"): Step.STAY, ord("D"): Step.STAY, ord("C"): Step.NEXT_PART, ord("I"): Step.NEXT_PART, **READY_PASSES,
}  # fmt: skip


Placing = Callable[[int], int | None]
"""Which position of the client's text, in characters from 1, one of another text is; None for one that the client did not write."""


@dataclass
class Expected:
    """One message whose replies are awaited. One object may stand for many messages, where nothing of it changes.

    Without slots, so that the defaults are the class's and ``expect`` need not set them.
    """

    kind: Kind
    # Why the message was refused; an error with the SQLSTATE ``substitute``, which a message in its place raises, stands for it.
    refusal: PhiproxyError | None = None
    substitute: str = ""
    # How to take back what the message has done to names, should it fail or be skipped.
    undo: Sequence[Undo] = ()
    # The plan of the statement described or executed; its result: the columns, the formats that the client asked for (None: they do
    # not matter), how values are spelled, and whether protected columns come in binary.
    plan: StatementPlan | None = None
    columns: Columns | None = None
    formats: tuple[int, ...] | None = None
    styles: Styles = Styles.CANONICAL
    binary: bool = False
    # What opens its rows, and the ciphers and the encoding that it was made for.
    opener: RowsFunction | None = None
    ciphers: Ciphers | None = None
    encoding: Encoding | None = None
    # The statements of a simple Query (None: nothing protected can be in any), and the number of the one whose reply comes now.
    parts: tuple[ScriptPart, ...] | None = None
    part: int = 0
    # The server's text, the client's, and the edits between them: for positions in errors.
    texts: tuple[bytes, bytes, Edits | Callable[[], Edits]] | None = None
    # No other Execute was sent before it in its Sync group.
    first: bool = False
    # The Sync group that ends with it.
    group: int = 0
    # It touches something protected, so that errors may speak of envelopes.
    touches: bool = False
    # Whom the client has said it to be about, by the number of the statement in a simple Query (else 0).
    given: Mapping[int, Sequence[Noted]] | None = None
    # Of a query of the proxy's own: who is told whether it went well, the rows so far, and how many CloseCompletes are its end
    # where it stands in a group of the client's.
    done: Callable[[bool, list[bytes]], None] | None = None
    rows: list[bytes] | None = None
    failed: bool = False
    closes: int = 0
    # Of a COPY: what opens its rows, the CONTEXT of its refusal, and why the client has ended it.
    copy_out: CopyOut | None = None
    where: str | None = None
    said: bytes | None = None
    # Whether it is the proxy's own message in a group of the client's, of whose success the client is not told.
    hidden: bool = False
    # The number of rows of a table made from a query.
    row_count: int | None = None
    # How a split statement is described, whatever the server says of its source: RowDescription or NoData, and its parameters.
    description: bytes = b""
    parameters: Sequence[int] | None = None
    # Its rows are those of the source of a split statement.
    of_source: bool = False
    # It is the Execute of a write of which it is known how many rows it writes.
    counted: bool = False
    # It is that of a write that is explained: the plans of the parts before it, which are shown before its first row.
    explained: Explained | None = None
    # It is that of a write, or of its source: what the record says of the client's statement.
    stands_for: Touched | None = None
    # It is that of a COPY FROM of which the engine has computed the last columns.
    copied: tuple[bytes | None, ...] = ()
    # The server's positions are not the client's; ``placing`` says which of the client's one of the statement's text is.
    unplaced: bool = False
    placing: Placing | None = None
    # It is a Parse of what the client has been told the long names of, as those of the whole statement.
    names_told: bool = False
    # It stands for a part of a simple Query: that it was done is not told.
    silent: bool = False
    # The replies that need no handler, for as long as there is no refusal; None: no reply.
    passes: Passes | None = None
    # 2 or more: it is a Bind, and as many entries behind it were queued with it, the last of them a Sync. 1: it is a Query of one
    # statement whose result is shown.
    whole: int = 0


class ExpectedReady(Expected):
    """What a Sync awaits; an object of its own holds no more than its group."""

    kind = Kind.SYNC
    passes = READY_PASSES


_new = object.__new__


def expect(kind: Kind, passes: Passes | None, group: int = 0) -> Expected:
    """Return ``Expected(kind, passes=…, group=…)`` in a fifth of the time, for the fast path."""
    expected = _new(Expected)
    expected.kind, expected.passes, expected.group = kind, passes, group
    return expected


def expect_ready(group: int) -> Expected:
    """Return what a Sync awaits, as ``expect`` does."""
    expected = _new(ExpectedReady)
    expected.group = group
    return expected


def in_turn(first: Placing | None, then: Placing | None) -> Placing | None:
    """Return what places a position by one and then by the other; of what is none, by the other only."""
    if first is None or then is None:
        return first or then
    return lambda position: then(placed) if (placed := first(position)) is not None else None


EXTENDED = frozenset({Kind.PARSE, Kind.BIND, Kind.DESCRIBE, Kind.EXECUTE, Kind.CLOSE})


class Pipeline:
    """The messages whose replies are awaited, in the order in which they were sent."""

    __slots__ = ("closed_behind", "copy_in", "discarding", "ignored", "placing", "queue", "silent", "skipping")

    def __init__(self) -> None:
        self.queue: deque[Expected] = deque()
        # The server discards what is sent now, up to the next Sync: no reply is awaited.
        self.skipping = False
        # The server takes data for a COPY.
        self.copy_in = False
        # How many Syncs a COPY should have ignored: if it fails before it reads them, they are answered after all.
        self.ignored = 0
        # The rest of a result that was broken off is dropped, up to ReadyForQuery …
        self.discarding = False
        # … and then the statements are prepared again that Closes behind it have closed.
        self.closed_behind: list[Undo] = []
        # What is sent now stands for a simple Query with a split statement, or for the write of one.
        self.silent = False
        # Of the write of a split statement: which position of the client's one in its text is.
        self.placing: Placing | None = None

    def front(self) -> Expected | None:
        """Return the message whose reply comes next, or None."""
        while self.queue and self.queue[0].kind is _COPY_END:
            self.queue.popleft()
        return self.queue[0] if self.queue else None

    def push(self, expected: Expected) -> None:
        """Expect the replies of one more message."""
        if self.silent and expected.kind is not Kind.SYNC:
            expected.silent, expected.passes = True, None
            expected.unplaced = expected.unplaced or self.placing is not None
            expected.placing = in_turn(expected.placing, self.placing)
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
