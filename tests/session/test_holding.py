"""What a session does while tables are about to be switched: "patients" and "visits" here, whose statements wait."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from phiproxy.session.holding import _MAY_BE_HELD, BEAT, ask_isolation, follow, goes_on, is_under_way, may_be_asked, must_go_on
from phiproxy.session.needs import NeedRelease
from phiproxy.session.state_parts import Holding
from phiproxy.session.substitutes_and_questions import own_query
from phiproxy.wire.encodings import encoding_of
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    SYNC,
    bind,
    close,
    command_complete,
    data_row,
    execute,
    parse,
    query,
    ready,
    split,
)
from tests.session.screenplay import Screenplay

ASKED = list(split(own_query(b"SHOW transaction_isolation")))
HOLDING = Holding(lambda text: b"patients" in text or b"visits" in text)
OTHER, NAMING = query("SELECT 1 FROM cities"), query("SELECT id FROM public.patients")
BEGIN, COMMIT = query("BEGIN"), query("COMMIT")


@pytest.fixture
def play() -> Iterator[Screenplay]:
    with Screenplay() as play:
        yield play


def begins(play: Screenplay, holding: Holding = HOLDING) -> None:
    play.session.fence.holding = holding
    follow(play.session, holding)


def ends(play: Screenplay) -> None:
    play.session.fence.holding = None


def done(play: Screenplay, status: str = "I") -> None:
    play.server_says(command_complete("OK"), ready(status))
    play.client_gets(command_complete("OK"), ready(status))


def says(play: Screenplay, message: bytes, status: str = "I") -> None:
    """Say what passes, and play its reply."""
    play.client_says(message)
    play.server_gets(message)
    done(play, status)


def answers(play: Screenplay, level: str = "read committed", status: str = "I") -> None:
    """Play the question for the isolation level and its answer."""
    play.server_gets(*ASKED)
    play.server_says(*_said(level), ready(status))


def _said(level: str) -> tuple[bytes, ...]:
    return PARSE_COMPLETE, BIND_COMPLETE, data_row(level.encode()), command_complete("SHOW"), CLOSE_COMPLETE, CLOSE_COMPLETE


def answers_in_group(play: Screenplay, level: str = "read committed") -> None:
    """Play the same in a group that is open."""
    play.server_gets(*ASKED[:-1], FLUSH)
    play.server_says(*_said(level))


def set_back(play: Screenplay, status: str = "I") -> None:
    """Play a Sync that sets the server's timers back."""
    play.server_gets(SYNC)
    play.server_says(ready(status))


def may_be_held(play: Screenplay, *seconds: str) -> None:
    """Play the question for how long a transaction may be held, and its answer."""
    play.server_gets(*split(own_query(_MAY_BE_HELD)))
    rows = [data_row(text.encode()) for text in seconds]
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, *rows, command_complete("SELECT"), CLOSE_COMPLETE, CLOSE_COMPLETE, ready("T"))


def waits(play: Screenplay, *messages: bytes) -> None:
    """Say what waits until tables were switched, and have it go on then."""
    play.client_says(*messages)
    if not isinstance(play.need, NeedRelease):
        set_back(play) if play.session.status == b"I" else may_be_held(play)
    assert isinstance(play.need, NeedRelease)
    play.server_gets()
    assert not is_under_way(play.session, HOLDING), "a switch has not to wait for what waits for it"
    ends(play)
    play.resumes()


def test_what_names_the_tables_waits_and_all_else_passes(play: Screenplay) -> None:
    begins(play)
    says(play, OTHER)
    waits(play, NAMING)
    play.server_gets(NAMING)
    done(play)


def test_what_has_begun_goes_on_to_its_end(play: Screenplay) -> None:
    says(play, BEGIN, "T")
    begins(play)
    assert is_under_way(play.session, HOLDING)
    says(play, NAMING, "T")
    says(play, COMMIT)
    assert not is_under_way(play.session, HOLDING)
    waits(play, NAMING)
    play.server_gets(NAMING)
    done(play)


def test_a_statement_that_is_under_way_is_waited_for(play: Screenplay) -> None:
    play.client_says(OTHER)
    play.server_gets(OTHER)
    begins(play)
    assert is_under_way(play.session, HOLDING)
    done(play)
    assert not is_under_way(play.session, HOLDING)


