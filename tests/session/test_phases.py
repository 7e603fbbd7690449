"""The table of phases against the manual's list of message formats (55.7)."""

from __future__ import annotations

from phiproxy.session import client
from phiproxy.session.phases import CLIENT_MAY_SAY, ENDS_GROUP, OPENS_GROUP, WHILE_COPYING_IN, Phase

FRONTEND = frozenset(b"BCcdDEfFHpPQSX")
"""Every typed message that the manual marks (F)."""


def test_every_phase_has_a_row() -> None:
    assert set(CLIENT_MAY_SAY) == set(Phase)


def test_a_client_says_each_message_of_the_manual_in_some_phase_and_no_other() -> None:
    assert frozenset[int]().union(*CLIENT_MAY_SAY.values()) == FRONTEND


def test_only_authentication_takes_passwords() -> None:
    assert [phase for phase, tags in CLIENT_MAY_SAY.items() if ord("p") in tags] == [Phase.AUTHENTICATING]


def test_there_is_a_handler_for_each() -> None:
    assert set(client.HANDLERS) == FRONTEND


def test_groups_and_copies_are_made_of_what_may_be_said() -> None:
    ready = CLIENT_MAY_SAY[Phase.READY]
    assert not OPENS_GROUP & ENDS_GROUP
    assert ready == OPENS_GROUP | ENDS_GROUP | WHILE_COPYING_IN
    assert frozenset(b"S") == WHILE_COPYING_IN & (OPENS_GROUP | ENDS_GROUP)
