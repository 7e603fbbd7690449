"""A prepared statement that is split for the values that no index answers, and only for these, as a dialogue of three."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.plan.split_plan import EngineFacts
from phiproxy.plan.without_engine import WITH_ENGINE
from tests.clinic_model import CATALOG, INDEXED
from tests.plan.rings import full_ring
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    PARSE_COMPLETE,
    SYNC,
    bind,
    close,
    column,
    command_complete,
    data_row,
    error,
    error_fields,
    execute,
    parameter_description,
    parse,
    query,
    ready,
    row_description,
    split,
)
from tests.session.screenplay import REFUSED_BIND, FakeDatabase, Says, Screenplay
from tests.session.split_play import COMPUTATION, SplitPlay

TEXT = "SELECT id FROM patients WHERE full_name LIKE $1"
ANSWERED, REFUSED = b"Smi%", b"%mit%"
DESCRIPTION = (parameter_description(25), row_description(column("id", 23)))


@dataclass
class Play(SplitPlay):
    engine: bool = True

    def __post_init__(self) -> None:
        facts = EngineFacts() if self.engine else None
        self.database = FakeDatabase(Planner(INDEXED, CATALOG, Ciphers(full_ring(protection=INDEXED)), facts))
        Screenplay.__post_init__(self)

    def prepares(self, name: str) -> None:
        self.client_says(parse(TEXT, name), SYNC)
        self.sends()
        self.server_says(PARSE_COMPLETE, ready())
        self.client_gets(PARSE_COMPLETE, ready())

    def sends(self) -> bytes:
        sent, self.session.to_server = b"".join(self.session.to_server), []
        self.sent_to_server += sent
        return sent


@pytest.mark.parametrize("name", ["", "q"])
def test_a_value_that_no_index_answers_and_one_that_it_does(name: str) -> None:
    play = Play()
    play.prepares(name)
    play.client_says(bind(REFUSED, statement=name), execute(), SYNC)
    described = play.engine_describes(*DESCRIPTION)
    assert b"LIKE" in b"".join(described.rest.parts)
    sent = play.sends()
    assert REFUSED not in sent
    assert b"LIKE" not in sent
    assert sent.startswith(close(name) if name else b"P")
    closed = (CLOSE_COMPLETE,) if name else ()
    entered = play.engine_enters()
    assert entered.rest.oids == (25,)
    play.asks_and_executes(execute(), *closed, PARSE_COMPLETE, BIND_COMPLETE)
    play.client_gets(BIND_COMPLETE)
    play.server_says(command_complete("SELECT 0"))
    results = play.engine_is_given([], last=True)
    assert results is not None
    assert list(results.values) == [REFUSED]
    play.engine_says(row_description(column("id", 23)), data_row(b"1"), command_complete("SELECT 1"))
    play.client_gets(data_row(b"1"), command_complete("SELECT 1"))
    assert play.released() == [COMPUTATION]
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    # the next one is answered by tags again
    play.client_says(bind(ANSWERED, statement=name), execute(), SYNC)
    sent = play.sends()
    assert b"LIKE" not in sent
    assert b"substring" in sent
    play.server_says(*closed, PARSE_COMPLETE, BIND_COMPLETE, data_row(b"2"), command_complete("SELECT 1"), ready())
    play.client_gets(BIND_COMPLETE, data_row(b"2"), command_complete("SELECT 1"), ready())
    play.is_idle()
    play.ends()


def test_what_was_sent_before_is_awaited() -> None:
    play = Play()
    play.prepares("q")
    play.client_says(bind(ANSWERED, statement="q"), execute(), SYNC, bind(REFUSED, statement="q"), execute(), SYNC)
    play.sends()
    assert play.need is None
    play.server_says(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.client_gets(BIND_COMPLETE, command_complete("SELECT 0"), ready())
    play.engine_describes(*DESCRIPTION)
    assert play.sends().startswith(close("q"))


def test_in_a_failed_transaction_nothing_is_prepared() -> None:
    play = Play()
    play.prepares("q")
    play.client_says(query("BEGIN; SELECT 1 / 0"))
    play.sends()
    play.server_says(command_complete("BEGIN"), error("22012"), ready("E"))
    play.client_gets(command_complete("BEGIN"), Says("22012", ""), ready("E"))
    play.client_says(bind(REFUSED, statement="q"), SYNC)
    play.server_gets(REFUSED_BIND, SYNC)


def test_without_an_engine_it_is_refused() -> None:
    play = Play(engine=False)
    play.prepares("q")
    play.client_says(bind(REFUSED, statement="q"), SYNC)
    play.server_gets(REFUSED_BIND, SYNC)
    play.server_says(error("26000"), ready())
    (said, _) = split(b"".join(play.session.to_client))
    assert error_fields(said)["H"].endswith(WITH_ENGINE)
    play.client_gets(Says("0A000", "no blind index answers this pattern"), ready())
    play.ends()
