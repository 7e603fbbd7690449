"""The queue of expected replies: errors, skipping, COPY; first by itself, then in dialogues."""

from __future__ import annotations

from typing import Any

import pytest

from phiproxy.errors import StatementRefused, WireError
from phiproxy.session.copy_data import NO_END
from phiproxy.session.pipeline import EXTENDED, Expected, Kind, Pipeline, Undo
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
    execute,
    notice,
    parameter_status,
    parse,
    query,
    raw,
    ready,
)
from tests.session.screenplay import REFUSED_QUERY, SECRET, Says, Screenplay, refused_parse


def queue_of(*kinds: Kind) -> Pipeline:
    pipeline = Pipeline()
    for kind in kinds:
        pipeline.push(Expected(kind))
    return pipeline


def kinds(pipeline: Pipeline) -> list[Kind]:
    return [entry.kind for entry in pipeline.queue]


# -- the queue -----------------------------------------------------------------------------------------------------------------


def test_an_error_discards_up_to_sync_and_not_further() -> None:
    pipeline = queue_of(Kind.BIND, Kind.EXECUTE, Kind.QUERY, Kind.SYNC, Kind.PARSE, Kind.SYNC)
    failed = pipeline.error()
    assert failed is not None
    assert failed.kind is Kind.BIND
    assert kinds(pipeline) == [Kind.SYNC, Kind.PARSE, Kind.SYNC]
    assert not pipeline.skipping


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind in EXTENDED])
def test_without_a_sync_sent_the_server_skips_what_comes(kind: Kind) -> None:
    pipeline = queue_of(kind, Kind.CLOSE)
    pipeline.error()
    assert not pipeline.queue
    assert pipeline.skipping


@pytest.mark.parametrize("kind", [Kind.QUERY, Kind.SYNC, Kind.FUNCTION_CALL, Kind.INTERNAL])
def test_an_error_of_what_ends_in_ready_leaves_it_waiting_for_that(kind: Kind) -> None:
    pipeline = queue_of(kind, Kind.PARSE)
    assert pipeline.error() is pipeline.queue[0]
    assert kinds(pipeline) == [kind, Kind.PARSE]
    assert not pipeline.skipping


def test_an_error_of_nothing_changes_nothing() -> None:
    pipeline = Pipeline()
    assert pipeline.error() is None
    assert not pipeline.skipping


def test_the_end_of_a_copy_is_answered_by_nothing() -> None:
    pipeline = queue_of(Kind.QUERY, Kind.COPY_END, Kind.COPY_END)
    assert pipeline.pop(Kind.SYNC) is None
    popped = pipeline.pop(Kind.QUERY)
    assert popped is not None
    assert not pipeline.queue


def test_copy_in_forgets_the_syncs_that_the_server_ignores() -> None:
    pipeline = queue_of(Kind.EXECUTE, Kind.SYNC)
    pipeline.copy_in_began()
    assert kinds(pipeline) == [Kind.EXECUTE]
    assert pipeline.copy_in


def test_copy_in_keeps_what_was_sent_behind_the_data() -> None:
    pipeline = queue_of(Kind.EXECUTE, Kind.SYNC, Kind.COPY_END, Kind.SYNC)
    pipeline.copy_in_began()
    assert kinds(pipeline) == [Kind.EXECUTE, Kind.SYNC]
    assert not pipeline.copy_in


@pytest.mark.parametrize("following", [Kind.QUERY, Kind.PARSE])
def test_what_else_was_sent_behind_it_is_the_servers_to_judge(following: Kind) -> None:
    pipeline = queue_of(Kind.QUERY, following)
    pipeline.copy_in_began()
    assert kinds(pipeline) == [Kind.QUERY, following]
    assert not pipeline.copy_in


@pytest.mark.parametrize("sent", [(), (Kind.SYNC,), (Kind.PARSE,)])
def test_copy_in_that_cannot_be_is_a_broken_protocol(sent: tuple[Kind, ...]) -> None:
    with pytest.raises(WireError):
        queue_of(*sent).copy_in_began()


@pytest.mark.parametrize(
    ("sent", "may"),
    [
        ((), False),
        ((Kind.SYNC,), False),
        ((Kind.EXECUTE,), True),
        ((Kind.EXECUTE, Kind.SYNC), True),
        ((Kind.QUERY,), True),
        ((Kind.PARSE, Kind.BIND), False),
    ],
)
def test_copy_data_is_sent_only_where_something_may_ask_for_it(sent: tuple[Kind, ...], may: bool) -> None:
    assert queue_of(*sent).may_copy() is may


