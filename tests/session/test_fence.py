"""A session whose proxy was not heard for too long looks again before it says that a statement names nothing protected."""

from __future__ import annotations

from phiproxy.errors import ProviderUnavailable
from phiproxy.session.core import NeedCatalog
from tests.session.frames import (
    BIND_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    command_complete,
    error,
    execute,
    parse,
    query,
    ready,
)
from tests.session.screenplay import FakeDatabase, Says, Screenplay

PLAIN = query("SELECT 1 FROM cities")
GROUP = (parse("SELECT 1 FROM cities", "s"), bind(statement="s"), execute(), SYNC)
DONE = (command_complete("SELECT 0"), ready())


def fence(play: Screenplay, until: float) -> None:
    assert isinstance(play.session.database, FakeDatabase)
    play.session.database.fence.until = until
    play.session.now = 10.0


def test_nothing_is_looked_at_again_in_time(play: Screenplay) -> None:
    fence(play, 10.0)
    play.client_says(PLAIN)
    play.server_gets(PLAIN)
    play.server_says(*DONE)
    play.client_gets(*DONE)


def test_the_catalogue_is_read_before_a_statement_goes_on(play: Screenplay) -> None:
    answers = {(PLAIN,): DONE, GROUP: (PARSE_COMPLETE, BIND_COMPLETE, *DONE)}
    for messages, answer in answers.items():
        fence(play, 9.0)
        play.client_says(*messages)
        assert play.need == NeedCatalog(changed=True)
        play.server_gets()
        fence(play, 11.0)
        play.resumes()
        play.server_gets(*messages)
        play.server_says(*answer)
        play.client_gets(*answer)


def test_each_statement_is_refused_while_the_catalogue_cannot_be_read(play: Screenplay) -> None:
    fence(play, 9.0)
    play.client_says(*GROUP, PLAIN)
    for _ in range(2):
        assert play.need == NeedCatalog(changed=True)
        play.resumes(ProviderUnavailable("the catalogue cannot be read"))
    assert b"cities" not in b"".join(play.session.to_server)
    play.session.to_server.clear()
    play.server_says(error("42883"), ready(), error("42883"), ready())
    play.client_gets(Says("57P03", "cannot be read"), ready(), Says("57P03", "cannot be read"), ready())
