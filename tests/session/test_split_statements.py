"""Split statements as a dialogue of three: client, server and engine."""

from __future__ import annotations

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import PhiproxyError, StatementFailed
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.session.state_parts import Holding
from phiproxy.session.substitutes_and_questions import FLUSH as OWN_FLUSH
from tests.clinic_model import CATALOG
from tests.session.frames import (
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    NO_DATA,
    PARSE_COMPLETE,
    PORTAL_SUSPENDED,
    SYNC,
    Frame,
    bind,
    close,
    column,
    command_complete,
    data_row,
    describe,
    error,
    execute,
    parameter_description,
    parse,
    query,
    ready,
    row_description,
)
from tests.session.screenplay import FULL_NAME, REFUSED_BIND, SECRET, Says, Screenplay, envelope, refused_parse
from tests.session.split_play import COMPUTATION, SplitPlay, settings_question

TEXT = "SELECT id, full_name FROM patients WHERE full_name ILIKE $1 ORDER BY full_name"
PATIENTS_RELATION = CATALOG.by_name["public", "patients"]
TABLE = PATIENTS_RELATION.oid
ATTNUM = {c.name: c.attnum for c in PATIENTS_RELATION.columns}
COLUMNS = (column("id", 23), column("full_name"))
SHOWN = (column("id", 23, table=TABLE, attnum=ATTNUM["id"]), column("full_name", table=TABLE, attnum=ATTNUM["full_name"]))
SOURCE_COLUMNS = (SHOWN[0], SHOWN[1]._replace(type_oid=17))
NAME = SECRET


class Busy(PhiproxyError, sqlstate="57014", anchor="err-engine"):
    """No session of the engine."""


@pytest.fixture
def play() -> SplitPlay:
    return SplitPlay()


def source(play: SplitPlay) -> str:
    """Return the text of the source that the server was sent last."""
    sent, play.session.to_server = b"".join(play.session.to_server), []
    play.sent_to_server += sent
    assert sent[:1] == b"P"
    return sent[6:].partition(b"\0")[0].decode()


def words(state: bytes, text: bytes) -> list[tuple[int, bytes]]:
    return [(ord("S"), b"ERROR"), (ord("V"), b"ERROR"), (ord("C"), state), (ord("M"), text)]


def stored(number: bytes, name: bytes) -> Frame:
    return data_row(number, envelope(FULL_NAME, name))


def prepared(play: SplitPlay) -> None:
    """Parse it, with the engine's description."""
    play.client_says(parse(TEXT))
    described = play.engine_describes(parameter_description(25), row_description(*COLUMNS))
    assert b"ILIKE" in b"".join(described.rest.parts)
    text = source(play)
    assert "ILIKE" not in text
    assert "ORDER BY" not in text


def bound(play: SplitPlay, *behind: Frame, results: tuple[int, ...] = ()) -> None:
    """Parse, Bind, and what comes behind up to the first Execute, for which a session of the engine is needed."""
    prepared(play)
    play.client_says(bind(NAME, results=results), *behind)
    play.server_gets(bind(results=(1, 1)))


def executed(play: SplitPlay) -> None:
    """The engine gives a session, the source is executed; Parse and Bind were answered."""
    play.engine_enters()
    play.asks_and_executes(execute(), PARSE_COMPLETE, BIND_COMPLETE)
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE)