def test_begin_passes_and_the_first_statement_that_names_them_waits(play: Screenplay) -> None:
    begins(play)
    play.client_says(BEGIN)
    answers(play)
    play.server_gets(BEGIN)
    done(play, "T")
    says(play, OTHER, "T")
    waits(play, NAMING)
    play.server_gets(NAMING)
    done(play, "T")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_where_a_transaction_keeps_its_first_snapshot_its_begin_waits(play: Screenplay, level: str) -> None:
    begins(play)
    play.client_says(BEGIN)
    answers(play, level)
    set_back(play)
    assert isinstance(play.need, NeedRelease)
    assert not is_under_way(play.session, HOLDING)
    ends(play)
    play.resumes()
    play.server_gets(BEGIN)
    done(play, "T")


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN; SELECT 1 FROM cities",
        "SET default_transaction_isolation TO 'serializable'",
        "SELECT set_config('default_transaction_isolation', 'serializable', false) FROM cities",
        "EXECUTE s",
        "FETCH c",
        "CREATE TABLE new (id int)",
        "COPY cities FROM STDIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk",
    ],
)
def test_what_could_lead_to_them_waits(play: Screenplay, text: str) -> None:
    begins(play)
    play.client_says(query(text))
    set_back(play)
    assert isinstance(play.need, NeedRelease)
    play.server_gets()
    play.need = None


def test_texts_of_other_encodings_wait(play: Screenplay) -> None:
    """Names in them are not looked for."""
    play.session.text.encoding = encoding_of("LATIN1")
    begins(play)
    play.client_says(OTHER)
    set_back(play)
    assert isinstance(play.need, NeedRelease)
    play.need = None


def test_groups_of_the_extended_protocol(play: Screenplay) -> None:
    """What JDBC sends: BEGIN, and the first statement, in one group."""
    begins(play)
    group = (parse("BEGIN", ""), bind(), execute(), parse("SELECT 1 FROM cities", ""), bind(), execute())
    play.client_says(*group)
    answers(play)
    play.server_gets(*group)
    assert not is_under_way(play.session, HOLDING)
    waits(play, parse("SELECT id FROM public.patients", "s"), SYNC)
    play.server_gets(parse("SELECT id FROM public.patients", "s"), SYNC)
    begun, read = command_complete("BEGIN"), command_complete("SELECT 0")
    replies = (PARSE_COMPLETE, BIND_COMPLETE, begun, PARSE_COMPLETE, BIND_COMPLETE, read)
    play.server_says(*replies, PARSE_COMPLETE, ready("T"))
    play.client_gets(*replies, PARSE_COMPLETE, ready("T"))


CITIES = parse("SELECT 1 FROM cities", ""), bind(), execute()
READ = PARSE_COMPLETE, BIND_COMPLETE, command_complete("SELECT 0")


def test_what_comes_behind_the_end_of_a_transaction_in_its_group_waits(play: Screenplay) -> None:
    """It could be of another level than the one that was asked for."""
    opened(play)
    answers(play, "read committed", "T")
    end = parse("COMMIT", ""), bind(), execute()
    play.client_says(*CITIES, *end)
    play.server_gets(*CITIES, *end)
    waits(play, parse("SELECT 1 FROM cities", ""), SYNC)
    play.server_gets(parse("SELECT 1 FROM cities", ""), SYNC)
    replies = (*READ, PARSE_COMPLETE, BIND_COMPLETE, command_complete("COMMIT"), PARSE_COMPLETE, ready())
    play.server_says(*replies)
    play.client_gets(*replies)


def test_the_end_of_a_savepoint_is_not_that_of_its_transaction(play: Screenplay) -> None:
    opened(play)
    answers(play, "read committed", "T")
    end = parse("ROLLBACK WORK TO SAVEPOINT s", ""), bind(), execute()
    play.client_says(*end, *CITIES, SYNC)
    play.server_gets(*end, *CITIES, SYNC)
    replies = (PARSE_COMPLETE, BIND_COMPLETE, command_complete("ROLLBACK"), *READ, ready("T"))
    play.server_says(*replies)
    play.client_gets(*replies)


def test_a_transaction_within_one_group_passes(play: Screenplay) -> None:
    """What psycopg sends in a pipeline. What comes behind its end is of the level that was asked for."""
    begins(play)
    group = (parse("BEGIN", ""), bind(), execute(), *CITIES, parse("COMMIT", ""), bind(), execute(), *CITIES, SYNC)
    play.client_says(*group)
    answers(play)
    play.server_gets(*group)
    begun, ended = ((PARSE_COMPLETE, BIND_COMPLETE, command_complete(tag)) for tag in ("BEGIN", "COMMIT"))
    play.server_says(*begun, *READ, *ended, *READ, ready())
    play.client_gets(*begun, *READ, *ended, *READ, ready())


