"""COPY of what is protected, as dialogues: nothing unsealed leaves, and a failure has its place in the order."""

from __future__ import annotations

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import DataKeyWant, IndexKeyWant, ProviderUnavailable
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.session.copy_data import CLIENT_FAIL, CLIENT_REASON, COPY_FAIL, NO_END, OUTDATED
from phiproxy.session.fast_path.whole_groups import EXECUTED_FIRST
from tests.clinic_model import CATALOG, PROTECTION
from tests.session.frames import (
    BIND_COMPLETE,
    COPY_DONE,
    COPY_IN,
    COPY_OUT,
    PARSE_COMPLETE,
    SYNC,
    Frame,
    bind,
    command_complete,
    copy_data,
    copy_fail,
    error,
    error_fields,
    execute,
    notice,
    parse,
    query,
    ready,
    split,
)
from tests.session.screenplay import SECRET, SSN, FakeDatabase, Says, Screenplay, _opened, envelope, fill, hexed, sealed

IN = "COPY public.patients (id, ssn) FROM STDIN"
OUT = "COPY public.patients (id, ssn) TO STDOUT"
ROW = b"1\t" + SECRET + b"\n"
STORED = copy_data(b"1\t" + sealed(SECRET) + b"\n")
CANCELED = error("57014", "COPY from stdin failed: phiproxy: a row cannot be stored")


def sent(play: Screenplay) -> list[Frame]:
    """Return what the server gets, with the envelopes of COPY data opened."""
    data, play.session.to_server = b"".join(play.session.to_server), []
    play.sent_to_server += data
    frames = []
    for frame in split(data):
        pieces = frame[5:].split(b"\\\\x") if frame[:1] == b"d" else []
        if len(pieces) == 2:
            stored, end = pieces[1][:-1], pieces[1][-1:]
            frame = copy_data(pieces[0] + _opened(bytes.fromhex(stored.decode())) + end)  # noqa: PLW2901
        frames.append(frame)
    return frames


def begins(play: Screenplay, text: str = IN) -> None:
    play.client_says(query(text))
    play.server_gets(query(text))
    play.server_says(COPY_IN)
    play.client_gets(COPY_IN)


def test_rows_are_sealed_whatever_messages_they_come_in(play: Screenplay) -> None:
    begins(play)
    for byte in ROW[:-1]:
        play.client_says(copy_data(bytes((byte,))))
        assert sent(play) == []
    play.client_says(copy_data(b"\n"), copy_data(ROW + b"2"), copy_data(b"\t\\N"), COPY_DONE)
    assert sent(play) == [STORED, STORED, copy_data(b"2\t\\N\n"), COPY_DONE]
    play.server_says(command_complete("COPY 3"), ready())
    play.client_gets(command_complete("COPY 3"), ready())
    play.is_idle()


def test_a_failure_ends_the_copy_and_drops_what_comes_behind(play: Screenplay) -> None:
    begins(play)
    play.client_says(copy_data(ROW + b"2\t" + SECRET + b"\tx\n"), copy_data(ROW), COPY_DONE, query("SELECT 1"))
    assert sent(play) == [STORED, COPY_FAIL, query("SELECT 1")]
    play.server_says(CANCELED, ready(), command_complete("SELECT 1"), ready())
    (failed, *rest) = split(b"".join(play.session.to_client))
    play.session.to_client = []
    assert Says("22P04", "extra data after last expected column").fits(failed)
    assert error_fields(failed)["W"] == "COPY patients, line 2"
    assert rest == [ready(), command_complete("SELECT 1"), ready()]
    play.is_idle()


def test_an_error_of_the_server_comes_first(play: Screenplay) -> None:
    begins(play)
    play.client_says(copy_data(ROW + ROW[:-1] + b"\tx\n"))
    assert sent(play) == [STORED, COPY_FAIL]
    where = f'COPY patients, line 1: "1\t{hexed(envelope(SSN, SECRET)).decode()[:40]}..."'
    play.server_says(error("23505", W=where, D="Failing row contains (x)."), ready())
    (failed, done) = split(b"".join(play.session.to_client))
    play.session.to_client = []
    assert error_fields(failed)["C"] == "23505"
    assert error_fields(failed)["W"] == "COPY patients, line 1"
    assert "D" not in error_fields(failed)
    assert done == ready()
    play.client_says(copy_data(ROW), COPY_DONE)
    play.is_idle()


