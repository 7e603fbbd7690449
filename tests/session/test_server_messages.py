"""Messages from the server, by their tags."""

from __future__ import annotations

import pytest

from tests.session.frames import (
    BIND_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    column,
    command_complete,
    data_row,
    describe,
    execute,
    notice,
    notification,
    parameter_status,
    parse,
    query,
    raw,
    ready,
)
from tests.session.screenplay import SECRET, SSN, Says, Screenplay, envelope

SELECT = "SELECT ssn, city FROM public.patients"


SEALED = column("ssn", 17, table=100, attnum=2, code=1)


SHOWN = column("ssn", 25, table=100, attnum=2, code=0)


CITY = column("city", 25, table=100, attnum=6)


def selects(play: Screenplay, *before: bytes, results: tuple[int, ...] = (), describes: bool = False) -> None:
    """Say a whole SELECT of the extended protocol, its Sync included, and take what the server gets."""
    asked = [describe()] if describes else []
    play.client_says(*before, parse(SELECT), bind(results=results), *asked, execute(), SYNC)
    play.server_gets(*before, parse(SELECT), bind(results=(1, *results[1:]) if results else (1, 0)), *asked, execute(), SYNC)


def test_asynchronous_messages_pass_in_the_middle_of_a_result(play: Screenplay) -> None:
    selects(play)
    said = [notification("c", "hello"), parameter_status("TimeZone", "UTC"), notice("server's words")]
    play.server_says(*said, PARSE_COMPLETE, *said, BIND_COMPLETE, data_row(envelope(SSN, SECRET), None), *said)
    play.client_gets(*said, PARSE_COMPLETE, *said, BIND_COMPLETE, data_row(SECRET, None), *said)
    play.server_says(command_complete("SELECT 1"), *said, ready(), *said)
    play.client_gets(command_complete("SELECT 1"), *said, ready(), *said)
    play.is_idle()


@pytest.mark.parametrize("frame", [raw(b"Z", b"X"), raw(b"Z"), raw(b"y"), raw(b"D"), b"T\0\0\0\2"])
def test_a_broken_reply_ends_the_conversation(play: Screenplay, frame: bytes) -> None:
    play.client_says(query(SELECT))
    play.server_gets(query(SELECT))
    play.server_says(frame)
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()
