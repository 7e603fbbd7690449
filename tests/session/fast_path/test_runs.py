"""Runs of messages go on in one slice; whatever passes so, the handlers would have done the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings

from phiproxy.session import core
from phiproxy.session.fast_path import simple_queries, whole_groups
from phiproxy.session.fast_path.runs import pass_messages, pass_replies
from phiproxy.session.pipeline import Kind
from tests.clinic_model import PATH
from tests.session import frames as f
from tests.session.fast_path.groups import by_handlers
from tests.session.network import Network, same
from tests.session.screenplay import SSN, FakeDatabase, Screenplay, envelope
from tests.session.scripts import impatient, patient
from tests.session.test_chunking import DIALOGUES, played

PLAIN = "SELECT id, msg FROM log WHERE id = $1"
ROW = f.data_row(b"7", b"value-7")
DONE = f.command_complete("SELECT 1") + f.ready()


@pytest.mark.parametrize("name", DIALOGUES)
def test_the_fast_path_and_the_handlers_play_the_same_dialogue(name: str) -> None:
    logged_in = name != "login"
    for sizes in ([1 << 20], [1], [7, 50]):
        passed = played(DIALOGUES[name], sizes, logged_in=logged_in)
        with pytest.MonkeyPatch.context() as patch:
            by_handlers(patch)
            assert played(DIALOGUES[name], sizes, logged_in=logged_in) == passed


def conversation(script: Sequence[bytes], *, together: bool) -> Network:
    """Say a script, at once or one message after the other, to a model of a server."""
    network = Network()
    for message in script:
        network.say(message)
        if not together:
            network.settle()
    network.settle()
    return network


@settings(max_examples=60, deadline=None)
@given(script=impatient | patient)
def test_the_fast_path_and_the_handlers_hold_the_same_conversation(script: list[bytes]) -> None:
    for together in (True, False):
        passed = conversation(script, together=together)
        with pytest.MonkeyPatch.context() as patch:
            by_handlers(patch)
            handled = conversation(script, together=together)
        assert [same(frame) for frame in f.split(passed.received)] == [same(frame) for frame in f.split(handled.received)]
        left = (passed.session, handled.session)
        assert len({(s.status, s.phase, s.search_path.schemas, frozenset(s.names.statements), noted(s)) for s in left}) == 1
        # Not what was sent: a message whose portal is in doubt waits where only handlers decide, and may then be skipped.
        assert len({(s.groups.number - s.groups.answered, s.counters.rewritten) for s in left}) == 1


def noted(session: core.Session) -> frozenset[bytes]:
    """Return the portals of which something must be known: of an ordinary plan's nothing must."""
    return frozenset(name for name, portal in session.names.portals.items() if not portal.plan.ordinary)


def prepared(play: Screenplay, text: str = PLAIN) -> None:
    play.client_says(f.parse(text, "s"), f.SYNC)
    play.server_gets(*f.split(b"".join(play.session.to_server)))
    play.server_says(f.PARSE_COMPLETE, f.ready())
    play.client_gets(f.PARSE_COMPLETE, f.ready())


def test_a_whole_chunk_is_one_slice_and_the_chunk_itself(play: Screenplay) -> None:
    prepared(play)
    play.client_says(f.bind(b"7", statement="s"), f.execute(), f.SYNC)
    play.session.to_server.clear()
    chunk = b"".join([f.BIND_COMPLETE, ROW * 3, DONE])
    play.session.from_server(chunk)
    assert play.session.to_client[0] is chunk
    play.client_gets(*f.split(chunk))
    play.is_idle()


def test_what_is_between_goes_to_its_handler_in_its_order(play: Screenplay) -> None:
    prepared(play)
    play.client_says(f.bind(b"7", statement="s"), f.execute(), f.SYNC)
    play.session.to_server.clear()
    said = [f.BIND_COMPLETE, f.notice("n"), ROW, f.parameter_status("TimeZone", "UTC"), ROW, f.command_complete("SELECT 2")]
    play.server_says(*said, f.ready("T"))
    assert len(play.session.to_client) == 5
    play.client_gets(*said, f.ready("T"))
    assert play.session.status == b"T"


def test_rows_of_a_protected_result_do_not_pass(play: Screenplay) -> None:
    prepared(play, "SELECT ssn, city FROM public.patients")
    play.client_says(f.bind(statement="s", results=(1,)), f.execute(), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.BIND_COMPLETE, f.data_row(envelope(SSN, b"ada"), b"Turku"), DONE)
    play.client_gets(f.BIND_COMPLETE, f.data_row(b"ada", b"Turku"), f.command_complete("SELECT 1"), f.ready())


