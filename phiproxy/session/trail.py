"""What a session tells the audit log: what its executions did, and what was refused.

A record is durable before what it speaks of is shown. So each gives a number, a *ticket*, and ``State.unrecorded`` says which
ticket must be durable before what the session leaves for the client may be written. Whoever writes waits for that. A ticket is 0
where the record, with all before it, is durable already.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from phiproxy.errors import PhiproxyError
from phiproxy.plan.counted_subjects import Whom
from phiproxy.plan.statement_record import Shape, Touched
from phiproxy.session.state_parts import EndUser, Opening

PURPOSE = "phiproxy.purpose"
"""The setting that says what for a session reads; empty: nobody has said so."""


class NotRecorded(PhiproxyError, sqlstate="57P03", anchor="err-audit"):
    """Nothing takes the audit log's records, and what is not recorded is not shown (57P03)."""


def not_recorded() -> NotRecorded:
    """Return what is said where a statement cannot be recorded."""
    return NotRecorded(
        "the audit log cannot be written, and nothing protected is shown or stored unrecorded",
        hint="Try again later; the proxy's own log says why it cannot be written.",
    )


def rows_of(tag: bytes) -> int | None:
    """Return how many rows a command tag says; None where it says none."""
    word = tag.rpartition(b" ")[2]
    return int(word) if word.isdigit() else None


class Phase(Enum):
    """What a record is of: a whole execution, or the first or last half of one whose rows come bit by bit."""

    WHOLE = "whole"
    BEGINS = "begins"
    ENDS = "ends"


class Execution(NamedTuple):
    """One execution of a statement that touches something protected.

    ``opened`` says how many values of which column were opened under which key, ``outcome`` is its SQLSTATE, ``rows`` what the
    server says of their number, ``number`` what its two halves have in common (0: there are none), ``role`` the current one,
    ``user`` the end user behind it, and ``reason`` why they see more than the role does. ``split`` says how many rows were opened
    to compute with, ``about`` whom the rows are about.
    """

    touched: Touched
    opened: Mapping[Opening, int]
    outcome: str | None
    rows: int | None
    phase: Phase = Phase.WHOLE
    number: int = 0
    role: str | None = None
    user: EndUser | None = None
    split: int = 0
    about: tuple[Whom, ...] = ()
    reason: str | None = None


class Trail(Protocol):
    """The audit log as one session sees it."""

    @property
    def subjects(self) -> int:
        """How many subjects of one execution are recorded one by one."""

    @property
    def failing(self) -> bool:
        """Tell whether what is protected must be refused now, since nothing takes records."""

    def next_number(self) -> int:
        """Return a number for an execution whose record comes in two halves."""

    def executed(self, execution: Execution) -> int:
        """Record an execution, or a half of it; returns its ticket."""

    def shown(
        self,
        touched: Touched,
        opened: tuple[Opening, ...],
        tag: bytes,
        role: str | None,
        user: EndUser | None,
        about: tuple[Whom, ...] = (),
    ) -> int:
        """Record a whole execution that went well, as ``executed`` does; ``opened`` one by one, ``tag`` is its command tag."""

    def when_durable(self, ticket: int, told: Callable[[int, bool], None]) -> None:
        """Have it told when a ticket's record is durable (True), or that it will not be (False): now where it is known."""

    def refused(
        self, shape: Shape, error: PhiproxyError, role: str | None, user: EndUser | None, denied: tuple[str, ...] = ()
    ) -> int:
        """Record that a statement was refused; returns the ticket. ``denied`` are the columns that its role may not see."""

    def alerted(self, reason: str, seconds: int, role: str | None, user: EndUser | None) -> int:
        """Record that masks are lifted for a reason and so many seconds; returns its ticket."""

    def logged_in(self, outcome: str) -> None:
        """Record how the login of this session ended: a SQLSTATE."""

    def told(self, name: str, value: str) -> None:
        """Take note of a setting of which the server has told: application_name, session_authorization or ``PURPOSE``."""