@pytest.mark.parametrize("end", [COPY_DONE, copy_fail(SSN.label)])
def test_a_copy_in_the_extended_protocol_with_a_sync_that_the_server_ignores(play: Screenplay, end: Frame) -> None:
    group = [parse(IN), bind(), execute(), SYNC]
    play.client_says(*group)
    play.server_gets(*group)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_says(copy_data(ROW), end, SYNC)
    assert sent(play) == [STORED, end if end == COPY_DONE else CLIENT_FAIL, SYNC]
    done = command_complete("COPY 1") if end == COPY_DONE else error("57014")
    play.server_says(done, ready())
    play.client_gets(done, ready())
    play.is_idle()


def test_a_failed_copy_in_the_extended_protocol_is_one_error(play: Screenplay) -> None:
    group = [parse(IN), bind(), execute(), SYNC]
    play.client_says(*group)
    play.server_gets(*group)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_says(copy_data(SECRET + b"\n"), COPY_DONE, SYNC)
    assert sent(play) == [COPY_FAIL, SYNC]
    play.server_says(CANCELED, ready())
    play.client_gets(Says("22P04", 'missing data for column "ssn"'), ready())
    play.is_idle()


def test_data_said_before_it_is_asked_for_waits(play: Screenplay) -> None:
    play.client_says(query(IN), copy_data(ROW), COPY_DONE, query("SELECT 1"))
    play.server_gets(query(IN))
    play.server_says(COPY_IN)
    play.client_gets(COPY_IN)
    assert sent(play) == [STORED, COPY_DONE, query("SELECT 1")]
    play.server_says(command_complete("COPY 1"), ready(), command_complete("SELECT 1"), ready())
    play.client_gets(command_complete("COPY 1"), ready(), command_complete("SELECT 1"), ready())


def test_data_that_the_server_does_not_ask_for_is_dropped(play: Screenplay) -> None:
    play.client_says(query(IN), copy_data(ROW), COPY_DONE, query("SELECT 1"))
    play.server_gets(query(IN))
    play.server_says(error("42501"), ready())
    play.client_gets(error("42501"), ready())
    play.server_gets(query("SELECT 1"))
    play.server_says(command_complete("SELECT 1"), ready())
    play.client_gets(command_complete("SELECT 1"), ready())


UNPROTECTED = "COPY public.cities (id) FROM STDIN"
REFUSED = error("22P02", "invalid input syntax for type integer")


@pytest.mark.parametrize("text", [UNPROTECTED, IN])
def test_a_query_behind_data_waits_for_the_servers_word(play: Screenplay, text: str) -> None:
    begins(play, text)
    play.client_says(copy_data(b"x\t\\N\n"), query("SELECT 1"))
    play.server_gets(copy_data(b"x\t\\N\n"), NO_END)
    play.server_says(REFUSED, ready())
    play.client_gets(REFUSED, ready())
    play.server_gets(query("SELECT 1"))  # which has ignored the CopyFail
    play.server_says(command_complete("SELECT 1"), ready())
    play.client_gets(command_complete("SELECT 1"), ready())
    play.client_says(copy_data(b"2\n"), COPY_DONE)
    play.is_idle()


@pytest.mark.parametrize("text", [UNPROTECTED, IN])
def test_a_message_that_is_no_copy_data_ends_the_connection_where_the_server_still_copies(play: Screenplay, text: str) -> None:
    begins(play, text)
    play.client_says(query("SELECT 1"))
    play.server_gets(NO_END)
    play.server_says(CANCELED, ready())
    play.client_gets(Says("08P01", "a message during COPY that is neither data nor its end", severity="FATAL"))
    play.server_gets()
    play.is_closed()


def test_what_is_awaited_of_many_executions_is_not_changed_by_one(play: Screenplay) -> None:
    group = [parse(UNPROTECTED), bind(), execute()]
    play.client_says(*group)
    play.server_gets(*group)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    assert play.session.pipeline.front() is EXECUTED_FIRST
    play.client_says(query("SELECT 1"))
    play.server_gets(NO_END)
    front = play.session.pipeline.front()
    assert front is not None
    assert (front.refusal is None, EXECUTED_FIRST.refusal) == (False, None)