def test_a_row_that_nobody_asked_for_does_not_pass(play: Screenplay) -> None:
    """A Bind has no rows: its front lets none through, the handler says what becomes of it."""
    prepared(play)
    play.client_says(f.bind(b"7", statement="s"), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.command_complete("SELECT 1"))
    play.is_closed()
    play.session.to_client.clear()


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_header_or_row_that_is_not_whole_waits(play: Screenplay, cut: int) -> None:
    prepared(play)
    play.client_says(f.bind(b"7", statement="s"), f.execute(), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.BIND_COMPLETE + ROW + ROW[:cut])
    play.client_gets(f.BIND_COMPLETE, ROW)
    play.server_says(ROW[cut:] + DONE)
    play.client_gets(ROW, *f.split(DONE))


def test_a_length_that_lies_inside_a_run_closes(play: Screenplay) -> None:
    prepared(play)
    play.client_says(f.bind(b"7", statement="s"), f.execute(), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.BIND_COMPLETE + ROW + b"D\0\0\0\3" + ROW)
    play.is_closed()
    assert play.session.to_client[0] == f.BIND_COMPLETE + ROW
    play.session.to_client.clear()


def test_an_unknown_transaction_status_closes(play: Screenplay) -> None:
    play.client_says(f.query("SELECT 1"))
    play.session.to_server.clear()
    play.server_says(f.ready("Q"))
    play.is_closed()
    play.session.to_client.clear()


def test_parts_of_a_script_are_counted(play: Screenplay) -> None:
    """What the first statement did to names stays when the second fails."""
    play.client_says(f.query("SELECT 1; SELECT 2"))
    play.session.to_server.clear()
    play.server_says(f.row_description(f.column("a")), f.data_row(b"1"), f.command_complete("SELECT 1"))
    front = play.session.pipeline.front()
    assert front is not None
    assert (front.kind, front.part) == (Kind.QUERY, 1)
    play.server_says(f.error("22012"), f.ready())
    play.session.to_client.clear()
    play.is_idle()