def test_the_last_that_may_copy_decides() -> None:
    pipeline = Pipeline()
    pipeline.push(Expected(Kind.QUERY, StatementRefused("no")))
    assert not pipeline.may_copy()
    pipeline.push(Expected(Kind.QUERY))
    assert pipeline.may_copy()
    pipeline.push(Expected(Kind.PARSE, StatementRefused("no")))
    pipeline.push(Expected(Kind.SYNC))
    assert not pipeline.may_copy()


@pytest.mark.parametrize(
    ("behind", "only"),
    [
        ([Kind.SYNC], True),
        ([Kind.CLOSE, Kind.CLOSE, Kind.SYNC, Kind.EXECUTE], True),
        ([], False),
        ([Kind.EXECUTE, Kind.SYNC], False),
    ],
)
def test_only_closes_before_sync(behind: list[Kind], only: bool) -> None:
    assert queue_of(Kind.EXECUTE, *behind).only_closes_before_sync() is only


def test_names_are_undone_from_the_last_to_the_first() -> None:
    names: dict[bytes, Any] = {b"s": "old"}
    pipeline = Pipeline()
    for new in ("first", "second"):
        pipeline.push(Expected(Kind.PARSE, undo=[Undo(names, b"s", names[b"s"])]))
        names[b"s"] = new
    pipeline.error()
    assert names == {b"s": "old"}


def test_a_change_that_a_later_group_overtook_is_not_undone_but_remembered() -> None:
    names: dict[bytes, Any] = {b"s": "second"}
    pipeline = Pipeline()
    pipeline.push(Expected(Kind.PARSE, undo=[Undo(names, b"s", "old")]))
    pipeline.push(Expected(Kind.SYNC))
    pipeline.push(Expected(Kind.PARSE, undo=[Undo(names, b"s", "first")]))
    pipeline.error()
    assert names == {b"s": "second"}
    pipeline.pop(Kind.SYNC)
    pipeline.error()
    assert names == {b"s": "old"}


def test_what_is_lost_is_not_restored_by_its_own_failure_but_by_being_skipped() -> None:
    for own in (True, False):
        names: dict[bytes, Any] = {}
        pipeline = queue_of(*([] if own else [Kind.EXECUTE]))
        pipeline.push(Expected(Kind.PARSE, undo=[Undo(names, b"", "old", lost=True)]))
        pipeline.error()
        assert names == ({} if own else {b"": "old"})


def test_a_query_keeps_what_its_finished_statements_did() -> None:
    names: dict[bytes, Any] = {b"a": 1, b"b": 2}
    entry = Expected(Kind.QUERY, undo=[Undo(names, b"a", None, part=0), Undo(names, b"b", None, part=1)], part=1)
    pipeline = Pipeline()
    pipeline.push(entry)
    pipeline.error()
    assert names == {b"a": 1}


# -- COPY in dialogues ---------------------------------------------------------------------------------------------------------

COPY = "COPY log FROM STDIN"
DATA = [copy_data(b"1\thello\n"), copy_data(b"2\t")]


def test_a_simple_copy_in(play: Screenplay) -> None:
    play.client_says(query(COPY))
    play.server_gets(query(COPY))
    play.server_says(COPY_IN)
    play.client_gets(COPY_IN)
    play.client_says(*DATA, SYNC, COPY_DONE)
    play.server_gets(*DATA, SYNC, COPY_DONE)
    play.server_says(command_complete("COPY 2"), ready())
    play.client_gets(command_complete("COPY 2"), ready())
    play.is_idle()


def test_a_copy_in_of_the_extended_protocol_with_a_sync_sent_early(play: Screenplay) -> None:
    play.client_says(parse(COPY), bind(), execute(), SYNC)
    play.server_gets(parse(COPY), bind(), execute(), SYNC)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN)
    play.client_says(*DATA, COPY_DONE, SYNC)
    play.server_gets(*DATA, COPY_DONE, SYNC)
    play.server_says(command_complete("COPY 2"), ready())
    play.client_gets(command_complete("COPY 2"), ready())
    play.is_idle()


@pytest.mark.parametrize("says", [copy_fail("enough"), COPY_DONE])
def test_a_copy_that_fails_lets_the_late_data_go(play: Screenplay, says: Frame) -> None:
    play.client_says(parse(COPY), bind(), execute())
    play.server_gets(parse(COPY), bind(), execute())
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN, error("22P04"))
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN, error("22P04"))
    play.client_says(*DATA, says, SYNC)
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.is_idle()