def test_a_query_behind_a_row_that_cannot_be_stored(play: Screenplay) -> None:
    begins(play)
    play.client_says(copy_data(SECRET + b"\n"), query("SELECT 1"))
    play.server_gets(COPY_FAIL)
    play.server_says(CANCELED, ready())
    play.client_gets(Says("22P04", 'missing data for column "ssn"'), ready())
    play.server_gets(query("SELECT 1"))
    play.server_says(command_complete("SELECT 1"), ready())
    play.client_gets(command_complete("SELECT 1"), ready())
    play.is_idle()


@pytest.mark.parametrize("end", [[], [COPY_DONE], [copy_fail("enough")]])
def test_a_copy_said_as_a_whole_before_the_server_refuses_it(play: Screenplay, end: list[Frame]) -> None:
    said = [query(UNPROTECTED), copy_data(b"x\n"), *end, query("SELECT 1")]
    play.client_says(*said)
    play.server_gets(*(CLIENT_FAIL if frame[:1] == b"f" else frame for frame in said))
    play.server_says(COPY_IN, REFUSED, ready(), command_complete("SELECT 1"), ready())
    play.client_gets(COPY_IN, REFUSED, ready(), command_complete("SELECT 1"), ready())
    play.is_idle()


@pytest.mark.parametrize("text", [UNPROTECTED, IN])
def test_a_parse_behind_data_is_skipped_to_the_next_sync(play: Screenplay, text: str) -> None:
    group = [parse(text), bind(), execute()]
    play.client_says(*group)
    play.server_gets(*group)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_says(copy_data(b"x\t\\N\n"), parse("SELECT 1"), bind(), execute(), SYNC, parse("SELECT 2"), SYNC)
    play.server_gets(copy_data(b"x\t\\N\n"), NO_END)
    play.server_says(REFUSED)
    play.client_gets(REFUSED)
    play.server_gets(SYNC, parse("SELECT 2"), SYNC)
    play.server_says(ready(), PARSE_COMPLETE, ready())
    play.client_gets(ready(), PARSE_COMPLETE, ready())
    play.is_idle()


def test_rows_are_opened_between_notices(play: Screenplay) -> None:
    play.client_says(query(OUT))
    play.server_gets(query(OUT))
    row = b"1\t\\\\x" + envelope(SSN, SECRET).hex().encode() + b"\n"
    play.server_says(COPY_OUT, copy_data(row), notice("half way"), copy_data(b"2\t\\N\n"), COPY_DONE)
    play.client_gets(COPY_OUT, copy_data(ROW), notice("half way"), copy_data(b"2\t\\N\n"), COPY_DONE)
    play.server_says(command_complete("COPY 2"), ready())
    play.client_gets(command_complete("COPY 2"), ready())
    play.is_idle()


def test_a_row_that_does_not_open_breaks_the_result_off(play: Screenplay) -> None:
    play.client_says(query(OUT))
    play.server_gets(query(OUT))
    play.server_says(COPY_OUT, copy_data(b"1\t\\\\xf550\n"), copy_data(b"2\t\\N\n"), COPY_DONE, command_complete("COPY 2"), ready())
    play.client_gets(COPY_OUT, Says("XX001"), ready())
    play.is_idle()


def keyless() -> tuple[Screenplay, Keyring]:
    ring = Keyring(lambda: 0.0)
    return Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, Ciphers(ring)))), ring


def test_a_copy_waits_for_its_keys() -> None:
    play, ring = keyless()
    begins(play)
    play.client_says(copy_data(ROW), COPY_DONE)
    assert play.needs_keys() == {IndexKeyWant(1, 0)}
    play.server_gets()
    fill(ring)
    play.resumes()
    assert sent(play) == [STORED, COPY_DONE]
    play.server_says(command_complete("COPY 1"), ready())
    play.client_gets(command_complete("COPY 1"), ready())
    play.ends()


@pytest.mark.parametrize("rest", [b"", ROW[:-1]])
def test_or_fails_when_they_do_not_come(rest: bytes) -> None:
    play, _ = keyless()
    begins(play)
    play.client_says(copy_data(rest or ROW), COPY_DONE)
    assert play.needs_keys()
    play.resumes(ProviderUnavailable("the key provider does not answer"))
    assert sent(play) == [COPY_FAIL]
    play.server_says(CANCELED, ready())
    play.client_gets(Says("57P03"), ready())
    play.is_idle()
    play.ends()