@pytest.mark.parametrize("opens", [(), (close("old"),)])
def test_a_transaction_that_is_pipelined_behind_another_is_asked_for(play: Screenplay, opens: tuple[bytes, ...]) -> None:
    """It could be of another level; that a transaction was open before says nothing."""
    opened(play)
    answers(play, "read committed", "T")
    play.client_says(COMMIT, *opens, *CITIES)
    play.server_gets(COMMIT, *opens)
    done(play)
    if opens:
        play.server_gets(FLUSH)
        play.server_says(CLOSE_COMPLETE)
        play.client_gets(CLOSE_COMPLETE)
    answers_in_group(play, "serializable") if opens else answers(play, "serializable")
    if not opens:  # what is in the midst of a group is not timed by the server
        set_back(play)
    assert isinstance(play.need, NeedRelease)
    play.server_gets()
    play.need = None


def test_a_group_that_begins_with_what_names_nothing_is_asked_for(play: Screenplay) -> None:
    begins(play)
    play.client_says(close("old"), *CITIES, SYNC)
    play.server_gets(close("old"), FLUSH)
    play.server_says(CLOSE_COMPLETE)
    play.client_gets(CLOSE_COMPLETE)
    answers_in_group(play)
    play.server_gets(*CITIES, SYNC)
    play.server_says(*READ, ready())
    play.client_gets(*READ, ready())


def test_a_session_that_comes_later_has_begun_nothing_before(play: Screenplay) -> None:
    """Whatever it says first: who switches is not told of it any more."""
    play.session.fence.holding = HOLDING
    play.client_says(close("old"), parse("SELECT id FROM public.patients", ""))
    play.server_gets(close("old"))
    assert isinstance(play.need, NeedRelease)
    assert not is_under_way(play.session, HOLDING)
    play.need = None