def test_parse_describe_execute(play: SplitPlay) -> None:
    prepared(play)
    play.client_says(describe(kind="S"), bind(NAME, results=(1,)), describe(), execute(), SYNC)
    play.server_gets(describe(kind="S"), bind(results=(1, 1)), describe())
    entered = play.engine_enters()
    assert entered.rest.oids == (25,)
    in_binary = [row_description(*(c._replace(format=1) for c in of)) for of in (SOURCE_COLUMNS, SHOWN)]
    before = (PARSE_COMPLETE, parameter_description(), row_description(*SOURCE_COLUMNS), BIND_COMPLETE, in_binary[0])
    play.asks_and_executes(execute(), *before)
    play.client_gets(PARSE_COMPLETE, parameter_description(25), row_description(*SHOWN), BIND_COMPLETE, in_binary[1])
    play.server_says(stored(b"\0\0\0\1", NAME), stored(b"\0\0\0\2", b"Ada"), command_complete("SELECT 2"))
    results = play.engine_is_given([data_row(b"\0\0\0\1", NAME), data_row(b"\0\0\0\2", b"Ada")], last=True)
    assert results is not None
    assert (list(results.values), results.result_formats, results.limit) == ([NAME], (1,), 0)
    play.client_gets()
    play.engine_says(row_description(*COLUMNS) + data_row(b"\0\0\0\1", NAME), command_complete("SELECT 1"))
    play.client_gets(data_row(b"\0\0\0\1", NAME), command_complete("SELECT 1"))
    assert play.released() == [COMPUTATION]
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.is_idle()
    play.ends()


def test_nothing_behind_it_is_sent_before_the_engine_has_said_all(play: SplitPlay) -> None:
    bound(play, execute(), parse("SELECT 1", "behind"), SYNC)
    executed(play)
    play.server_says(stored(b"\0\0\0\1", NAME))
    play.engine_is_given([data_row(b"\0\0\0\1", NAME)], last=False)
    play.engine_says()
    play.server_says(command_complete("SELECT 1"))
    play.server_gets()
    play.engine_is_given([], last=True)
    play.engine_says(row_description(*COLUMNS), command_complete("SELECT 0"))
    play.client_gets(command_complete("SELECT 0"))
    play.server_gets(parse("SELECT 1", "behind"), SYNC)
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    play.released()
    play.ends()


def test_the_engine_refuses_the_statement(play: SplitPlay) -> None:
    play.client_says(parse(TEXT), bind(NAME), execute(), SYNC)
    failed = StatementFailed(
        [(ord(c), v) for c, v in zip("SVCM", (b"ERROR", b"ERROR", b"42883", b"no such operator"), strict=True)]
    )
    play.engine_describes(failure=failed)
    play.server_gets(refused_parse(), SYNC)
    play.server_says(error("42883"), ready())
    play.client_gets(Says("42883", "no such operator"), ready())
    play.ends()


def test_the_engine_fails(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    executed(play)
    play.server_says(stored(b"\0\0\0\1", NAME), command_complete("SELECT 1"))
    play.engine_is_given([data_row(b"\0\0\0\1", NAME)], last=True)
    play.engine_says(failure=StatementFailed(words(b"22012", b"division by zero")))
    assert play.released() == [COMPUTATION]
    play.server_gets(REFUSED_BIND, SYNC)
    play.client_gets()
    play.server_says(error("26000"), ready("E"))
    play.client_gets(Says("22012", "division by zero"), ready("E"))
    play.ends()


def test_no_session_of_the_engine_becomes_free(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    play.engine_enters(Busy("no session of the engine became free"))
    play.server_gets(REFUSED_BIND, SYNC)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, error("26000"), ready())
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, Says("57014", "no session"), ready())
    play.ends()


