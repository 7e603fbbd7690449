"""Executions are recorded once, with the same numbers whichever way their replies go, and what is refused is too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest

from phiproxy.crypto.keyring import DataKey
from phiproxy.errors import PhiproxyError
from phiproxy.net.held_until_recorded import Unrecorded
from phiproxy.net.leg import Leg
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.plan.statement_record import Shape, Touched
from phiproxy.session import audited_executions
from phiproxy.session.state_parts import EndUser, Opening
from phiproxy.session.trail import Execution, NotRecorded, Phase, rows_of
from tests.clinic_model import CATALOG, PROTECTION
from tests.session import frames as f
from tests.session.screenplay import MRN, RING, SECRET, SSN, FakeDatabase, Screenplay, envelope

SELECT = "SELECT ssn, mrn FROM public.patients WHERE ssn = $1"
ROW = f.data_row(envelope(SSN, SECRET), envelope(MRN, b"A1"))
DESCRIBED = f.row_description(f.column("ssn", 17, table=100, attnum=2), f.column("mrn", 17, table=100, attnum=4))


@dataclass
class FakeTrail:
    """Keeps what it is told."""

    failing: bool = False
    told: list[tuple[Any, ...]] = field(default_factory=list)
    numbers: int = 0
    waiting: list[tuple[int, Callable[[int, bool], None]]] = field(default_factory=list)

    def when_durable(self, ticket: int, told: Callable[[int, bool], None]) -> None:
        self.waiting.append((ticket, told))

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers

    def executed(self, execution: Execution) -> int:
        opened = Counter[str]()
        for opening, count in execution.opened.items():
            opened[opening.column] += count
        self.told.append((execution.phase, dict(opened), execution.outcome, execution.rows))
        return len(self.told)

    def shown(self, touched: Touched, opened: tuple[Opening, ...], tag: bytes, role: str | None, user: EndUser | None) -> int:
        return self.executed(Execution(touched, Counter(opened), "00000", rows_of(tag), role=role, user=user))

    def refused(
        self, shape: Shape, error: PhiproxyError, role: str | None, user: EndUser | None, denied: tuple[str, ...] = ()
    ) -> int:
        self.told.append(("refused", shape.text, error.sqlstate))
        return len(self.told)


@pytest.fixture
def play() -> Screenplay:
    database, made = FakeDatabase(), dict[tuple[str, int], Opening]()

    def noticed(column: str, key: DataKey | None, *, masked: bool) -> Callable[[], None]:
        number = key.id if key is not None else 0
        return partial(database.opened.append, made.setdefault((column, number), Opening(column, number, masked=masked)))

    database.planner = Planner(PROTECTION, CATALOG, Ciphers(RING, noticed))
    play = Screenplay(database=database)
    play.session.trail = cast("Any", FakeTrail())
    play.session.from_client(f.parse(SELECT, "s") + f.SYNC)
    play.session.from_server(f.PARSE_COMPLETE + f.ready())
    return play


def told(play: Screenplay) -> list[tuple[Any, ...]]:
    return cast("FakeTrail", play.session.trail).told


GROUP = f.bind(SECRET, statement="s", results=(1,)) + f.describe() + f.execute() + f.SYNC
REPLIES = [f.BIND_COMPLETE, DESCRIBED, ROW, ROW, f.command_complete("SELECT 2"), f.ready()]
OPENED = {"public.patients.ssn": 2, "public.patients.mrn": 2}


def test_of_a_result_that_comes_bit_by_bit_no_row_is_written_before_its_first_half_is_durable(play: Screenplay) -> None:
    written: list[bytes] = []
    held = Unrecorded(play.session, cast("Leg", None), written.extend, lambda: None)
    waiting = cast("FakeTrail", play.session.trail).waiting
    play.session.to_client.clear()
    play.session.from_client(GROUP)
    play.session.from_server(b"".join(REPLIES[:3]))
    held.keep()
    assert (told(play), play.session.to_client, written) == ([(Phase.BEGINS, {}, None, None)], [], [])
    ((ticket, durable),) = waiting
    durable(ticket, True)
    shown = b"".join(written)
    assert SECRET in shown
    play.session.from_server(b"".join(REPLIES[3:]))
    held.keep()
    assert told(play)[1:] == [(Phase.ENDS, OPENED, "00000", 2)]
    assert b"".join(written) == shown, "nor the last row before the second half is"
    durable(waiting[1][0], True)
    assert b"".join(written).count(SECRET) == 2


def test_in_one_piece(play: Screenplay) -> None:
    play.session.from_client(GROUP)
    play.session.from_server(b"".join(REPLIES))
    assert told(play) == [(Phase.WHOLE, OPENED, "00000", 2)]
    assert play.session.unrecorded == 1


@pytest.mark.parametrize("size", [1, 7, 100])
def test_bit_by_bit(play: Screenplay, size: int) -> None:
    play.session.from_client(GROUP)
    data = b"".join(REPLIES)
    for at in range(0, len(data), size):
        play.session.from_server(data[at : at + size])
    assert told(play) == [(Phase.WHOLE, OPENED, "00000", 2)]


def test_the_first_half_is_recorded_before_something_is_shown(play: Screenplay) -> None:
    play.session.from_client(GROUP)
    play.session.from_server(b"".join(REPLIES[:3]))
    audited_executions.begins(play.session)
    audited_executions.begins(play.session)
    play.session.from_server(b"".join(REPLIES[3:]))
    assert told(play) == [(Phase.BEGINS, {}, None, None), (Phase.ENDS, OPENED, "00000", 2)]


def test_what_fails_in_between_has_its_sqlstate(play: Screenplay) -> None:
    play.session.from_client(GROUP)
    play.session.from_server(b"".join(REPLIES[:3]) + f.error("22012") + f.ready())
    assert told(play) == [(Phase.WHOLE, {"public.patients.ssn": 1, "public.patients.mrn": 1}, "22012", None)]


def test_a_conversation_that_is_cut_off_says_so(play: Screenplay) -> None:
    play.session.from_client(GROUP)
    play.session.from_server(b"".join(REPLIES[:3]))
    audited_executions.cut_off(play.session)
    audited_executions.cut_off(play.session)
    assert told(play) == [(Phase.WHOLE, {"public.patients.ssn": 1, "public.patients.mrn": 1}, "08006", None)]


def test_a_refusal_is_recorded_without_its_constants(play: Screenplay) -> None:
    play.session.from_client(f.query("SELECT max(ssn) FROM public.patients WHERE ssn > '078-05-1120'"))
    assert told(play) == [("refused", "SELECT max(ssn) FROM public.patients WHERE ssn > ?", "0A000")]
    assert play.session.unrecorded == 1, "the client is told when that is durable"


def test_nothing_protected_runs_while_nothing_takes_records(play: Screenplay) -> None:
    cast("FakeTrail", play.session.trail).failing = True
    with pytest.raises(NotRecorded):
        audited_executions.check_recordable(play.session)
    play.session.to_server.clear()
    play.session.from_client(GROUP)
    assert SECRET not in b"".join(play.session.to_server)
    assert told(play)[0][0] == "refused"
    assert told(play)[0][2] == "57P03"
    assert not play.session.unrecorded, "that nothing is recorded is told all the same"