def test_the_dialogues_that_are_compared_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the comparison above compares the handlers with themselves."""
    passed = []
    original, whole, behind_parse = pass_replies, simple_queries.pass_whole, whole_groups.show_behind_parse

    def counted(session: core.Session) -> None:
        before = session.server_frames.pos
        original(session)
        passed.append(session.server_frames.pos - before)

    def counted_whole(session: core.Session, data: bytes) -> bool:
        passes = whole(session, data)
        passed.append(len(data) if passes else 0)
        return passes

    monkeypatch.setattr(core, "pass_replies", counted)

    def counted_behind_parse(session: core.Session, data: bytes) -> int:
        passed.append(behind_parse(session, data))
        return passed[-1]

    monkeypatch.setattr(simple_queries, "pass_whole", counted_whole)
    monkeypatch.setattr(whole_groups, "show_behind_parse", counted_behind_parse)
    played(DIALOGUES["unprotected"], [1 << 20], logged_in=True)
    assert sum(passed) > 200


# -- the client's messages -----------------------------------------------------------------------------------------------------


def test_what_the_client_says_is_one_slice_and_the_chunk_itself(play: Screenplay) -> None:
    prepared(play)
    chunk = b"".join([f.bind(b"7", statement="s"), f.describe(), f.execute(), f.SYNC])
    play.session.from_client(chunk)
    assert play.session.to_server[0] is chunk
    play.server_gets(*f.split(chunk))
    play.server_says(f.BIND_COMPLETE, f.row_description(f.column("id")), ROW, DONE)
    play.client_gets(f.BIND_COMPLETE, f.row_description(f.column("id")), ROW, *f.split(DONE))
    play.is_idle()


def test_the_portal_of_a_whole_group_is_not_noted(play: Screenplay) -> None:
    """In a transaction it lives on; whatever is asked of it then is answered as it comes."""
    prepared(play)
    for group in (
        [f.bind(b"7", statement="s"), f.execute(), f.SYNC],
        [f.bind(b"7", statement="s"), f.describe(), f.execute(), f.SYNC],
    ):
        play.session.from_client(b"".join(group))
        assert not play.session.names.portals
        play.server_gets(*group)
        described = [f.row_description(f.column("id"))] if len(group) == 4 else []
        said = [f.BIND_COMPLETE, *described, ROW, f.command_complete("SELECT 1"), f.ready("T")]
        play.server_says(b"".join(said))
        play.client_gets(*said)
    play.client_says(f.describe(), f.execute(), f.SYNC)
    play.server_gets(f.describe(), f.execute(), f.SYNC)
    said = [f.row_description(f.column("id")), f.command_complete("SELECT 0"), f.ready("T")]
    play.server_says(*said)
    play.client_gets(*said)
    play.is_idle()


def test_a_whole_group_takes_the_place_of_a_protected_portal(play: Screenplay) -> None:
    """The old one may come back when the Bind fails, so it is noted what the Bind does."""
    play.session.status = b"T"
    play.client_says(f.parse("SELECT ssn FROM public.patients", "p") + f.bind(statement="p", results=(1,)) + f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.PARSE_COMPLETE, f.BIND_COMPLETE, f.ready("T"))
    play.session.to_client.clear()
    prepared_in_transaction = f.parse(PLAIN, "s") + f.SYNC
    play.client_says(prepared_in_transaction)
    play.session.to_server.clear()
    play.server_says(f.PARSE_COMPLETE, f.ready("T"))
    play.session.to_client.clear()
    play.session.from_client(f.bind(b"7", statement="s") + f.execute() + f.SYNC)
    assert play.session.names.portals[b""].plan.ordinary
    play.session.to_server.clear()
    play.server_says(f.error("22P02"), f.ready("E"))
    assert not play.session.names.portals[b""].plan.ordinary
    play.session.to_client.clear()
    play.is_idle()


def takes(play: Screenplay, *frames: bytes) -> int:
    """Say messages, and return how many bytes of them went on as they came, in runs."""
    session = play.session
    session.client_frames.feed(b"".join(frames))
    before = session.client_frames.pos
    pass_messages(session)
    return session.client_frames.pos - before


BIND = f.bind(b"7", statement="s")


@pytest.mark.parametrize(
    "message",
    [
        f.bind(b"7", statement="s", portal="p"),
        f.bind(b"7", statement="none"),
        f.describe("p"),
        f.describe("s", "S"),
        f.describe(),
        f.execute("p"),
        f.execute(),
        f.close("s"),
        f.parse("SELECT 1", "t"),
        f.parse("SELECT ssn FROM public.patients"),
        f.parse("SET search_path TO a"),
        f.raw(b"P", b"\0SELECT 1\0\0"),
        f.raw(b"P", b"\0SELECT 1\0\0\1\0\0"),
        f.raw(b"P", b"\0SELECT 1\0\0\0!"),
        f.raw(b"P", b"\0SELECT 1"),
        f.query("SELECT ssn FROM public.patients"),
        f.query("SET search_path TO a"),
        f.FLUSH,
        f.raw(b"B", b"\0s"),
        f.raw(b"S", b"\0"),
        f.raw(b"Q", b"SELECT 1"),
        f.raw(b"Q", b"SELECT 1\0;\0"),
        BIND[:-1],
    ],
)
def test_a_message_that_is_not_ordinary_is_left_to_its_handler(play: Screenplay, message: bytes) -> None:
    """There is a statement, and no portal."""
    prepared(play)
    assert takes(play, message) == 0
    play.session.client_frames.advance(len(play.session.client_frames.data))


def test_a_bind_of_a_protected_statement_that_is_no_whole_group_is_left_to_its_handler(play: Screenplay) -> None:
    prepared(play, "SELECT city FROM public.patients WHERE ssn = $1")
    assert takes(play, BIND) == 0


def test_describe_and_execute_of_a_protected_portal_go_on_and_their_replies_do_not(play: Screenplay) -> None:
    prepared(play, "SELECT ssn FROM public.patients")
    play.client_says(f.bind(statement="s"))
    play.session.to_server.clear()
    assert takes(play, f.describe(), f.execute(), f.SYNC) == len(f.describe() + f.execute() + f.SYNC)
    play.session.to_server.clear()
    sealed = f.column("ssn", 17, table=100, attnum=2, code=1)
    play.server_says(f.BIND_COMPLETE, f.row_description(sealed), f.data_row(envelope(SSN, b"ada")), DONE)
    shown = f.row_description(f.column("ssn", 25, table=100, attnum=2))
    play.client_gets(f.BIND_COMPLETE, shown, f.data_row(b"ada"), *f.split(DONE))


@pytest.mark.parametrize("text", ["SET search_path TO a", "DEALLOCATE ALL", "CREATE TABLE t (a int)"])
def test_an_execute_that_changes_the_session_is_left_to_its_handler(play: Screenplay, text: str) -> None:
    prepared(play, text)
    play.client_says(f.bind(statement="s"))
    play.session.to_server.clear()
    assert takes(play, f.execute()) == 0


def test_a_statement_planned_for_another_path_or_policy_is_left_to_its_handler(play: Screenplay) -> None:
    prepared(play)
    assert play.session.database is not None
    assert takes(play, BIND) == len(BIND)
    play.session.search_path.schemas = ("elsewhere",)
    assert takes(play, BIND) == 0
    play.session.search_path.schemas = PATH
    play.session.client_frames.advance(len(play.session.client_frames.data))
    assert takes(play, BIND) == len(BIND)
    play.session.database = FakeDatabase(generation=2)
    assert takes(play, BIND) == 0
    play.session.to_server.clear()


def test_no_message_passes_while_anything_is_pending(play: Screenplay) -> None:
    prepared(play)
    play.session.client_frames.feed(BIND)
    play.session.settled = False
    play.session.pending.path = 0
    pass_messages(play.session)
    assert play.session.client_frames.pos == 0
    play.session.pending.path = None
    pass_messages(play.session)
    assert play.session.client_frames.pos == len(BIND)
    play.session.to_server.clear()


def test_a_name_whose_last_change_may_be_undone_is_left_to_its_handler(play: Screenplay) -> None:
    """The Parse of another group may yet fail."""
    prepared(play)
    play.client_says(f.close("s"), f.parse(PLAIN, "s"), f.SYNC)
    play.session.to_server.clear()
    assert takes(play, BIND) == 0


def test_a_portal_of_another_group_that_is_not_answered_is_left_to_its_handler(play: Screenplay) -> None:
    prepared(play)
    play.client_says(BIND, f.SYNC)
    play.session.to_server.clear()
    assert takes(play, f.describe(), f.execute()) == 0


def test_an_unnamed_statement_is_dropped_by_a_query(play: Screenplay) -> None:
    play.client_says(f.parse("SELECT 1"), f.SYNC, f.query("SELECT 2"), f.bind(), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.PARSE_COMPLETE, f.ready(), f.command_complete("SELECT 1"), f.ready())
    play.client_gets(f.PARSE_COMPLETE, f.ready(), f.command_complete("SELECT 1"), f.ready())
    assert not play.session.names.statements
    play.session.to_server.clear()


def test_a_text_in_an_unknown_encoding_is_left_to_its_handler(play: Screenplay) -> None:
    play.session.text.encoding, play.session.settled = None, False
    assert takes(play, f.query("SELECT 1")) == 0


@pytest.mark.parametrize("oids", [(), (23, 25)])
def test_an_unnamed_statement_over_nothing_protected_passes_with_all_behind_it(play: Screenplay, oids: tuple[int, ...]) -> None:
    said = f.parse(PLAIN, oids=oids) + f.bind(b"7") + f.describe() + f.execute() + f.SYNC
    for _ in range(2):
        assert takes(play, said) == len(said)
        assert play.session.names.statements[b""].oids == oids
        play.session.to_server.clear()
        fields = f.row_description(f.column("id"), f.column("msg"))
        replies = f.PARSE_COMPLETE + f.BIND_COMPLETE + fields + ROW + DONE
        play.server_says(replies)
        play.client_gets(*f.split(replies))
        play.is_idle()


def test_a_parse_that_fails_has_dropped_the_unnamed_statement(play: Screenplay) -> None:
    play.client_says(f.parse(PLAIN), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.error("42601"), f.ready())
    play.session.to_client.clear()
    assert not play.session.names.statements


@pytest.mark.parametrize("text", ["BEGIN", "COMMIT;", "ROLLBACK TO a", "UPDATE log SET msg = 'x' WHERE id = 7;"])
def test_a_query_that_only_controls_a_transaction_passes(play: Screenplay, text: str) -> None:
    assert takes(play, f.query(text)) == len(f.query(text))
    play.session.to_server.clear()


@pytest.mark.parametrize("text", ["BEGIN; SELECT ssn FROM patients", "COMMIT; SET search_path TO a", "SET search_path TO a;"])
def test_a_query_that_does_more_than_control_a_transaction_is_left_to_its_handler(play: Screenplay, text: str) -> None:
    assert takes(play, f.query(text)) == 0


def test_a_view_that_another_session_has_just_created_is_left_to_the_handlers(play: Screenplay) -> None:
    """The planner does not know it yet, and a view over envelopes would be read as it is stored."""
    assert play.session.database is not None
    play.session.database.unread_names.add("fresh_view")
    assert takes(play, f.parse("SELECT * FROM fresh_view")) == 0
    play.session.client_frames.advance(len(play.session.client_frames.data))
    play.client_says(f.query("SELECT * FROM fresh_view"))
    assert play.need is not None
    play.resumes()
    play.server_gets(f.query("SELECT * FROM fresh_view"))
    play.session.database.unread_names.clear()
