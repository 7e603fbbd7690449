"""The table of phases: against the manual's list of message formats (55.7), and cell by cell in a session."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import pytest

from phiproxy.errors import StatementRefused, WireError
from phiproxy.session import client_messages
from phiproxy.session.core import Session
from phiproxy.session.phases import (
    CLIENT_EVENTS,
    CLIENT_MAY_SAY,
    ENDS_GROUP,
    OPENS_GROUP,
    TRANSITIONS,
    WHILE_COPYING_IN,
    Event,
    Peer,
    Phase,
    after,
)
from tests.session import frames as f
from tests.session.screenplay import FakeDatabase

FRONTEND = frozenset(b"BCcdDEfFHpPQSX")
"""Every typed message that the manual marks (F)."""
CELLS = sorted(product(Phase, Event), key=str)


def in_phase(phase: Phase) -> Session:
    """Return a session that came to this phase by what was said."""
    session = Session(None if phase is Phase.TRANSPARENT else FakeDatabase(), "clinic")
    if phase is Phase.CLOSED:
        session.fatal(StatementRefused("the end"))
    if phase in (Phase.LOGGED_IN, Phase.TERMINATED, Phase.TRANSPARENT):
        session.from_server(f.AUTHENTICATION_OK + f.ready())
    if phase is Phase.TERMINATED:
        session.blocked = False
        session.from_client(f.TERMINATE)
    assert session.phase is phase
    return session


def test_every_phase_has_a_row_and_every_event_happens_in_one() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert {event for row in TRANSITIONS.values() for event in row} == set(Event)


@pytest.mark.parametrize(("phase", "event"), CELLS)
def test_each_cell_of_the_table_leads_where_it_says_and_an_empty_one_raises(phase: Phase, event: Event) -> None:
    session = in_phase(phase)
    if event in TRANSITIONS[phase]:
        session.happens(event)
        assert session.phase is after(phase, event) is TRANSITIONS[phase][event]
    else:
        with pytest.raises(WireError):
            session.happens(event)
        assert session.phase is phase


def test_every_phase_can_be_reached_from_the_first_and_ends_in_the_last() -> None:
    reached = {Phase.AUTHENTICATING}
    for _ in Phase:
        reached |= {following for phase in reached for following in TRANSITIONS[phase].values()}
    assert reached == set(Phase)
    assert all(row[Event.FATAL] is Phase.CLOSED for row in TRANSITIONS.values())


def test_no_other_file_changes_the_phase() -> None:
    changing = {
        path.name
        for path in Path(client_messages.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "phase" and isinstance(node.ctx, ast.Store)
    }
    assert changing == {"state.py"}


@pytest.mark.parametrize("tag", sorted(FRONTEND - frozenset(b"pX")), ids=chr)
def test_a_message_that_comes_before_the_login_has_ended_waits_for_that(tag: int) -> None:
    session = in_phase(Phase.AUTHENTICATING)
    session.from_client(f.raw(bytes((tag,)), b""))
    assert (session.phase, session.to_server) == (Phase.AUTHENTICATING, [])
    assert session.later


@pytest.mark.parametrize("tag", sorted(frozenset(range(33, 127)) - FRONTEND | {ord("p")}), ids=chr)
def test_a_message_that_no_cell_allows_closes(tag: int) -> None:
    session = in_phase(Phase.LOGGED_IN)
    session.blocked = False
    session.from_client(f.raw(bytes((tag,)), b""))
    assert session.phase is Phase.CLOSED


def test_a_client_says_each_message_of_the_manual_in_some_phase_and_no_other() -> None:
    assert frozenset[int]().union(*CLIENT_MAY_SAY.values()) == FRONTEND
    assert all(CLIENT_EVENTS[tag].value[1] is Peer.CLIENT for tag in FRONTEND)


def test_only_authentication_takes_passwords() -> None:
    assert [phase for phase, tags in CLIENT_MAY_SAY.items() if ord("p") in tags] == [Phase.AUTHENTICATING]


def test_there_is_a_handler_for_each() -> None:
    assert set(client_messages.HANDLERS) == FRONTEND


def test_groups_and_copies_are_made_of_what_may_be_said() -> None:
    commands = CLIENT_MAY_SAY[Phase.LOGGED_IN]
    assert not OPENS_GROUP & ENDS_GROUP
    assert commands == OPENS_GROUP | ENDS_GROUP | WHILE_COPYING_IN
    assert frozenset(b"S") == WHILE_COPYING_IN & (OPENS_GROUP | ENDS_GROUP)