def test_a_statement_that_was_prepared_waits_when_it_is_bound(play: Screenplay) -> None:
    for name, text in (("a", "SELECT 1 FROM cities"), ("b", "SELECT id FROM public.patients")):
        play.client_says(parse(text, name), SYNC)
        play.server_gets(parse(text, name), SYNC)
        play.server_says(PARSE_COMPLETE, ready())
        play.client_gets(PARSE_COMPLETE, ready())
    begins(play)
    play.client_says(bind(statement="a"), execute(), SYNC)
    answers(play)
    play.server_gets(bind(statement="a"), execute(), SYNC)
    play.server_says(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.client_gets(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    waits(play, bind(statement="b"), execute(), SYNC)
    play.server_gets(bind(statement="b"), execute(), SYNC)
    play.server_says(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.client_gets(BIND_COMPLETE, command_complete("SELECT 0"), ready())


def test_groups_behind_each_other_are_told_apart(play: Screenplay) -> None:
    """Whether the second is in a transaction is known when the first is answered."""
    begins(play)
    play.client_says(BEGIN, OTHER)
    answers(play)
    play.server_gets(BEGIN, OTHER)
    play.server_says(command_complete("BEGIN"), ready("T"), command_complete("SELECT 0"), ready("T"))
    play.client_gets(command_complete("BEGIN"), ready("T"), command_complete("SELECT 0"), ready("T"))
    says(play, COMMIT)
    play.client_says(BEGIN, parse("SELECT 1 FROM cities", ""), SYNC)
    answers(play)
    play.server_gets(BEGIN)
    done(play, "T")
    play.server_gets(parse("SELECT 1 FROM cities", ""), SYNC)
    play.server_says(PARSE_COMPLETE, ready("T"))
    play.client_gets(PARSE_COMPLETE, ready("T"))


def test_one_session_goes_on_while_others_wait(play: Screenplay) -> None:
    """At its server the tables are switched, at that of others not yet."""
    begins(play)
    play.client_says(NAMING)
    set_back(play)
    assert isinstance(play.need, NeedRelease)
    goes_on(play.session, HOLDING)
    play.resumes()
    play.server_gets(NAMING)
    done(play)
    says(play, NAMING)
    begins(play, Holding(lambda _: True))
    waits(play, NAMING)
    play.server_gets(NAMING)
    done(play)


# -- the server's timers -----------------------------------------------------------------------------------------------------------


def in_transaction(play: Screenplay) -> None:
    begins(play)
    play.client_says(BEGIN)
    answers(play)
    play.server_gets(BEGIN)
    done(play, "T")


def test_timers_are_set_back_for_as_long_as_it_waits(play: Screenplay) -> None:
    in_transaction(play)
    play.client_says(NAMING)
    may_be_held(play)
    for _ in range(2):
        play.session.now += BEAT / 2
        play.resumes()
        assert isinstance(play.need, NeedRelease)
        play.session.now += BEAT / 2
        play.resumes()
        assert play.need is None
        set_back(play, "T")
        assert isinstance(play.need, NeedRelease)
    assert must_go_on(play.session, HOLDING) == math.inf, "no transaction_timeout is set"
    ends(play)
    play.resumes()
    play.server_gets(NAMING)
    done(play, "T")


def test_a_transaction_timeout_says_when_it_must_go_on(play: Screenplay) -> None:
    in_transaction(play)
    play.client_says(NAMING)
    may_be_held(play, "1.5")
    assert must_go_on(play.session, HOLDING) == play.session.now + 1.5
    assert must_go_on(play.session, Holding(lambda _: True)) == math.inf, "of another hold that says nothing"
    ends(play)
    play.resumes()
    play.server_gets(NAMING)
    done(play, "T")


@pytest.mark.parametrize("text", ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET LOCAL work_mem TO 64"])
def test_what_takes_no_snapshot_has_none_taken_before_it(play: Screenplay, text: str) -> None:
    """SET TRANSACTION must come before any query, and so must not be behind one of the proxy's."""
    in_transaction(play)
    play.client_says(query(text))
    set_back(play, "T")
    assert isinstance(play.need, NeedRelease)
    ends(play)
    play.resumes()
    play.server_gets(query(text))
    done(play, "T")


def test_nothing_is_said_while_the_server_is_at_work(play: Screenplay) -> None:
    begins(play)
    play.client_says(OTHER, NAMING)
    play.server_gets(OTHER)
    assert play.need is None
    done(play)
    set_back(play)
    assert isinstance(play.need, NeedRelease)
    ends(play)
    play.resumes()
    play.server_gets(NAMING)
    done(play)


# -- transactions that were open before ------------------------------------------------------------------------------------------


def opened(play: Screenplay) -> None:
    says(play, BEGIN, "T")
    begins(play)
    assert may_be_asked(play.session)
    ask_isolation(play.session)
    assert not may_be_asked(play.session)


def test_an_open_transaction_that_takes_new_snapshots_is_not_waited_for(play: Screenplay) -> None:
    opened(play)
    play.client_says(OTHER)
    answers(play, "read committed", "T")
    assert not is_under_way(play.session, HOLDING)
    play.server_gets(OTHER)
    done(play, "T")
    waits(play, NAMING)
    play.server_gets(NAMING)
    done(play, "T")


def test_one_that_keeps_its_first_snapshot_goes_on_to_its_end(play: Screenplay) -> None:
    opened(play)
    answers(play, "repeatable read", "T")
    assert is_under_way(play.session, HOLDING)
    assert not may_be_asked(play.session), "nothing has happened since"
    says(play, NAMING, "T")
    assert may_be_asked(play.session)
    says(play, COMMIT)
    assert not is_under_way(play.session, HOLDING)


def test_what_is_asked_is_answered_behind_the_end_of_the_switch(play: Screenplay) -> None:
    opened(play)
    play.client_says(NAMING)
    ends(play)
    answers(play, "read committed", "T")
    play.server_gets(NAMING)
    done(play, "T")


def test_a_session_at_work_is_not_asked(play: Screenplay) -> None:
    begins(play)
    assert not may_be_asked(play.session), "it is at rest"
    ends(play)
    says(play, BEGIN, "T")
    play.client_says(OTHER)
    play.server_gets(OTHER)
    begins(play, Holding(HOLDING.mentions))
    assert not may_be_asked(play.session), "its statement is under way"
    done(play, "T")
    play.client_says(parse("SELECT 1 FROM cities", ""))
    play.server_gets(parse("SELECT 1 FROM cities", ""))
    assert not may_be_asked(play.session), "a group is open"
    play.client_says(SYNC)
    play.server_gets(SYNC)
    play.server_says(PARSE_COMPLETE, ready("T"))
    play.client_gets(PARSE_COMPLETE, ready("T"))
    play.client_says(OTHER[:5])
    assert not may_be_asked(play.session), "a message has begun"
    play.client_says(OTHER[5:])
    play.server_gets(OTHER)
    done(play, "T")
    assert may_be_asked(play.session)
