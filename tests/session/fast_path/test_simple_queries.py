"""Simple Queries of a shape that was seen go the short way; whatever it gives, the handlers would have given the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.session.fast_path.simple_queries import sent_behind_ddl, sent_for
from phiproxy.session.needs import NeedKeys
from tests.clinic_model import CATALOG, PROTECTION
from tests.session import frames as f
from tests.session.fast_path.groups import by_handlers, only_whole_chunks, without_handlers
from tests.session.screenplay import FULL_NAME, SECRET, SSN, FakeDatabase, Says, Screenplay, envelope, fill, hexed, legible, tag

BY_TAG = "SELECT ssn, city FROM public.patients WHERE ssn = '{}'"
SEALED = f.row_description(f.column("ssn", 17, table=100, attnum=2), f.column("city", table=100, attnum=6))
SHOWN = f.row_description(f.column("ssn", 25, table=100, attnum=2), f.column("city", table=100, attnum=6))
DONE = f.command_complete("SELECT 1") + f.ready()


def seen(play: Screenplay, *texts: str) -> None:
    """Let a session see texts whose shapes are then known."""
    for text in texts:
        play.client_says(f.query(text))
        play.session.to_server.clear()
        play.server_says(f.command_complete("SELECT 0"), f.ready())
        play.session.to_client.clear()


def searched(value: bytes) -> f.Frame:
    """Return what the server gets of BY_TAG."""
    constant = f"'\\x{tag(SSN, value).hex()}'::bytea"
    return f.query(f"SELECT ssn, city FROM public.patients WHERE pg_catalog.substring(ssn, 13, 16) = {constant}")


def test_a_search_by_literal_and_its_rows_take_the_fast_path(play: Screenplay, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(play, BY_TAG.format("x"))
    without_handlers(monkeypatch, b"Q", b"TDCZ")
    for value in (b"ada", b"grace", SECRET):
        play.client_says(f.query(BY_TAG.format(value.decode())))
        play.server_gets(searched(value))
        rows = [f.data_row(hexed(envelope(SSN, value)), b"Turku"), f.data_row(None, None)]
        play.server_says(b"".join([SEALED, *rows, DONE]))
        play.client_gets(SHOWN, f.data_row(value, b"Turku"), f.data_row(None, None), *f.split(DONE))
        play.is_idle()
    assert play.session.counters.rewritten == 4


def test_an_insert_takes_the_fast_path(play: Screenplay, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "INSERT INTO public.patients (id, ssn, city) VALUES ({}, '{}', '{}')"
    seen(play, text.format(1, "x", "y"))
    without_handlers(monkeypatch, b"Q", b"TDCZ")
    play.client_says(f.query(text.format(17, SECRET.decode(), "Turku")))
    play.server_gets(f.query(f"INSERT INTO public.patients (id, ssn, city) VALUES (17, <sealed {SECRET.decode()}>, 'Turku')"))
    said = f.command_complete("INSERT 0 1") + f.ready()
    play.server_says(said)
    play.client_gets(*f.split(said))
    play.is_idle()


def test_a_statement_that_is_not_rewritten_goes_on_as_it_came(play: Screenplay, monkeypatch: pytest.MonkeyPatch) -> None:
    seen(play, "SELECT ssn, city FROM public.patients WHERE id = 1")
    without_handlers(monkeypatch, b"Q", b"TDCZ")
    play.client_says(f.query("SELECT ssn, city FROM public.patients WHERE id = 23"))
    play.server_gets(f.query("SELECT ssn, city FROM public.patients WHERE id = 23"))
    play.server_says(SEALED + f.data_row(hexed(envelope(SSN, b"ada")), b"x") + DONE)
    play.client_gets(SHOWN, f.data_row(b"ada", b"x"), *f.split(DONE))
    play.is_idle()


def test_a_query_drops_the_unnamed_statement_and_gives_it_back_where_it_is_skipped(play: Screenplay) -> None:
    seen(play, BY_TAG.format("x"))
    play.client_says(f.parse("SELECT msg FROM log"), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.PARSE_COMPLETE, f.ready())
    play.session.to_client.clear()
    assert b"" in play.session.names.statements
    play.client_says(f.query(BY_TAG.format("ada")))
    play.session.to_server.clear()
    assert b"" not in play.session.names.statements
    play.server_says(f.error("57014") + f.ready())
    play.client_gets(Says("57014"), f.ready())
    assert b"" not in play.session.names.statements  # the server has dropped it before it failed
    play.is_idle()


def test_an_error_points_into_the_clients_text(play: Screenplay) -> None:
    text = "SELECT ssn, 1 / 0 FROM public.patients WHERE ssn = '{}' AND city = 'y' AND 1 / 0 = {}"
    seen(play, text.format("x", 5))
    client_text = text.format("somebody", 1234)
    play.client_says(f.query(client_text))
    sent = b"".join(play.session.to_server)[5:-1].decode()
    play.session.to_server.clear()
    for what in ("1 / 0 FROM", "1 / 0 =", "city = 'y'"):
        play.server_says(f.notice("n", P=str(sent.index(what) + 1)))
        play.client_gets(Says("00000", severity="NOTICE", position=client_text.index(what) + 1))
    play.server_says(f.command_complete("SELECT 0"), f.ready())
    play.session.to_client.clear()


def test_a_missing_key_is_asked_for_on_the_way_out_and_back() -> None:
    ring = Keyring(lambda: 0.0)
    fill(ring)
    ciphers = Ciphers(ring)
    play = Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, ciphers)))
    seen(play, BY_TAG.format("x"))
    ring.drop_root(1)
    play.client_says(f.query(BY_TAG.format("ada")))
    assert isinstance(play.need, NeedKeys)
    assert not play.session.to_server
    assert not play.session.pipeline.queue
    fill(ring, play.need.wants)
    play.resumes()
    play.server_gets(searched(b"ada"))
    play.server_says(SEALED + f.data_row(hexed(envelope(SSN, b"ada")), b"x") + DONE)
    assert isinstance(play.need, NeedKeys)
    fill(ring, play.need.wants)
    play.resumes()
    play.client_gets(SHOWN, f.data_row(b"ada", b"x"), *f.split(DONE))
    play.is_idle()


@pytest.mark.parametrize(
    "text",
    [
        BY_TAG.format("ada"),
        BY_TAG.format("it''s"),
        BY_TAG.format(""),
        BY_TAG.format("a\x80"),
        BY_TAG.format("ada") + ";",
        "SELECT ssn, city FROM public.patients WHERE ssn = 'ada' AND city = 'ada'",
        "SELECT ssn, city FROM public.patients WHERE ssn = 'ada' AND city = '{ada}'",
        "SELECT ssn, city FROM public.patients WHERE ssn = 'ada' AND city = 'bob'",
        "SELECT ssn FROM public.patients WHERE ssn = 'ada'; SELECT city FROM public.patients WHERE ssn = 'bob'",
        "BEGIN; SELECT ssn FROM public.patients WHERE ssn = 'ada'",
        "SELECT ssn FROM public.patients WHERE ssn LIKE 'ada%'",
        "UPDATE public.patients SET mrn = 'a mrn that is too long' WHERE ssn = 'x'",
        "UPDATE public.patients SET mrn = 'M1' WHERE ssn = 'x'",
        "UPDATE public.patients SET ssn = '\\xf5500101' WHERE ssn = 'x'",
    ],
)
def test_a_text_is_answered_as_by_the_handlers(text: str) -> None:
    """Where its shape was seen; also of another text of the shape, whose other constants decide whether it is understood."""

    def answered(*, short: bool) -> tuple[list[f.Frame], list[f.Frame], int, int]:
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                by_handlers(patch)
            ring = Keyring(lambda: 0.0)
            fill(ring)
            play = Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, Ciphers(ring))))
            seen(play, *(text.replace("ada", other).replace("bob", "x") for other in ("one", "two")))
            play.client_says(f.query(text))
            sent = [legible(frame) for frame in f.split(b"".join(play.session.to_server))]
            said = list(f.split(b"".join(play.session.to_client)))
            play.session.to_server.clear()
            play.session.to_client.clear()
            return sent, said, play.session.counters.refused, len(play.session.pipeline.queue)

    assert answered(short=True) == answered(short=False)


ROW = f.data_row(hexed(envelope(SSN, b"ada")), b"x")
REPLIES = [
    [SEALED, ROW, DONE],
    [SEALED, ROW, ROW, ROW, f.command_complete("SELECT 3"), f.ready("T")],
    [SEALED, f.command_complete("SELECT 0"), f.ready("E")],
    [DONE],
    [SEALED, f.notice("n"), ROW, f.parameter_status("a", "b"), DONE],
    [f.error("22P02"), f.ready()],
    [SEALED, ROW, f.error("22012"), f.ready()],
    [SEALED, f.data_row(hexed(envelope(FULL_NAME, b"ada")), b"x"), DONE],
    [SEALED, f.data_row(envelope(SSN, b"ada"), b"x"), DONE],
    [SEALED, f.data_row(b"\\xzz", b"x"), DONE],
    [SEALED, f.data_row(hexed(envelope(SSN, b"ada"))), DONE],
    [f.row_description(f.column("city", table=100, attnum=6)), DONE],
    [f.row_description(*[f.column("ssn", 25, table=100, attnum=2)] * 2), DONE],
    [SEALED, f.raw(b"Z", b"?")],
    [SEALED, b"D\0\0\0\2", DONE],
    [SEALED, b"D\x7f\xff\xff\xff", DONE],
    [SEALED, SEALED, DONE],
    [SEALED, ROW, f.command_complete("SELECT 1"), SEALED, ROW, DONE],
]


@pytest.mark.parametrize("replies", REPLIES, ids=range(len(REPLIES)))
def test_replies_are_shown_as_by_the_handlers_however_they_are_cut(replies: list[bytes]) -> None:
    said = b"".join(replies)

    def shown(pieces: Sequence[bytes], *, short: bool) -> tuple[object, ...]:
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                by_handlers(patch)
            play = Screenplay()
            seen(play, BY_TAG.format("x"))
            play.client_says(f.query(BY_TAG.format("ada")))
            play.session.to_server.clear()
            for piece in pieces:
                play.server_says(piece)
            session = play.session
            out, left = b"".join(session.to_client), len(session.pipeline.queue)
            session.to_client.clear()
            session.to_server.clear()
            return out, session.phase, session.status, left, session.counters.open_failures, session.groups.answered

    assert shown([said], short=True) == shown([said], short=False)
    for cut in range(1, len(said), 7):
        assert shown([said[:cut], said[cut:]], short=True) == shown([said[:cut], said[cut:]], short=False)
    assert shown([said, said], short=True) == shown([said, said], short=False)


PLAIN = "SELECT id, msg FROM log WHERE id = {}"
FIELDS = f.row_description(f.column("id", 23, table=102, attnum=1), f.column("msg", table=102, attnum=2))
OPEN = f.data_row(b"7", b"value-7")


def test_a_query_over_nothing_protected_and_its_replies_go_on_by_themselves(
    play: Screenplay, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(play, "SELECT 1")
    only_whole_chunks(monkeypatch)
    for text, said in ((PLAIN.format(7), FIELDS + OPEN + DONE), ("BEGIN", f.command_complete("BEGIN") + f.ready("T"))):
        play.client_says(f.query(text))
        play.server_gets(f.query(text))
        play.server_says(said)
        assert play.session.to_client == [said]
        play.session.to_client.clear()
        play.is_idle()
    assert play.session.status == b"T"


@pytest.mark.parametrize(
    "chunk",
    [
        f.query("SET search_path = elsewhere"),
        f.query("SELECT 1") * 2,
        f.query("SELECT 1")[:-1],
        f.query("SELECT 1")[:-1] + b"1",
        f.query("SELECT\0 1"),
        b"Q\0\0\0\5\0"[:5],
        b"Q\xff\xff\xff\xff" + f.query("SELECT 1")[5:],
        f.SYNC,
    ],
)
def test_a_chunk_that_is_no_such_query_is_left_and_nothing_is_done(play: Screenplay, chunk: bytes) -> None:
    seen(play, "SELECT 1")
    assert play.session.settled
    before = play.session.groups.number
    assert not sent_for(play.session, chunk)
    assert (play.session.groups.number, list(play.session.pipeline.queue), play.session.to_server) == (before, [], [])


def test_no_query_goes_on_by_itself_once_the_lease_is_over(play: Screenplay) -> None:
    seen(play, "SELECT 1")
    play.session.now, play.session.fence.until = 2.0, 1.0
    assert not sent_for(play.session, f.query("SELECT 1"))
    play.session.fence.until = 3.0
    assert sent_for(play.session, f.query("SELECT 1"))
    play.server_says(DONE)
    play.client_gets(*f.split(DONE))
    play.is_idle()


PLAIN_REPLIES = [
    [FIELDS, OPEN, DONE],
    [DONE],
    [f.raw(b"I", b""), f.ready("E")],
    [f.command_complete("BEGIN"), f.command_complete("COMMIT"), f.ready()],
    [f.notice("n"), DONE],
    [FIELDS, OPEN, f.parameter_status("TimeZone", "UTC"), DONE],
    [FIELDS, OPEN, f.error("22012"), f.ready()],
    [f.error("22012"), f.ready("E")],
    [f.error("22012", "phi_tag_ssn_1 is told of"), f.ready()],
    [f.error("57P01", severity="FATAL")],
    [FIELDS, b"D\0\0\0\2", DONE],
    [FIELDS, b"D\x7f\xff\xff\xff", DONE],
    [f.command_complete("SELECT 0"), f.raw(b"Z", b"?")],
    [f.command_complete("SELECT 0"), f.raw(b"Z", b"II")],
    [FIELDS, OPEN, DONE, f.notice("late")],
]


@pytest.mark.parametrize("replies", PLAIN_REPLIES, ids=range(len(PLAIN_REPLIES)))
@pytest.mark.parametrize("extended", [False, True])
def test_replies_over_nothing_protected_pass_as_by_the_handlers_however_they_are_cut(
    replies: list[bytes], *, extended: bool
) -> None:
    said = b"".join([f.PARSE_COMPLETE + f.BIND_COMPLETE if extended else b"", *replies])

    def shown(pieces: Sequence[bytes], *, short: bool) -> tuple[object, ...]:
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                by_handlers(patch)
            play = Screenplay()
            seen(play, "SELECT 1")
            asked = f.parse(PLAIN.format(7)) + f.bind() + f.describe() + f.execute() + f.SYNC
            play.client_says(asked if extended else f.query(PLAIN.format(7)))
            play.session.to_server.clear()
            for piece in pieces:
                play.server_says(piece)
            session = play.session
            out, left = b"".join(session.to_client), len(session.pipeline.queue)
            session.to_client.clear()
            session.to_server.clear()
            names = frozenset(session.names.statements)
            return out, session.phase, session.status, left, session.groups.answered, names

    assert shown([said], short=True) == shown([said], short=False)
    for cut in range(1, len(said), 5):
        assert shown([said[:cut], said[cut:]], short=True) == shown([said[:cut], said[cut:]], short=False)


CREATED = "CREATE TABLE public.rooms (id int)"
CREATES_CODE = "CREATE FUNCTION public.sets() RETURNS void LANGUAGE sql AS 'SELECT set_config(''search_path'', ''x'', false)'"
SAID_BEHIND = (
    ("SELECT id FROM public.rooms", FIELDS + OPEN + DONE),
    ("INSERT INTO public.rooms VALUES (1)", f.command_complete("INSERT 0 1") + f.ready()),
    ("EXPLAIN (COSTS OFF) SELECT CASE id WHEN 1 THEN 2 END FROM public.rooms", FIELDS + OPEN + DONE),
    ("TRUNCATE public.rooms", f.notice("n") + f.command_complete("TRUNCATE TABLE") + f.ready()),
    ("BEGIN", f.command_complete("BEGIN") + f.ready("T")),
    ("SELECT id FROM public.rooms", f.command_complete("SELECT 0") + f.ready("T")),
    ("COMMIT", f.command_complete("COMMIT") + f.ready()),
    ("CREATE TABLE public.beds (id int)", f.command_complete("CREATE TABLE") + f.ready()),
    ("INSERT INTO public.beds VALUES (1)", f.command_complete("INSERT 0 1") + f.ready()),
    ("SELECT nope FROM public.beds", f.notice("n") + f.error("42703") + f.ready()),
    ("ALTER TABLE public.beds ADD note text;", f.command_complete("ALTER TABLE") + f.ready()),
    ("DROP TABLE public.beds", f.command_complete("DROP TABLE") + f.ready()),
)


def behind_ddl(play: Screenplay, *texts: str) -> None:
    """Let a session make something of its own."""
    seen(play, *texts)
    assert not play.session.settled
    assert play.session.pending.catalog is not None


def test_behind_ddl_what_names_nothing_protected_goes_on_by_itself_too(play: Screenplay, monkeypatch: pytest.MonkeyPatch) -> None:
    behind_ddl(play, CREATED, "DROP TABLE public.others")
    only_whole_chunks(monkeypatch)
    for text, said in SAID_BEHIND:
        play.client_says(f.query(text))
        play.server_gets(f.query(text))
        play.server_says(said)
        assert play.session.to_client == [said]
        play.session.to_client.clear()
        play.is_idle()
    assert play.session.pending.catalog is not None


def test_behind_ddl_it_is_as_by_the_handlers() -> None:
    def shown(*, short: bool) -> list[object]:
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                by_handlers(patch)
            play, told = Screenplay(), list[object]()
            seen(play, CREATED)
            for text, said in (*SAID_BEHIND, ("SELECT nope", f.error("42703") + f.ready()), *SAID_BEHIND[:1]):
                play.client_says(f.query(text))
                play.server_says(said)
                session = play.session
                told += [b"".join(session.to_server), b"".join(session.to_client), session.status, session.groups.answered]
                told += [len(session.pipeline.queue), session.pending.catalog, session.counters.forwarded, session.names.changed]
                session.to_server.clear()
                session.to_client.clear()
            return told

    assert shown(short=True) == shown(short=False)


@pytest.mark.parametrize(
    "text",
    [
        BY_TAG.format("ada"),
        "SELECT public.sets()",
        "SELECT id FROM schema_to_xml('public', true, true, '')",
        "INSERT INTO public.elsewhere VALUES (1)",
        "DROP TABLE public.patients",
        "DROP TABLE public.rooms; SELECT 1",
        "CREATE TEMP TABLE rooms (id int)",
        "CREATE INDEX ON public.rooms (public.sets())",
        "SET search_path = elsewhere",
        "SELECT 1; DROP TABLE public.rooms",
    ],
)
def test_behind_ddl_anything_else_is_left_to_the_handlers(play: Screenplay, text: str) -> None:
    behind_ddl(play, CREATED, CREATES_CODE)
    before = play.session.groups.number
    assert not sent_behind_ddl(play.session, f.query(text))
    assert (play.session.groups.number, list(play.session.pipeline.queue), play.session.to_server) == (before, [], [])


@pytest.mark.parametrize("made", [False, True])
def test_behind_ddl_a_table_counts_as_the_sessions_own_once_the_server_has_made_it(play: Screenplay, *, made: bool) -> None:
    """Of a table that is not there, whose name was mistyped, the server would log what is inserted."""
    seen(play, "SELECT 1")
    play.client_says(f.query("CREATE TABLE public.beds (id int)"))
    insert = f.query("INSERT INTO public.beds VALUES (1)")
    assert not sent_behind_ddl(play.session, insert)
    play.session.to_server.clear()
    play.server_says((f.command_complete("CREATE TABLE") if made else f.error("42P07")) + f.ready())
    play.session.to_client.clear()
    assert sent_behind_ddl(play.session, insert) is made
    play.server_says(*[f.command_complete("INSERT 0 1") + f.ready()] * made)
    play.session.to_client.clear()


def test_what_ends_a_transaction_in_which_the_catalogue_was_read_is_left_to_the_handlers(play: Screenplay) -> None:
    behind_ddl(play, CREATED)
    play.session.catalog.overlay = play.session.planner
    assert not sent_behind_ddl(play.session, f.query("COMMIT"))
    assert sent_behind_ddl(play.session, f.query("SELECT 1"))
    play.session.catalog.overlay = None
    play.server_says(DONE)
    play.client_gets(*f.split(DONE))


def test_no_query_goes_on_by_itself_behind_ddl_while_the_server_still_tells_of_a_setting(play: Screenplay) -> None:
    behind_ddl(play, CREATED)
    play.client_says(f.query("SET DateStyle = german"), f.query("SELECT 1"))
    assert not play.session._is_settled(but_ddl=True)
    play.session.to_server.clear()