def test_the_source_fails(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    executed(play)
    play.server_says(stored(b"\0\0\0\1", NAME))
    play.engine_is_given([data_row(b"\0\0\0\1", NAME)], last=False)
    play.engine_says()
    play.server_says(error("57014", "canceling statement", P="9"))
    assert play.released() == [COMPUTATION]
    play.client_gets(Says("57014", "canceling", position=None))
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.ends()


def test_too_many_rows_end_the_source(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    executed(play)
    play.server_says(stored(b"\0\0\0\1", NAME))
    play.engine_says(failure=Busy("too many"))
    play.server_says(stored(b"\0\0\0\2", NAME), error("57014", "canceling statement"))
    play.client_gets(Says("57014", "too many"))
    play.released()
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.ends()


def test_a_row_that_does_not_open(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    executed(play)
    play.server_says(data_row(b"\0\0\0\1", b"nothing that was sealed"), stored(b"\0\0\0\2", NAME), command_complete("SELECT 2"))
    play.released()
    play.server_gets(REFUSED_BIND, SYNC)
    play.server_says(error("26000"), ready())
    play.client_gets(Says("XX001"), ready())
    assert play.session.counters.open_failures == 1
    play.ends()


def test_a_key_that_does_not_come(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    executed(play)
    database = play.database
    assert database is not None
    ring = Keyring(lambda: 0.0)
    database.planner.ciphers = Ciphers(ring)
    play.server_says(stored(b"\0\0\0\1", NAME), stored(b"\0\0\0\2", NAME), command_complete("SELECT 2"))
    assert play.needs_keys()
    play.resumes(Busy("the key does not come"))
    play.released()
    play.server_gets(REFUSED_BIND, SYNC)
    play.server_says(error("26000"), ready())
    play.client_gets(Says("57014", "the key does not come"), ready())
    play.is_idle()
    play.ends()


def test_a_long_row_of_a_source_is_the_engines(play: SplitPlay) -> None:
    """Also where nothing in it is protected: long rows that are shown may pass before they are whole."""
    text = "SELECT count(upper(full_name)) FROM patients"
    play.client_says(query(text))
    source(play)
    play.engine_enters()
    play.asks_and_executes(execute(), PARSE_COMPLETE, BIND_COMPLETE)
    play.session.pipeline.queue[0].columns = None  # as of a source without protected columns
    row = data_row(b"x" * 300_000)
    for begin in range(0, len(row), 60_000):
        play.server_says(row[begin : begin + 60_000])
        play.client_gets()
    play.engine_is_given([row], last=False)
    play.engine_says()
    play.server_says(command_complete("SELECT 1"))
    play.engine_says(row_description(column("count", 20)) + data_row(b"1") + command_complete("SELECT 1"))
    play.client_gets(row_description(column("count", 20)), data_row(b"1"), command_complete("SELECT 1"))
    play.released()
    play.server_gets(close("", "P"), close(""), SYNC)
    play.server_says(CLOSE_COMPLETE, CLOSE_COMPLETE, ready())
    play.client_gets(ready())
    play.ends()


def test_the_settings_cannot_be_asked_for(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    play.engine_enters()
    play.server_gets(*settings_question(), execute(), OWN_FLUSH)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, CLOSE_COMPLETE, error("57014", "canceling statement"))
    play.client_gets(PARSE_COMPLETE, BIND_COMPLETE, Says("57014", "canceling"))
    assert play.released() == [COMPUTATION]
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.is_idle()
    play.ends()


def test_the_server_refuses_the_parameters(play: SplitPlay) -> None:
    bound(play, execute(), SYNC)
    play.engine_enters()
    play.server_gets(*settings_question(), execute(), OWN_FLUSH)
    play.server_says(PARSE_COMPLETE, error("22P02", "invalid input"))
    play.client_gets(PARSE_COMPLETE, Says("22P02", "invalid input"))
    assert play.released() == [COMPUTATION]
    play.server_gets(SYNC)
    play.server_says(ready())
    play.client_gets(ready())
    play.is_idle()
    play.ends()


def test_what_is_executed_before_it_is_waited_for(play: SplitPlay) -> None:
    prepared(play)
    play.server_says(PARSE_COMPLETE)
    play.client_gets(PARSE_COMPLETE)
    one = (bind(statement="one", portal="one"), execute("one"))
    play.client_says(parse("SELECT 1", "one"), *one, bind(NAME), execute(), *one, bind(NAME), execute(), SYNC)
    play.server_gets(parse("SELECT 1", "one"), *one, bind(results=(1, 1)), OWN_FLUSH)
    play.server_says(PARSE_COMPLETE)
    play.client_gets(PARSE_COMPLETE)
    for behind in ([*one, bind(results=(1, 1)), OWN_FLUSH], [SYNC]):
        play.server_says(BIND_COMPLETE, data_row(b"1"), command_complete("SELECT 1"))
        play.client_gets(BIND_COMPLETE, data_row(b"1"), command_complete("SELECT 1"))
        play.engine_enters()
        play.asks_and_executes(execute(), BIND_COMPLETE)
        play.server_says(command_complete("SELECT 0"))
        play.engine_says(row_description(*COLUMNS) + command_complete("SELECT 0"))
        play.client_gets(BIND_COMPLETE, command_complete("SELECT 0"))
        play.server_gets(*behind)
    play.server_says(ready())
    play.client_gets(ready())
    play.released()
    play.ends()


def test_in_parts_and_closed(play: SplitPlay) -> None:
    bound(play, execute(limit=1), execute(limit=1), close("", "P"), SYNC)
    executed(play)
    play.server_says(stored(b"\0\0\0\1", NAME), command_complete("SELECT 1"))
    results = play.engine_is_given([data_row(b"\0\0\0\1", NAME)], last=True)
    assert results is not None
    assert (results.limit, results.suspended) == (1, False)
    play.engine_says(row_description(*COLUMNS) + data_row(b"1", NAME) + PORTAL_SUSPENDED)
    play.client_gets(data_row(b"1", NAME), PORTAL_SUSPENDED)
    # the server says that the portal is there, and what values are to look like now
    play.asks_and_executes(execute())
    play.server_says(command_complete("SELECT 0"))
    results = play.engine_is_given([], last=True)
    assert results is not None
    assert (results.limit, results.suspended) == (1, True)
    play.engine_says(data_row(b"2", NAME) + PORTAL_SUSPENDED)
    play.client_gets(data_row(b"2", NAME), PORTAL_SUSPENDED)
    assert play.released() == []
    play.server_gets(close("", "P"), SYNC)
    play.server_says(CLOSE_COMPLETE, ready())
    play.client_gets(CLOSE_COMPLETE, ready())
    assert play.released() == [COMPUTATION]
    play.ends()


def test_a_portal_that_was_shown_whole_is_at_its_end(play: SplitPlay) -> None:
    bound(play, execute(), execute(), SYNC)
    executed(play)
    play.server_says(command_complete("SELECT 0"))
    play.engine_says(row_description(*COLUMNS) + command_complete("SELECT 0"))
    play.server_gets(execute(), SYNC)
    play.server_says(command_complete("SELECT 0"), ready())
    play.client_gets(command_complete("SELECT 0"), command_complete("SELECT 0"), ready())
    play.released()
    play.ends()


@pytest.mark.parametrize("holds", [False, True])
def test_a_simple_query(play: SplitPlay, holds: bool) -> None:
    """Also while other tables are switched: its parts are one statement of the client's, as it is itself."""
    if holds:
        play.session.fence.holding = Holding(lambda text: b"visits" in text)
    text = "SELECT id, full_name FROM patients ORDER BY full_name"
    play.client_says(query(text))
    sent = source(play)
    assert "ORDER BY" not in sent
    play.engine_enters()
    play.asks_and_executes(execute(), PARSE_COMPLETE, BIND_COMPLETE)
    play.server_says(stored(b"\0\0\0\1", NAME), command_complete("SELECT 1"))
    play.engine_says(row_description(*COLUMNS) + data_row(b"1", NAME) + command_complete("SELECT 1"))
    play.client_gets(row_description(*SHOWN), data_row(b"1", NAME), command_complete("SELECT 1"))
    play.released()
    play.server_gets(close("", "P"), close(""), SYNC)
    play.server_says(CLOSE_COMPLETE, CLOSE_COMPLETE, ready())
    play.client_gets(ready())
    play.is_idle()
    play.ends()


def test_without_an_engine_it_is_refused_with_a_hint() -> None:
    with Screenplay() as play:
        play.client_says(parse(TEXT), SYNC)
        play.server_gets(refused_parse(), SYNC)
        play.server_says(error("42883"), ready())
        play.client_gets(Says("0A000"), ready())


def test_no_data_for_what_stands_around_a_query(play: SplitPlay) -> None:
    play.client_says(parse("COPY (SELECT upper(full_name) FROM patients) TO STDOUT"), describe(kind="S"), SYNC)
    source(play)
    play.server_says(PARSE_COMPLETE, parameter_description(), row_description(SOURCE_COLUMNS[1]), ready())
    play.client_gets(PARSE_COMPLETE, parameter_description(), NO_DATA, ready())
    play.ends()