@pytest.mark.parametrize("late", [True, False])
def test_a_copy_that_fails_before_it_reads_answers_the_early_sync(play: Screenplay, late: bool) -> None:
    """A trigger before the statement may fail when CopyInResponse is out and nothing is read yet: Sync then ends the skipping."""
    play.client_says(parse(COPY), bind(), execute(), SYNC)
    play.server_gets(parse(COPY), bind(), execute(), SYNC)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN, error("P0001"))
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, COPY_IN, error("P0001"))
    if late:
        play.client_says(*DATA, COPY_DONE, SYNC)
        play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    if not late:
        play.client_says(*DATA, COPY_DONE, SYNC)
        play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.is_idle()
    play.client_says(query("SELECT 1"))
    play.server_gets(query("SELECT 1"))
    play.server_says(command_complete("SELECT 1"), ready())
    play.client_gets(command_complete("SELECT 1"), ready())
    play.server_says(ready())
    play.client_gets(Says("08P01", severity="FATAL"))


def test_two_copies_in_one_query(play: Screenplay) -> None:
    play.client_says(query(f"{COPY}; {COPY}"))
    play.server_gets(query(f"{COPY}; {COPY}"))
    for last in (False, True):
        play.server_says(COPY_IN)
        play.client_gets(COPY_IN)
        play.client_says(*DATA, COPY_DONE)
        play.server_gets(*DATA, COPY_DONE)
        play.server_says(command_complete("COPY 2"), *([ready()] if last else []))
        play.client_gets(command_complete("COPY 2"), *([ready()] if last else []))
    play.is_idle()


def test_a_copy_out_passes_with_what_comes_between(play: Screenplay) -> None:
    play.client_says(query("COPY log TO STDOUT"))
    play.server_gets(query("COPY log TO STDOUT"))
    said = [
        COPY_OUT,
        *DATA,
        notice("half way"),
        parameter_status("TimeZone", "UTC"),
        COPY_DONE,
        command_complete("COPY 2"),
        ready(),
    ]
    play.server_says(*said)
    play.client_gets(*said)
    play.is_idle()


def test_data_said_blindly_for_a_refused_copy_never_leaves(play: Screenplay) -> None:
    play.client_says(query("COPY patients TO PROGRAM 'x'"), copy_data(SECRET))
    play.server_gets(REFUSED_QUERY)
    play.server_says(error("42883"))
    play.client_says(copy_data(SECRET))
    play.server_says(ready())
    play.client_says(copy_data(SECRET), copy_fail(SECRET.decode()))
    play.client_gets(Says("0A000"), ready())
    play.is_idle()


def test_copy_data_behind_a_refused_copy_goes_nowhere_in_the_extended_protocol(play: Screenplay) -> None:
    play.client_says(parse("COPY patients TO PROGRAM 'x'"), bind(), execute(), copy_data(SECRET), SYNC, copy_data(SECRET))
    play.server_gets(refused_parse(), SYNC)
    play.server_says(error("42883"))
    play.client_says(copy_data(SECRET))
    play.server_says(ready())
    play.client_says(copy_data(SECRET), COPY_DONE)
    play.client_gets(Says("0A000"), ready())
    play.is_idle()


@pytest.mark.parametrize("frame", [query("SELECT 1"), parse("SELECT 1"), execute(), raw(b"F", b"\0\0\3\xba")])
def test_what_the_server_would_read_as_copy_data_closes_the_connection(play: Screenplay, frame: Frame) -> None:
    play.client_says(query(COPY))
    play.server_gets(query(COPY))
    play.server_says(COPY_IN)
    play.client_gets(COPY_IN)
    play.client_says(frame)
    play.server_gets(NO_END)
    play.server_says(error("57014"))
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()


def test_after_a_copy_the_path_can_be_asked_for(play: Screenplay) -> None:
    """The end of the copy, which nothing answers, must not look like a reply that is still awaited."""
    play.client_says(query("SET ROLE nurse"), query(COPY), *DATA, COPY_DONE)
    play.server_gets(query("SET ROLE nurse"), query(COPY), *DATA, COPY_DONE)
    play.server_says(command_complete("SET"), ready(), COPY_IN, command_complete("COPY 2"), ready())
    play.client_gets(command_complete("SET"), ready(), COPY_IN, command_complete("COPY 2"), ready())
    play.is_idle()
    play.client_says(query("SELECT ssn FROM patients"))
    play.tells_path()
    play.server_gets(query('SELECT ssn FROM "public".patients'))


def test_what_stands_for_another_statement_is_placed_in_turn() -> None:
    pipeline = Pipeline()
    pipeline.silent = True
    places = {"own": lambda at: at + 1 if at < 10 else None, "then": lambda at: at * 2}
    for own, then, expected in (("own", "then", 6), ("own", "", 3), ("", "then", 4)):
        pipeline.placing = places.get(then)
        pipeline.push(Expected(Kind.PARSE, placing=places.get(own)))
        placing = pipeline.queue[-1].placing
        assert placing is not None
        assert placing(2) == expected
        assert placing(20) == (40 if not own else None)
    pipeline.placing = None
    pipeline.push(Expected(Kind.PARSE))
    assert pipeline.queue[-1].placing is None
