"""Long messages: what is not protected passes before it is whole, what is protected never does."""

from __future__ import annotations

import pytest

from phiproxy.session.core import Session
from phiproxy.wire.framing import SLICE
from tests.session.frames import (
    BIND_COMPLETE,
    COPY_IN,
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    copy_data,
    data_row,
    error,
    execute,
    parse,
    query,
    raw,
    ready,
)
from tests.session.screenplay import SECRET, SSN, Says, Screenplay, envelope, hexed

LONG = b"x" * (3 * SLICE)
FIRST = SLICE // 2


def said(out: list[bytes]) -> bytes:
    """Take what the session has left for one side."""
    data = b"".join(out)
    out.clear()
    return data


def test_a_long_unprotected_parameter_passes_before_it_is_whole(play: Screenplay) -> None:
    play.client_says(parse("SELECT length($1)", "s"))
    said(play.session.to_server)
    frame = bind(LONG, statement="s")
    play.client_says(frame[:FIRST])
    assert said(play.session.to_server) == frame[:FIRST]
    play.client_says(frame[FIRST:] + execute() + SYNC)
    assert said(play.session.to_server) == frame[FIRST:] + execute() + SYNC
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, data_row(b"9"), command_complete("SELECT 1"), ready())
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, data_row(b"9"), command_complete("SELECT 1"), ready())
    play.is_idle()


def test_a_long_protected_parameter_is_held_until_it_is_whole(play: Screenplay) -> None:
    play.client_says(parse("INSERT INTO public.patients (ssn) VALUES ($1)", "s"))
    said(play.session.to_server)
    frame = bind(SECRET + LONG, statement="s")
    play.client_says(frame[:FIRST])
    play.client_says(frame[FIRST : 2 * FIRST])
    assert said(play.session.to_server) == b""
    play.client_says(frame[2 * FIRST :])
    sent = said(play.session.to_server)
    assert len(sent) > len(LONG)
    assert SECRET not in sent
    assert LONG[:100] not in sent


def test_a_long_bind_of_an_unknown_statement_is_refused_and_dropped(play: Screenplay) -> None:
    frame = bind(LONG, statement="nothing")
    play.client_says(frame[:FIRST])
    play.client_says(frame[FIRST:] + bind(LONG) + SYNC)
    sent = said(play.session.to_server)
    assert LONG[:100] not in sent
    assert sent.endswith(SYNC)
    play.server_says(error("26000"), ready())
    play.client_gets(Says("26000", "nothing"), ready())


@pytest.mark.parametrize("begin", [5, 9, 12])
def test_names_are_awaited(play: Screenplay, begin: int) -> None:
    """The header of a long Bind says nothing yet."""
    play.client_says(parse("SELECT length($1)", "statement"))
    said(play.session.to_server)
    frame = bind(LONG, statement="statement")
    play.client_says(frame[:begin])
    assert said(play.session.to_server) == b""
    play.client_says(frame[begin:FIRST])
    assert said(play.session.to_server) == frame[:FIRST]
    play.client_says(frame[FIRST:])
    assert said(play.session.to_server) == frame[FIRST:]


def test_a_long_row_passes_only_where_nothing_in_it_is_protected(play: Screenplay) -> None:
    play.client_says(query("SELECT msg FROM log") + query("SELECT ssn, city FROM public.patients"))
    said(play.session.to_server)
    row = data_row(LONG)
    play.server_says(row[:FIRST])
    assert said(play.session.to_client) == row[:FIRST]
    assert play.session.client_mid_message
    play.server_says(row[FIRST:] + command_complete("SELECT 1") + ready())
    assert not play.session.client_mid_message
    assert said(play.session.to_client) == row[FIRST:] + command_complete("SELECT 1") + ready()
    protected = data_row(hexed(envelope(SSN, SECRET)), LONG)
    play.server_says(protected[:FIRST])
    assert said(play.session.to_client) == b""
    play.server_says(protected[FIRST:] + command_complete("SELECT 1") + ready())
    play.client_gets(data_row(SECRET, LONG), command_complete("SELECT 1"), ready())


def test_no_last_word_inside_of_a_message(play: Screenplay) -> None:
    """The client breaks the protocol while a long row is on its way: it sees an end, not a longer row."""
    play.client_says(query("SELECT msg FROM log"))
    said(play.session.to_server)
    row = data_row(LONG)
    play.server_says(row[:FIRST])
    assert said(play.session.to_client) == row[:FIRST]
    play.client_says(b"Q\0\0\0\1")
    play.is_closed()
    play.server_says(row[FIRST:])


def test_large_objects_and_copy_data_pass_and_other_functions_do_not(play: Screenplay) -> None:
    frame = raw(b"F", (955).to_bytes(4, "big") + LONG)
    play.client_says(frame[:6])
    assert said(play.session.to_server) == b""
    play.client_says(frame[6:FIRST])
    assert said(play.session.to_server) == frame[:FIRST]
    play.client_says(frame[FIRST:])
    assert said(play.session.to_server) == frame[FIRST:]
    play.server_says(raw(b"V", b"\xff" * 4), ready())
    said(play.session.to_client)
    other = raw(b"F", (1).to_bytes(4, "big") + LONG)
    play.client_says(other[:FIRST])
    play.client_says(other[FIRST:])
    assert LONG[:100] not in said(play.session.to_server)
    play.server_says(error("08P01"), ready())
    play.client_gets(Says("0A000", "FunctionCall"), ready())
    play.client_says(query("COPY log FROM STDIN"))
    play.server_says(COPY_IN)
    said(play.session.to_server)
    said(play.session.to_client)
    data = copy_data(LONG)
    play.client_says(data[:FIRST])
    assert said(play.session.to_server) == data[:FIRST]
    play.client_says(data[FIRST:])
    assert said(play.session.to_server) == data[FIRST:]


def test_what_must_be_whole_keeps_the_limit() -> None:
    for text, frame in (
        ("INSERT INTO public.patients (ssn) VALUES ($1)", bind(LONG, statement="s")),
        ("SELECT length($1)", query("SELECT '" + LONG.decode() + "'")),
    ):
        with Screenplay() as play:
            play.session.client_frames.max_message = SLICE
            play.client_says(parse(text, "s"))
            said(play.session.to_server)
            play.client_says(frame[:FIRST])
            play.client_gets(Says("08P01", "max_message", severity="FATAL"))
            play.is_closed()


def test_a_pipeline_that_waits_for_the_server_is_not_taken_in(play: Screenplay) -> None:
    """What a name means is not known: what the client says meanwhile stays where the shell can see that it is too much."""
    session: Session = play.session
    play.client_says(query("SET search_path = other"))
    play.client_says(query("SELECT ssn FROM patients"))
    assert session.later
    assert session.stalled
    assert session.client_frames.pending
    said(session.to_server)
    play.server_says(command_complete("SET"), ready())
    play.client_gets(command_complete("SET"), ready())
    play.tells_path()
    assert not session.stalled
    assert session.client_frames.pending == 0
    assert said(session.to_server)
