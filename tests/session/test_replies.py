"""Whose reply a message of the server is; one that nobody asked for ends the conversation."""

from __future__ import annotations

import pytest

from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    SYNC,
    command_complete,
    parse,
    query,
    ready,
)
from tests.session.screenplay import Says, Screenplay


@pytest.mark.parametrize("reply", [PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE, PORTAL_SUSPENDED, command_complete("X"), ready()])
def test_a_reply_to_nothing_ends_the_conversation(play: Screenplay, reply: bytes) -> None:
    play.server_says(reply)
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()


@pytest.mark.parametrize("succeeds", [PARSE_COMPLETE, command_complete("SELECT 1")])
def test_a_substitute_that_succeeds_ends_the_conversation(play: Screenplay, succeeds: bytes) -> None:
    refused = "SELECT upper(ssn) FROM public.patients"
    play.client_says(*([parse(refused), SYNC] if succeeds is PARSE_COMPLETE else [query(refused)]))
    play.session.to_server.clear()
    play.server_says(succeeds)
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()