def test_rows_wait_for_their_keys() -> None:
    play, ring = keyless()
    play.client_says(query(OUT))
    play.server_gets(query(OUT))
    row = b"1\t\\\\x" + envelope(SSN, SECRET).hex().encode() + b"\n"
    play.server_says(COPY_OUT, copy_data(row), COPY_DONE, command_complete("COPY 1"), ready())
    (want,) = play.needs_keys()
    assert isinstance(want, DataKeyWant)
    play.client_gets(COPY_OUT)
    fill(ring)
    play.resumes()
    play.client_gets(copy_data(ROW), COPY_DONE, command_complete("COPY 1"), ready())
    play.ends()


def test_two_in_one_string(play: Screenplay) -> None:
    text = f"{OUT}; {IN}"
    play.client_says(query(text))
    play.server_gets(query(text))
    play.server_says(COPY_OUT, copy_data(b"2\t\\N\n"), COPY_DONE, command_complete("COPY 1"), COPY_IN)
    play.client_gets(COPY_OUT, copy_data(b"2\t\\N\n"), COPY_DONE, command_complete("COPY 1"), COPY_IN)
    play.client_says(copy_data(ROW), COPY_DONE)
    assert sent(play) == [STORED, COPY_DONE]
    play.server_says(command_complete("COPY 1"), ready())
    play.client_gets(command_complete("COPY 1"), ready())


STOPPED = error("57014", f"COPY from stdin failed: {CLIENT_REASON.decode()}", W="COPY patients, line 2")


@pytest.mark.parametrize("text", [UNPROTECTED, IN])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_the_reason_of_the_client_is_told_to_nobody_else(play: Screenplay, text: str, asked: bool, grouped: bool) -> None:
    """psycopg gives the text of its exception, in which a value may be; the server would log it."""
    begin = [parse(text), bind(), execute()] if grouped else [query(text)]
    answers = [PARSE_COMPLETE, BIND_COMPLETE, COPY_IN] if grouped else [COPY_IN]
    reason = copy_fail(f"cannot adapt {SECRET.decode()} (é)")
    data = [copy_data(b"1\t\\N\n"), reason, *([SYNC] if grouped else [])]
    play.client_says(*begin, *([] if asked else data))
    play.server_says(*answers)
    play.client_says(*(data if asked else []))
    out = b"".join(frame for frame in sent(play))
    assert SECRET not in out
    assert CLIENT_FAIL in out
    play.server_says(STOPPED, ready())
    *shown, failed, done = split(b"".join(play.session.to_client))
    play.session.to_client = []
    assert shown == answers
    assert error_fields(failed)["M"] == f"COPY from stdin failed: cannot adapt {SECRET.decode()} (é)"
    assert done == ready()
    play.is_idle()


def test_the_reason_is_of_one_execution_only(play: Screenplay) -> None:
    group = [parse(UNPROTECTED), bind(), execute()]
    play.client_says(*group)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_says(copy_fail("mine"))
    play.server_gets(*group, CLIENT_FAIL)
    assert EXECUTED_FIRST.said is None
    play.server_says(STOPPED)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN, Says("57014", "COPY from stdin failed: mine"))


AGAIN = Says("57000", "terminating COPY because the policy was changed while it ran")
CHANGED = error("57014", "COPY from stdin failed: phiproxy: the policy was changed")


