"""The conversation as a whole: login, needs, a lease that is over, the search path, cutting of bytes, garbage."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.access.rules import AccessRules
from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import DataKeyWant, IndexKeyWant, ProviderUnavailable, WriteKeyWant
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.session.core import Session
from phiproxy.session.needs import NeedCatalog
from phiproxy.session.phases import Phase
from phiproxy.session.substitutes_and_questions import PATH_QUERY
from tests.clinic_model import CATALOG, PROTECTION
from tests.session.frames import (
    AUTHENTICATION_OK,
    BIND_COMPLETE,
    CLOSE_COMPLETE,
    FLUSH,
    PARSE_COMPLETE,
    SYNC,
    TERMINATE,
    bind,
    command_complete,
    data_row,
    error,
    execute,
    notice,
    parameter_status,
    parse,
    query,
    raw,
    ready,
    split,
)
from tests.session.screenplay import (
    REFUSED_BIND,
    REFUSED_QUERY,
    SECRET,
    SSN,
    FakeDatabase,
    Says,
    Screenplay,
    envelope,
    fill,
    path_answer,
    sealed,
)

SELECT = "SELECT ssn, city FROM public.patients"
UNQUALIFIED = "SELECT ssn, city FROM patients"
QUALIFIED = 'SELECT ssn, city FROM "public".patients'
INSERT = "INSERT INTO public.patients (ssn) VALUES ($1)"
REFUSAL = error("42883")
SET_ROLE = "SET ROLE nurse"


def keyless() -> tuple[Screenplay, Keyring]:
    ring = Keyring(lambda: 0.0)
    return Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, Ciphers(ring)))), ring


# -- needs ---------------------------------------------------------------------------------------------------------------------


def test_keys_for_writing_are_fetched_and_the_same_frame_is_taken_again() -> None:
    play, ring = keyless()
    play.client_says(parse(INSERT), bind(SECRET), execute(), SYNC, query("SELECT 1"))
    play.server_gets(parse(INSERT, oids=(17,)))
    assert play.needs_keys() == {IndexKeyWant(1, 0)}
    ring.put_index_key(1, 0, b"\x81" * 32, 1, 1e9)
    play.resumes()
    assert play.needs_keys() == {WriteKeyWant("t:public.patients", 1)}
    play.server_gets()
    fill(ring)
    play.resumes()
    play.server_gets(bind(sealed(SECRET), formats=(1,)), execute(), SYNC, query("SELECT 1"))
    play.ends()


def test_keys_that_do_not_come_refuse_the_frame_in_its_place() -> None:
    play, _ = keyless()
    play.client_says(parse(INSERT), bind(SECRET), execute(), SYNC, query("SELECT 1"))
    assert play.needs_keys()
    play.resumes(ProviderUnavailable("the key provider does not answer"))
    play.server_gets(parse(INSERT, oids=(17,)), REFUSED_BIND, SYNC, query("SELECT 1"))
    play.server_says(PARSE_COMPLETE, error("26000"), ready())
    play.client_gets(PARSE_COMPLETE, Says("57P03"), ready())
    play.ends()


def test_nothing_overtakes_a_frame_that_waits_on_either_side() -> None:
    play, ring = keyless()
    play.client_says(query("SELECT 1"), query(SELECT))
    play.server_gets(query("SELECT 1"), query(SELECT))
    row = data_row(b"\\x" + envelope(SSN, SECRET).hex().encode(), None)
    play.server_says(command_complete("SELECT 1"), ready(), row, command_complete("SELECT 1"), ready())
    (want,) = play.needs_keys()
    assert isinstance(want, DataKeyWant)
    play.client_gets(command_complete("SELECT 1"), ready())
    assert play.session.from_client(query("SELECT 2")) is None
    assert play.session.from_server(raw(b"A", b"\0\0\0\1c\0\0")) is None
    play.server_gets()
    play.client_gets()
    fill(ring)
    play.resumes()
    play.client_gets(data_row(SECRET, None), command_complete("SELECT 1"), ready(), raw(b"A", b"\0\0\0\1c\0\0"))
    play.server_gets(query("SELECT 2"))
    play.ends()


MISTYPED = f"SELECT id FROM pacients WHERE ssn = '{SECRET.decode()}'"


def test_a_name_that_is_not_known_is_looked_for_once_in_a_fresh_catalogue(play: Screenplay) -> None:
    play.client_says(query(MISTYPED), query(SELECT))
    play.needs_catalog()
    play.server_gets()
    play.resumes()
    play.server_gets(REFUSED_QUERY, query(SELECT))
    play.server_says(REFUSAL, ready())
    play.client_gets(Says("42P01"), ready())


def test_each_frame_has_a_fresh_catalogue_of_its_own(play: Screenplay) -> None:
    play.client_says(query(MISTYPED), query(MISTYPED))
    play.needs_catalog()
    play.resumes()
    play.needs_catalog()
    play.resumes()
    play.server_gets(REFUSED_QUERY, REFUSED_QUERY)


def test_a_catalogue_that_cannot_be_read_refuses_the_frame(play: Screenplay) -> None:
    play.client_says(query(MISTYPED), query(MISTYPED))
    play.needs_catalog()
    play.resumes(ProviderUnavailable("the database does not answer"))
    play.server_gets(REFUSED_QUERY)
    play.needs_catalog()
    play.resumes()
    play.server_gets(REFUSED_QUERY)
    play.server_says(REFUSAL, ready())
    play.client_gets(Says("57P03"), ready())


def test_a_need_of_the_client_that_arises_from_the_servers_bytes_is_the_clients(play: Screenplay) -> None:
    """The frame was held back; what unblocks it is an answer of the server, and the refusal still goes into its place."""
    play.client_says(query(SET_ROLE))
    play.server_gets(query(SET_ROLE))
    play.client_says(query(UNQUALIFIED), query(MISTYPED))
    play.server_gets()
    play.server_says(command_complete("SET"), ready())
    play.client_gets(command_complete("SET"), ready())
    play.server_gets(*split(PATH_QUERY))
    play.server_says(*path_answer(("pg_catalog", "public")))
    play.needs_catalog()
    play.resumes()
    play.server_gets(query(QUALIFIED), REFUSED_QUERY)
    play.server_says(command_complete("SELECT 0"), ready(), REFUSAL, ready())
    play.client_gets(command_complete("SELECT 0"), ready(), Says("42P01"), ready())


# -- the search path -----------------------------------------------------------------------------------------------------------


def test_the_path_is_asked_for_at_login_before_the_client_may_speak() -> None:
    with Screenplay(log_in=False) as play:
        play.server_says(AUTHENTICATION_OK, parameter_status("server_version", "17.2"), ready())
        play.client_gets(AUTHENTICATION_OK, parameter_status("server_version", "17.2"))
        play.client_says(query(UNQUALIFIED))
        play.tells_path()
        play.client_gets(ready())
        play.server_gets(query(QUALIFIED))


@pytest.mark.parametrize(
    "changes", [SET_ROLE, "SET search_path TO archive", "RESET ALL", "SELECT set_config('search_path', 'x', true)"]
)
def test_the_path_is_asked_for_again_after_what_may_change_it(play: Screenplay, changes: str) -> None:
    play.client_says(query(changes))
    play.server_gets(query(changes))
    play.server_says(command_complete("SET"), ready())
    play.client_gets(command_complete("SET"), ready())
    play.client_says(parse(UNQUALIFIED), SYNC)
    play.tells_path(("pg_catalog", "archive"))
    play.server_gets(parse('SELECT ssn, city FROM "archive".patients'), SYNC)


def test_the_path_is_asked_for_where_it_is_needed_and_before_a_transaction_begins(play: Screenplay) -> None:
    """In a transaction the question would take its snapshot."""
    need_none = (SET_ROLE, "SELECT 1 FROM cities", "CREATE TEMP TABLE rooms (id int)", "GRANT SELECT ON cities TO nurse", SET_ROLE)
    for begins in (query("BEGIN"), query("/* a */ BEGIN"), query("SET ROLE nurse; BEGIN"), parse("SELECT 1 FROM cities") + SYNC):
        for text in need_none:
            play.client_says(query(text))
            play.server_gets(query(text))
            play.server_says(command_complete("SET"), ready())
            play.client_gets(command_complete("SET"), ready())
        play.client_says(begins)
        play.tells_path()
        play.server_gets(*split(begins))
        play.server_says(*([PARSE_COMPLETE] if begins[:1] == b"P" else [command_complete("BEGIN")]), ready())
        play.session.to_client.clear()


def test_the_path_is_asked_for_before_a_transaction_begins_where_others_have_changed_schemas(play: Screenplay) -> None:
    assert isinstance(play.database, FakeDatabase)
    prepares = parse("BEGIN", "begins") + SYNC
    play.client_says(prepares)
    play.server_gets(*split(prepares))
    play.server_says(PARSE_COMPLETE, ready())
    play.client_gets(PARSE_COMPLETE, ready())
    runs = bind(statement="begins") + execute() + SYNC
    for begins in (query("BEGIN"), parse("BEGIN") + bind() + execute() + SYNC, runs):
        play.database.schemas_changed()
        play.client_says(begins)
        play.tells_path()
        play.server_gets(*split(begins))
        parsed = [PARSE_COMPLETE] if begins[:1] == b"P" else []
        bound = [] if begins[:1] == b"Q" else [BIND_COMPLETE]
        play.server_says(*parsed, *bound, command_complete("BEGIN"), ready())
        play.session.to_client.clear()


def test_the_path_is_asked_for_once_more_where_a_schema_has_come_meanwhile(play: Screenplay) -> None:
    assert play.database is not None
    play.client_says(query(SET_ROLE))
    play.server_gets(query(SET_ROLE))
    play.server_says(command_complete("SET"), ready())
    play.client_gets(command_complete("SET"), ready())
    play.client_says(query(UNQUALIFIED))
    more = frozenset({*play.database.planner.schemas, "other"})
    play.database.planner = Planner(PROTECTION, dataclasses.replace(CATALOG, schemas=more), play.database.planner.ciphers)
    play.database.generation += 1
    play.tells_path()
    play.tells_path(("pg_catalog", "archive"))
    play.server_gets(query('SELECT ssn, city FROM "archive".patients'))


class Observing:
    """Takes statements over the table cities, whose columns are in clear yet."""

    def __init__(self) -> None:
        self.paths: list[tuple[str, ...] | None] = []

    def mentions(self, text: bytes) -> bool:
        return b"cities" in text

    def note(self, text: bytes, oids: tuple[int, ...], path: tuple[str, ...] | None) -> None:
        self.paths.append(path)


def test_the_path_is_asked_for_before_what_is_observed() -> None:
    observer = Observing()
    with Screenplay(FakeDatabase(observer=observer)) as play:
        play.client_says(query(SET_ROLE))
        play.server_gets(query(SET_ROLE))
        play.server_says(command_complete("SET"), ready())
        play.client_gets(command_complete("SET"), ready())
        play.client_says(query("SELECT 1 FROM cities"))
        play.tells_path(("pg_catalog", "archive"))
        play.server_gets(query("SELECT 1 FROM cities"))
    assert observer.paths == [("pg_catalog", "archive")]


def test_the_path_is_asked_for_at_once_where_it_matters_who_acts() -> None:
    with Screenplay(FakeDatabase(access=AccessRules())) as play:
        play.client_says(query(SET_ROLE))
        play.server_gets(query(SET_ROLE))
        play.server_says(command_complete("SET"), ready())
        play.tells_path()
        play.client_gets(command_complete("SET"), ready())


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT", "ROLLBACK TO a"])
def test_the_path_of_a_transaction_is_not_believed_after_it(play: Screenplay, end: str) -> None:
    status = "T" if "TO" in end else "I"
    play.client_says(query("BEGIN"), query("SET LOCAL ROLE nurse"))
    play.server_gets(query("BEGIN"), query("SET LOCAL ROLE nurse"))
    replies = [command_complete("BEGIN"), ready("T"), command_complete("SET"), ready("T")]
    play.server_says(*replies)
    play.client_gets(*replies)
    play.client_says(query(UNQUALIFIED))
    play.tells_path(("pg_catalog", "archive"), "T")
    play.server_gets(query('SELECT ssn, city FROM "archive".patients'))
    play.server_says(command_complete("SELECT 0"), ready("T"))
    play.client_gets(command_complete("SELECT 0"), ready("T"))
    play.client_says(query(end))
    play.server_gets(query(end))
    play.server_says(command_complete(end), ready(status))
    play.client_gets(command_complete(end), ready(status))
    play.client_says(query(UNQUALIFIED))
    play.tells_path(status=status)
    play.server_gets(query(QUALIFIED))


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT", "ROLLBACK TO a"])
def test_a_constant_path_is_followed_until_its_transaction_ends(play: Screenplay, end: str) -> None:
    status = "T" if "TO" in end else "I"
    said = [query("BEGIN"), query("SET LOCAL search_path TO archive"), query(UNQUALIFIED)]
    play.client_says(*said)
    # It may fail yet, so what is said behind it waits.
    play.server_gets(*said[:2])
    replies = [command_complete("BEGIN"), ready("T"), command_complete("SET"), ready("T")]
    play.server_says(*replies)
    play.client_gets(*replies)
    play.server_gets(query('SELECT ssn, city FROM "archive".patients'))
    play.client_says(query(end), query(UNQUALIFIED))
    play.server_gets(query(end))
    play.server_says(command_complete("SELECT 0"), ready("T"), command_complete(end), ready(status))
    play.tells_path(status=status)
    play.session.to_client.clear()
    play.server_gets(query(QUALIFIED))


def test_a_path_that_was_not_set_after_all_is_not_believed(play: Screenplay) -> None:
    play.client_says(
        query("BEGIN"), parse("SELECT boom()"), parse("SET search_path TO archive", "s"), bind(statement="s"), execute()
    )
    play.client_says(parse(UNQUALIFIED), SYNC, query("ROLLBACK"), query(UNQUALIFIED))
    play.session.to_server.clear()
    play.server_says(command_complete("BEGIN"), ready("T"), error("42883"), ready("E"), command_complete("ROLLBACK"), ready())
    play.tells_path()
    play.session.to_client.clear()
    play.server_gets(query(QUALIFIED))


def test_postgresql_18_tells_of_a_path_that_changed(play: Screenplay) -> None:
    play.client_says(query("SELECT f()"))
    play.server_gets(query("SELECT f()"))
    told = parameter_status("search_path", "archive")
    play.server_says(command_complete("SELECT 1"), told, ready())
    play.client_gets(command_complete("SELECT 1"), told, ready())
    play.client_says(query(UNQUALIFIED))
    play.tells_path(("pg_catalog", "archive"))
    play.server_gets(query('SELECT ssn, city FROM "archive".patients'))


def test_a_pipelined_set_local_is_remembered_although_an_earlier_group_ends(play: Screenplay) -> None:
    said = [query("SELECT 1"), query("BEGIN; SET LOCAL ROLE nurse")]
    play.client_says(*said)
    play.server_gets(*said)
    play.server_says(command_complete("SELECT 1"), ready("I"), command_complete("BEGIN"), command_complete("SET"), ready("T"))
    play.session.to_client.clear()
    play.client_says(query(UNQUALIFIED))
    play.tells_path(("pg_catalog", "archive"), "T")
    play.server_gets(query('SELECT ssn, city FROM "archive".patients'))
    play.client_says(query("COMMIT"))
    play.server_gets(query("COMMIT"))
    play.server_says(command_complete("SELECT 0"), ready("T"), command_complete("COMMIT"), ready("I"))
    play.session.to_client.clear()
    play.client_says(query(UNQUALIFIED))
    play.tells_path()
    play.server_gets(query(QUALIFIED))


def test_inside_a_group_the_path_is_asked_for_without_a_sync(play: Screenplay) -> None:
    play.client_says(query(SET_ROLE))
    play.server_gets(query(SET_ROLE))
    play.server_says(command_complete("SET"), ready())
    play.client_gets(command_complete("SET"), ready())
    write = [parse("INSERT INTO log VALUES (1)"), bind(), execute(), FLUSH]
    play.client_says(*write)
    play.server_gets(*split(PATH_QUERY))
    play.server_says(error("57014"), ready())
    play.server_gets(*write)
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, command_complete("INSERT 0 1"))
    play.session.to_client.clear()
    play.client_says(parse(UNQUALIFIED), bind(), execute(), SYNC)
    play.server_gets(*list(split(PATH_QUERY))[:-1], FLUSH)
    path = [data_row(value.encode()) for value in ("hex", "1", "app", "", "", "", "pg_catalog", "public")]
    play.server_says(PARSE_COMPLETE, BIND_COMPLETE, *path, command_complete("SELECT 4"), CLOSE_COMPLETE, CLOSE_COMPLETE)
    play.server_gets(parse(QUALIFIED), bind(results=[1, 0]), execute(), SYNC)


def test_a_path_that_cannot_be_read_refuses_the_frame_and_is_asked_for_again(play: Screenplay) -> None:
    play.session.search_path.schemas = None
    play.client_says(query(UNQUALIFIED), query("SELECT 1"))
    play.server_gets(*split(PATH_QUERY))
    play.server_says(error("57014"), ready())
    play.server_gets(REFUSED_QUERY, query("SELECT 1"))
    play.server_says(REFUSAL, ready(), command_complete("SELECT 1"), ready())
    unreadable = [raw(b"1"), raw(b"2"), data_row(b"p\xe4"), command_complete("SELECT 1"), raw(b"3"), raw(b"3"), ready()]
    play.client_gets(Says("0A000", "search path"), ready(), command_complete("SELECT 1"), ready())
    play.client_says(query(UNQUALIFIED))
    play.server_gets(*split(PATH_QUERY))
    play.server_says(*unreadable)
    play.server_gets(REFUSED_QUERY)


def test_a_prepared_statement_whose_meaning_changed_is_refused_at_bind(play: Screenplay) -> None:
    play.client_says(parse(UNQUALIFIED, "s"), SYNC, query(SET_ROLE))
    play.server_gets(parse(QUALIFIED, "s"), SYNC, query(SET_ROLE))
    play.server_says(PARSE_COMPLETE, ready(), command_complete("SET"), ready())
    play.session.to_client.clear()
    play.client_says(bind(statement="s"), execute(), SYNC)
    play.tells_path(("pg_catalog", "archive"))
    play.server_gets(REFUSED_BIND, SYNC)
    play.server_says(error("26000"), ready())
    play.client_gets(Says("0A000", "cached plan must not change"), ready())


# -- without a policy ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1)), max_size=20))
def test_without_a_policy_every_byte_passes(said: list[tuple[bool, bytes]]) -> None:
    play = Screenplay(database=None, log_in=False)
    play.client_says(raw(b"p", b"secret\0"))
    play.server_gets(raw(b"p", b"secret\0"))
    login = [AUTHENTICATION_OK, parameter_status("standard_conforming_strings", "off"), ready()]
    play.server_says(*login)
    play.client_gets(*login)
    session = play.session
    for from_client, data in said:
        assert (session.from_client(data) if from_client else session.from_server(data)) is None
    assert b"".join(session.to_server) == b"".join(d for c, d in said if c)
    assert b"".join(session.to_client) == b"".join(d for c, d in said if not c)


def test_what_comes_in_the_same_chunk_as_the_end_of_the_login_passes_too() -> None:
    session = Session(None, "clinic")
    session.from_server(AUTHENTICATION_OK + ready() + b"\0any\xff")
    session.from_client(b"\0thing")
    assert b"".join(session.to_client) == AUTHENTICATION_OK + ready() + b"\0any\xff"
    assert session.to_server == [b"\0thing"]


# -- bytes that are not messages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame", [raw(b"y"), raw(b"p", b"x\0"), b"Q\0\0\0\3", b"Q\x7f\xff\xff\xff", raw(b"S", b"x"), raw(b"H", b"x")]
)
def test_a_frame_that_a_client_may_not_say_closes_the_connection(play: Screenplay, frame: bytes) -> None:
    play.client_says(query("SELECT 1"), frame, query("SELECT 2"))
    play.server_gets(query("SELECT 1"))
    play.client_gets(Says("08P01", severity="FATAL"))
    play.is_closed()


def test_after_terminate_the_client_is_not_heard_but_still_answered(play: Screenplay) -> None:
    play.client_says(query("SELECT 1"), TERMINATE, query("SELECT 2"))
    play.client_says(query("SELECT 3"))
    play.server_gets(query("SELECT 1"), TERMINATE)
    play.server_says(command_complete("SELECT 1"), ready())
    play.client_gets(command_complete("SELECT 1"), ready())


def test_after_a_fatal_neither_side_is_heard(play: Screenplay) -> None:
    play.client_says(raw(b"y"), query("SELECT 1"))
    play.client_gets(Says("08P01", severity="FATAL"))
    play.server_says(notice("late"), ready())
    play.client_says(query("SELECT 2"))
    play.is_closed()


@pytest.mark.parametrize("late", [False, True])
def test_a_client_that_speaks_before_it_is_let_in_is_heard_then(late: bool) -> None:
    """The server would find its message in the socket once the login is over."""
    with Screenplay(log_in=False) as play:
        said = query(UNQUALIFIED) + parse("SELECT 1") + b"Q"
        if late:
            play.server_says(AUTHENTICATION_OK)
            play.client_gets(AUTHENTICATION_OK)
        play.client_says(said)
        assert play.session.stalled
        if not late:
            play.server_says(AUTHENTICATION_OK)
            play.client_gets(AUTHENTICATION_OK)
        play.server_says(ready())
        play.tells_path()
        play.client_gets(ready())
        play.server_gets(query(QUALIFIED), parse("SELECT 1"))


@pytest.mark.parametrize("early", [False, True])
def test_a_client_that_does_not_answer_the_request_for_its_password(early: bool) -> None:
    with Screenplay(log_in=False) as play:
        asked = raw(b"R", b"\0\0\0\3")
        if early:
            play.client_says(query(SELECT))
        play.server_says(asked)
        if not early:
            play.client_gets(asked)
            play.client_says(query(SELECT))
            play.client_gets(Says("08P01", "expected password response, got message type 81", severity="FATAL"))
        else:
            play.client_gets(asked, Says("08P01", "expected password response, got message type 81", severity="FATAL"))
        play.is_closed()


def test_without_a_policy_the_server_is_the_judge_of_what_is_said_early() -> None:
    with Screenplay(None, log_in=False) as play:
        said = query(SELECT) + query("x" * 100_000)
        play.client_says(said[:10])
        play.client_says(said[10:])
        play.server_gets(*split(said))


TAGS = b"PBDECSHQFdcfXpRvKZ123ntTsIANVGWy"
SENSE = [
    *(query(SELECT), parse(SELECT), parse(INSERT), bind(), bind(SECRET), execute(), SYNC, FLUSH, AUTHENTICATION_OK),
    *(PARSE_COMPLETE, BIND_COMPLETE, REFUSAL, ready(), ready("T"), ready("E"), command_complete("SELECT 1")),
    *(data_row(None, None), data_row(envelope(SSN, b"x"), None), data_row(b"y"), *path_answer(("public",))),
]
noise = st.one_of(
    st.sampled_from(SENSE),
    st.sampled_from(SENSE),
    st.binary(max_size=60),
    st.builds(lambda tag, payload: raw(bytes((tag,)), payload), st.sampled_from(TAGS), st.binary(max_size=40)),
)


@settings(max_examples=500, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.booleans(), noise), max_size=25))
def test_garbage_between_sense_is_answered_or_ends_the_conversation_and_raises_nothing(
    logged_in: bool, said: list[tuple[bool, bytes]]
) -> None:
    session = Screenplay(log_in=logged_in).session
    for from_client, data in said:
        need = session.from_client(data) if from_client else session.from_server(data)
        while need is not None:
            need = session.resume(ProviderUnavailable("no"))
    fatal = b"".join(session.to_client).count(b"SFATAL\0VFATAL\0C08P01\0")
    assert fatal <= (session.phase is Phase.CLOSED)


PLAIN = query("SELECT 1 FROM cities")
GROUP = (parse("SELECT 1 FROM cities", "s"), bind(statement="s"), execute(), SYNC)
DONE = (command_complete("SELECT 0"), ready())


def fence(play: Screenplay, until: float) -> None:
    assert isinstance(play.session.database, FakeDatabase)
    play.session.database.fence.until = until
    play.session.now = 10.0


def test_the_catalogue_is_not_read_again_within_the_lease(play: Screenplay) -> None:
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
