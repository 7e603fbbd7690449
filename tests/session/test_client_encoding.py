"""The client's encoding in a conversation: texts and values there and back, and changes of it that are not answered yet."""

from __future__ import annotations

import pytest

from phiproxy.effects import Effects
from phiproxy.errors import StatementRefused
from phiproxy.plan.statement_plan import ScriptPart
from phiproxy.session.client_encoding import check_parts
from tests.session.frames import (
    BIND_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    error,
    execute,
    parameter_status,
    parse,
    query,
    ready,
)
from tests.session.screenplay import REFUSED_BIND, REFUSED_QUERY, Says, Screenplay

SET = query("SET client_encoding TO latin1")
LATIN = parameter_status("client_encoding", "LATIN1")
REFUSAL = error("42883", "function pg_catalog.phiproxy_refused() does not exist")
SELECT = "SELECT ssn FROM public.patients"


def speaks_latin1(play: Screenplay) -> None:
    play.client_says(SET)
    play.server_gets(SET)
    play.server_says(command_complete("SET"), LATIN, ready())
    play.client_gets(command_complete("SET"), LATIN, ready())


def latin(text: str) -> bytes:
    body = text.encode("latin-1") + b"\0"
    return b"Q" + (len(body) + 4).to_bytes(4, "big") + body


def test_what_touches_nothing_goes_on_as_it_came(play: Screenplay) -> None:
    speaks_latin1(play)
    play.client_says(latin("SELECT 'é'"))
    play.server_gets(latin("SELECT 'é'"))


def test_a_rewritten_text_is_in_the_clients_encoding(play: Screenplay) -> None:
    speaks_latin1(play)
    play.client_says(latin("SELECT 'é', ssn FROM patients"))
    play.server_gets(latin("SELECT 'é', ssn FROM \"public\".patients"))


def test_names_are_the_same_in_any_encoding(play: Screenplay) -> None:
    play.client_says(parse(SELECT, "é"), SYNC)
    play.server_gets(parse(SELECT, "é"), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    speaks_latin1(play)
    assert play.session.names.statements.keys() == {"é".encode()}
    play.client_says(latin('EXECUTE "é"'))
    play.server_gets(latin('EXECUTE "é"'))


def test_a_message_waits_for_the_answer_to_a_change(play: Screenplay) -> None:
    play.client_says(SET, latin("SELECT 'é', ssn FROM patients"))
    play.server_gets(SET)
    play.server_says(command_complete("SET"), LATIN, ready())
    play.client_gets(command_complete("SET"), LATIN, ready())
    play.server_gets(latin("SELECT 'é', ssn FROM \"public\".patients"))


def test_behind_a_change_in_the_same_group_nothing_protected_is_bound(play: Screenplay) -> None:
    play.client_says(parse(SELECT, "s"), SYNC)
    play.server_gets(parse(SELECT, "s"), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    said = [parse("SET client_encoding TO latin1"), bind(), execute()]
    play.client_says(*said, bind(statement="s"), execute(), SYNC)
    play.server_gets(*said, REFUSED_BIND, SYNC)
    done = [PARSE_COMPLETE, BIND_COMPLETE, command_complete("SET")]
    play.server_says(*done, error("26000"), LATIN, ready())
    play.client_gets(*done, Says("0A000", "client_encoding"), LATIN, ready())


def test_a_rollback_may_take_a_change_back(play: Screenplay) -> None:
    play.client_says(query("BEGIN; SET client_encoding TO latin1"))
    play.server_gets(query("BEGIN; SET client_encoding TO latin1"))
    play.server_says(command_complete("BEGIN"), command_complete("SET"), LATIN, ready("T"))
    play.client_gets(command_complete("BEGIN"), command_complete("SET"), LATIN, ready("T"))
    play.client_says(query("ROLLBACK"), query("SELECT 'é', ssn FROM patients"))
    play.server_gets(query("ROLLBACK"))
    back = parameter_status("client_encoding", "UTF8")
    play.server_says(command_complete("ROLLBACK"), back, ready())
    play.client_gets(command_complete("ROLLBACK"), back, ready())
    play.server_gets(query("SELECT 'é', ssn FROM \"public\".patients"))


def test_a_text_that_is_none_is_answered_as_the_server_would(play: Screenplay) -> None:
    status = parameter_status("client_encoding", "EUC_CN")
    play.server_says(status)
    play.client_gets(status)
    play.client_says(latin("SELECT 'é', ssn FROM patients"))
    play.server_gets(REFUSED_QUERY)
    play.server_says(REFUSAL, ready())
    play.client_gets(Says("22021", "EUC_CN"), ready())


def part(*, touches: bool = False, encoding: bool = False, transaction: bool = False) -> ScriptPart:
    return ScriptPart(None, touches, plain_select=False, effects=Effects(encoding=encoding, transaction=transaction))


def test_a_string_may_not_use_what_it_changes() -> None:
    check_parts([part(touches=True), part(encoding=True), part()], was_set=False)
    check_parts([part(transaction=True), part(touches=True)], was_set=False)
    for parts, was_set in (
        ([part(encoding=True), part(touches=True)], False),
        ([part(transaction=True), part(touches=True)], True),
    ):
        with pytest.raises(StatementRefused, match="client_encoding"):
            check_parts(parts, was_set=was_set)
