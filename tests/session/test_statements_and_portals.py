"""Statements and portals by name, in the one namespace of each that SQL and protocol share."""

from __future__ import annotations

import pytest

from phiproxy.plan.statement_plan import StatementPlan
from phiproxy.session.state_parts import SyncGroups
from phiproxy.session.statements_and_portals import Names, Portal, Prepared
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    Frame,
    bind,
    close,
    command_complete,
    data_row,
    error,
    execute,
    parse,
    query,
    ready,
)
from tests.session.screenplay import REFUSED_BIND, SECRET, SSN, Screenplay, envelope, tag

PLAN = StatementPlan(b"SELECT 1", b"SELECT 1", identity=True)


SELECT = "SELECT ssn FROM public.patients"


WRITE = "INSERT INTO log (msg) VALUES ($1)"


SEARCH = "SELECT id FROM public.patients WHERE ssn = $1"


PHYSICAL = "SELECT id FROM public.patients WHERE pg_catalog.substring(ssn, 13, 16) = $1"


def prepared() -> Prepared:
    return Prepared(PLAN, (), (1, None))


def test_what_was_there_before_comes_back() -> None:
    names = Names(SyncGroups())
    first, second = prepared(), prepared()
    undo_first = names.prepare(b"s", first)
    undo_second = names.prepare(b"s", second)
    assert names.statements[b"s"] is second
    undo_second.apply()
    assert names.statements[b"s"] is first
    undo = names.forget_statement(b"s")
    assert not names.statements
    undo.apply()
    assert names.statements[b"s"] is first
    undo_first.apply()
    assert not names.statements


def test_the_end_of_a_transaction_takes_the_portals_of_its_groups() -> None:
    names = Names(SyncGroups())
    for group in range(3):
        names.bind(b"p%d" % group, Portal(PLAN, None, group))
    names.end_transaction(1)
    assert list(names.portals) == [b"p2"]


def test_a_change_of_a_name_may_be_undone_between_its_group_and_the_answer_to_it() -> None:
    groups = SyncGroups()
    names = Names(groups)
    names.prepare(b"s", prepared())
    names.forget_portal(b"p")
    assert not names.may_be_undone("S", b"s")
    groups.number = 1
    assert names.may_be_undone("S", b"s")
    assert names.may_be_undone("P", b"p")
    assert not names.may_be_undone("P", b"s")
    groups.answered = 0
    assert not names.may_be_undone("S", b"s")


def test_changes_of_names_are_forgotten_once_nothing_is_awaited(play: Screenplay) -> None:
    for i in range(1000):
        play.client_says(close(f"s{i}"))
    play.client_says(SYNC)
    play.server_gets(*(close(f"s{i}") for i in range(1000)), SYNC)
    assert len(play.session.names.changed) == 1000
    play.server_says(*[CLOSE_COMPLETE] * 1000, ready())
    play.client_gets(*[CLOSE_COMPLETE] * 1000, ready())
    assert not play.session.names.changed


def test_a_bind_waits_until_it_is_known_which_statement_it_gets(play: Screenplay) -> None:
    """The second Parse may be skipped by an error that is under way; a wrong guess would show envelopes."""
    play.client_says(parse(SEARCH), SYNC)
    play.server_gets(parse(PHYSICAL, oids=(17,)), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    play.client_says(parse("SELECT boom()", "b"), parse(WRITE), SYNC, bind(SECRET), execute(), SYNC)
    play.server_gets(parse("SELECT boom()", "b"), parse(WRITE), SYNC)
    play.server_says(error("42883"), ready())
    play.client_gets(error("42883"), ready())
    play.server_gets(bind(tag(SSN, SECRET), formats=(1,)), execute(), SYNC)
    play.server_says(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.client_gets(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.is_idle()


def test_a_portal_of_an_unanswered_group_is_waited_for(play: Screenplay) -> None:
    play.client_says(query("BEGIN"), parse(SELECT), bind(portal="p"), SYNC, execute("p"), SYNC)
    play.server_gets(query("BEGIN"), parse(SELECT), bind(portal="p", results=(1,)), SYNC)
    play.server_says(command_complete("BEGIN"), ready("T"), PARSE_COMPLETE, BIND_COMPLETE, ready("T"))
    play.client_gets(command_complete("BEGIN"), ready("T"), PARSE_COMPLETE, BIND_COMPLETE, ready("T"))
    play.server_gets(execute("p"), SYNC)
    play.server_says(data_row(envelope(SSN, SECRET)), command_complete("SELECT 1"), ready("T"))
    play.client_gets(data_row(SECRET), command_complete("SELECT 1"), ready("T"))


def prepares(play: Screenplay, text: str = SELECT, name: str = "s") -> None:
    play.client_says(parse(text, name), SYNC)
    play.session.to_server.clear()
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())


@pytest.mark.parametrize("ends", [query("SELECT 1"), query(SELECT), query("")])
def test_a_simple_query_drops_the_unnamed_statement(play: Screenplay, ends: Frame) -> None:
    prepares(play, name="")
    play.client_says(ends)
    play.server_gets(ends)
    play.server_says(command_complete("SELECT 0"), ready())
    play.client_gets(command_complete("SELECT 0"), ready())
    play.client_says(bind(), SYNC)
    play.server_gets(REFUSED_BIND, SYNC)


def test_closing_a_statement_leaves_its_portals(play: Screenplay) -> None:
    play.client_says(parse(SELECT, "s"), bind(statement="s", portal="p"), close("s"), execute("p"), SYNC)
    play.server_gets(parse(SELECT, "s"), bind(statement="s", portal="p", results=(1,)), close("s"), execute("p"), SYNC)
    replies = [PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE]
    play.server_says(*replies, data_row(envelope(SSN, SECRET)), command_complete("SELECT 1"), ready())
    play.client_gets(*replies, data_row(SECRET), command_complete("SELECT 1"), ready())
