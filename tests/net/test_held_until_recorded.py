"""What waits until its record is durable: in order, and gone when it is not to be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from phiproxy.net.held_until_recorded import Unrecorded
from phiproxy.net.leg import BUFFER, Leg
from tests.session.screenplay import Screenplay


@dataclass
class FakeTrail:
    """Tells when it is told to."""

    failing: bool = False
    waiting: list[tuple[int, Callable[[int, bool], None]]] = field(default_factory=list)

    def when_durable(self, ticket: int, told: Callable[[int, bool], None]) -> None:
        self.waiting.append((ticket, told))

    def settle(self, *, durable: bool = True) -> None:
        for ticket, told in self.waiting:
            told(ticket, durable)
        self.waiting.clear()


class FakeLeg:
    """Counts how often it is held."""

    held = 0

    def hold(self) -> None:
        self.held += 1

    def release(self) -> None:
        self.held -= 1


class Stage:
    """A session and what would be written for its client."""

    def __init__(self) -> None:
        self.session = Screenplay().session
        self.trail, self.leg = FakeTrail(), FakeLeg()
        self.session.trail = cast("Any", self.trail)
        self.written: list[bytes] = []
        self.failed = 0
        self.when_failed: Callable[[], None] = lambda: None
        self.unrecorded = Unrecorded(self.session, cast("Leg", self.leg), self.written.extend, self._fail)

    def _fail(self) -> None:
        self.failed += 1
        self.when_failed()

    def leaves(self, data: bytes, ticket: int = 0) -> list[bytes]:
        """Let the session leave something; returns what may be written at once."""
        self.session.to_client.append(data)
        self.session.unrecorded = ticket
        self.unrecorded.keep()
        out, self.session.to_client = self.session.to_client, []
        return out


def test_what_has_no_record_is_left_where_it_is() -> None:
    stage = Stage()
    assert stage.leaves(b"a") == [b"a"]
    assert (stage.unrecorded.waits, stage.trail.waiting) == (False, [])


def test_what_comes_behind_waits_too_and_the_order_stays() -> None:
    stage = Stage()
    assert stage.leaves(b"a", 1) == stage.leaves(b"b") == stage.leaves(b"c", 2) == []
    ticket, told = stage.trail.waiting.pop(0)
    told(ticket, True)
    assert (stage.written, stage.unrecorded.waits) == ([b"a", b"b"], True)
    stage.trail.settle()
    assert stage.written == [b"a", b"b", b"c"]
    assert stage.leaves(b"d") == [b"d"]


def test_what_comes_when_nothing_waits_but_a_record_waits_for_it() -> None:
    stage = Stage()
    stage.session.unrecorded = 1
    stage.unrecorded.keep()
    assert stage.leaves(b"rows of the engine") == []
    stage.trail.settle()
    assert stage.written == [b"rows of the engine"]


def test_what_is_not_durable_is_never_written() -> None:
    stage = Stage()
    stage.leaves(b"a", 1)
    stage.trail.settle(durable=False)
    assert (stage.written, stage.failed, stage.unrecorded.waits) == ([], 1, False)


def test_why_is_written_at_once_whatever_else_is_not_durable_yet() -> None:
    stage = Stage()
    for ticket in (1, 2):
        stage.leaves(b"a row", ticket)
    said: list[bytes] = []
    stage.when_failed = lambda: said.extend(stage.leaves(b"not recorded"))
    stage.trail.settle(durable=False)
    assert (said, stage.written, stage.failed, stage.unrecorded.waits) == ([b"not recorded"], [], 1, False)


def test_the_server_is_not_read_while_much_waits() -> None:
    stage = Stage()
    for _ in range(3):
        stage.leaves(b"x" * BUFFER, 1)
    assert stage.leg.held == 1
    stage.trail.settle()
    assert (stage.leg.held, len(stage.written)) == (0, 3)


def test_nobody_is_told_of_what_was_let_go() -> None:
    stage = Stage()
    stage.leaves(b"a", 1)
    stage.unrecorded.drop()
    stage.trail.settle()
    stage.trail.settle(durable=False)
    assert (stage.written, stage.failed) == ([], 0)