@pytest.mark.parametrize("text", [UNPROTECTED, IN])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("end", [COPY_DONE, copy_fail("x")])
@pytest.mark.parametrize("early", [True, False])
def test_a_copy_that_began_under_another_policy_ends(play: Screenplay, text: str, grouped: bool, end: Frame, early: bool) -> None:
    """Nothing more of it reaches the server; the session lives on. ``early``: as libpq does, with a Sync before any data."""
    begin = [parse(text), bind(), execute(), *([SYNC] if early else [])] if grouped else [query(text)]
    row = copy_data(b"1\t\\N\n")
    play.client_says(*begin)
    play.server_gets(*begin)
    play.server_says(*([PARSE_COMPLETE, BIND_COMPLETE] if grouped else []), COPY_IN)
    play.client_gets(*([PARSE_COMPLETE, BIND_COMPLETE] if grouped else []), COPY_IN)
    play.client_says(row)
    play.server_gets(row)
    play.session.protection_changed()
    sync = [SYNC] if grouped else []
    play.client_says(copy_data(ROW), copy_data(ROW), end, *sync)
    play.server_gets(OUTDATED, *sync)
    play.server_says(CHANGED, ready())
    play.client_gets(AGAIN, ready())
    assert EXECUTED_FIRST.refusal is None
    play.is_idle()
    play.client_says(*begin)
    play.server_gets(*begin)
    play.server_says(*([PARSE_COMPLETE, BIND_COMPLETE] if grouped else []), COPY_IN)
    play.client_gets(*([PARSE_COMPLETE, BIND_COMPLETE] if grouped else []), COPY_IN)
    play.client_says(row, COPY_DONE, *sync)
    play.server_gets(row, COPY_DONE, *sync)  # the next one is planned anew
    play.server_says(command_complete("COPY 1"), ready())
    play.client_gets(command_complete("COPY 1"), ready())
    play.is_idle()


@pytest.mark.parametrize("text", [UNPROTECTED, IN])
def test_data_of_it_that_nobody_has_asked_for_yet_waits(play: Screenplay, text: str) -> None:
    play.client_says(query(text))
    play.server_gets(query(text))
    play.session.protection_changed()
    play.client_says(copy_data(ROW), COPY_DONE, query("SELECT 1"))
    play.server_gets()
    play.server_says(COPY_IN)
    play.client_gets(COPY_IN)
    play.server_gets(OUTDATED, query("SELECT 1"))
    play.server_says(CHANGED, ready(), command_complete("SELECT 1"), ready())
    play.client_gets(AGAIN, ready(), command_complete("SELECT 1"), ready())
    play.is_idle()


def test_a_copy_that_begins_after_the_policy_changed_goes_on(play: Screenplay) -> None:
    play.session.protection_changed()
    begins(play)
    play.client_says(copy_data(ROW), COPY_DONE)
    assert sent(play) == [STORED, COPY_DONE]
    play.server_says(command_complete("COPY 1"), ready())
    play.client_gets(command_complete("COPY 1"), ready())
    play.is_idle()


def test_a_policy_that_changes_in_the_middle_of_a_long_message_ends_the_session(play: Screenplay) -> None:
    begins(play, UNPROTECTED)
    long = copy_data(b"1" * 300_000)
    play.client_says(long[:100_000])
    assert len(b"".join(play.session.to_server)) == 100_000
    play.session.to_server = []
    play.session.protection_changed()
    play.client_gets(Says("57000", "the policy was changed", severity="FATAL"))
    play.is_closed()


def test_a_long_message_behind_the_change_is_not_sent(play: Screenplay) -> None:
    begins(play, UNPROTECTED)
    play.session.protection_changed()
    long = copy_data(b"1" * 300_000)
    play.client_says(long[:100_000])
    play.client_says(long[100_000:], COPY_DONE)
    play.server_gets(OUTDATED)
    play.server_says(CHANGED, ready())
    play.client_gets(AGAIN, ready())
    play.is_idle()


@pytest.mark.parametrize(("text", "says"), [(OUT, AGAIN), ("COPY public.cities TO STDOUT", None)])
def test_a_copy_to_the_client_ends_when_the_policy_changes(play: Screenplay, text: str, says: Says | None) -> None:
    play.client_says(query(text))
    play.server_gets(query(text))
    row = b"1\t\\\\x" + envelope(SSN, SECRET).hex().encode() + b"\n" if text == OUT else b"1\n"
    play.server_says(COPY_OUT, copy_data(row))
    play.client_gets(COPY_OUT, copy_data(ROW if text == OUT else row))
    play.session.protection_changed()
    play.server_says(copy_data(row), copy_data(row), COPY_DONE, command_complete("COPY 3"), ready())
    if says is not None:
        play.client_gets(says, ready())
        play.is_idle()
    else:
        play.client_gets(Says("57000", "what was committed before stays committed", severity="FATAL"))
        play.is_closed()
