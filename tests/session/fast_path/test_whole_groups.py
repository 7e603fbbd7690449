"""Whole groups of Bind to Sync go the short way; whatever it gives, the handlers would have given the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import DataKeyWant, StatementRefused
from phiproxy.plan.column_ciphers import Ciphers
from phiproxy.plan.planner import Planner
from phiproxy.session.fast_path.whole_groups import sent_for
from phiproxy.session.needs import NeedKeys
from tests.clinic_model import CATALOG, PROTECTION
from tests.session import frames as f
from tests.session.fast_path.groups import (
    BY_TAG,
    DONE,
    INSERT,
    PLAIN,
    SEALED,
    SHOWN,
    by_handlers,
    group,
    only_whole_chunks,
    prepared,
    without_handlers,
)
from tests.session.screenplay import FULL_NAME, MRN, SECRET, SSN, FakeDatabase, Says, Screenplay, envelope, fill, tag


@pytest.mark.parametrize("describes", [True, False])
def test_a_search_by_tag_and_its_rows_take_the_fast_path(
    play: Screenplay, monkeypatch: pytest.MonkeyPatch, *, describes: bool
) -> None:
    prepared(play, BY_TAG)
    without_handlers(monkeypatch, b"BDES", b"2TDCZ")
    for value in (b"ada", b"grace"):
        play.client_says(group(value, describes=describes))
        asked = [f.describe()] if describes else []
        bound = f.bind(tag(SSN, value), statement="s", formats=(1,), results=(1, 0))
        play.server_gets(bound, *asked, f.execute(), f.SYNC)
        fields = [SEALED] if describes else []
        rows = [f.data_row(envelope(SSN, value), b"Turku"), f.data_row(None, None), f.data_row(envelope(SSN, b""), b"")]
        play.server_says(b"".join([f.BIND_COMPLETE, *fields, *rows, DONE]))
        shown = [SHOWN] if describes else []
        opened = [f.data_row(value, b"Turku"), f.data_row(None, None), f.data_row(b"", b"")]
        play.client_gets(f.BIND_COMPLETE, *shown, *opened, *f.split(DONE))
        assert not play.session.names.portals
        play.is_idle()
    assert (play.session.counters.rewritten, play.session.counters.forwarded) == (2, 0)


@pytest.mark.parametrize("describes", [True, False])
def test_an_insert_takes_the_fast_path(play: Screenplay, monkeypatch: pytest.MonkeyPatch, *, describes: bool) -> None:
    prepared(play, INSERT)
    without_handlers(monkeypatch, b"BDES", b"2TDCZ")
    for ssn in (SECRET, None):
        play.client_says(group(b"7", ssn, b"MRN-1", describes=describes))
        asked = [f.describe()] if describes else []
        sealed = [b"7", None if ssn is None else b"<sealed " + ssn + b">", b"<sealed MRN-1>"]
        play.server_gets(f.bind(*sealed, statement="s", formats=(0, 1, 1)), *asked, f.execute(), f.SYNC)
        nothing = [f.NO_DATA] if describes else []
        said = [f.BIND_COMPLETE, *nothing, f.command_complete("INSERT 0 1"), f.ready()]
        play.server_says(b"".join(said))
        play.client_gets(*said)
        play.is_idle()


def test_in_a_transaction_the_portal_is_noted(play: Screenplay) -> None:
    """It lives on, and a Describe of it shows the declared types."""
    prepared(play, BY_TAG)
    play.session.status = b"T"
    play.client_says(group(b"ada"))
    play.session.to_server.clear()
    assert b"" in play.session.names.portals
    play.server_says(f.BIND_COMPLETE + f.command_complete("SELECT 0") + f.ready("T"))
    play.session.to_client.clear()
    play.client_says(f.describe(), f.SYNC)
    play.session.to_server.clear()
    play.server_says(SEALED, f.ready("T"))
    play.client_gets(SHOWN, f.ready("T"))
    play.is_idle()


def test_a_bind_that_fails_leaves_the_portal_before_it(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    play.session.status = b"T"
    play.client_says(f.bind(b"ada", statement="s"), f.execute(limit=1), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.BIND_COMPLETE + f.PORTAL_SUSPENDED + f.ready("T"))
    play.session.to_client.clear()
    before = play.session.names.portals[b""]
    play.client_says(group(b"ada", results=(0, 1)))
    play.session.to_server.clear()
    assert play.session.names.portals[b""] is not before
    play.server_says(f.error("22P02"), f.ready("E"))
    assert play.session.names.portals[b""] is before
    play.session.to_client.clear()


@pytest.mark.parametrize(
    "message",
    [
        group(),
        group(b"a", b"b"),
        f.bind(b"ada", statement="s", formats=(2,)) + f.execute() + f.SYNC,
        f.bind(b"ada", statement="s", formats=(0, 0)) + f.execute() + f.SYNC,
        f.bind(b"\xff", statement="s") + f.execute() + f.SYNC,
        f.bind(b"a\0a", statement="s") + f.execute() + f.SYNC,
        group(b"ada", results=(0, 0, 0)),
        group(b"ada", results=(7,)),
        f.raw(b"B", b"\0s\0\0\0\0\1\0\0\0\x7fada\0\0") + f.execute() + f.SYNC,
        f.raw(b"B", b"\0s\0\0\0\0\1\xff\xff\xff\xfeada\0\0") + f.execute() + f.SYNC,
        f.raw(b"B", b"\0s\0\0\0\0\1\0\0\0\3ada\0\0!") + f.execute() + f.SYNC,
        f.raw(b"B", b"\0s\0\0\0\0\1\0\0\0\3ada") + f.execute() + f.SYNC,
        f.raw(b"B", b"\0s\0\0\0\0\1\0\0\0\3ada\0\1\0") + f.execute() + f.SYNC,
    ],
)
@pytest.mark.parametrize("again", [False, True])
def test_an_unusual_bind_is_answered_as_by_the_handlers(message: bytes, *, again: bool) -> None:
    """Also where an ordinary one came before it, whose form is known."""

    def answered(*, short: bool) -> tuple[list[f.Frame], list[f.Frame], int]:
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                by_handlers(patch)
            play = Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, Ciphers(_ring()))))
            prepared(play, BY_TAG)
            if again:
                play.client_says(group(b"ada"))
                play.server_says(f.BIND_COMPLETE + DONE)
                play.session.to_server.clear()
                play.session.to_client.clear()
            play.client_says(message)
            sent = list(f.split(b"".join(play.session.to_server)))
            play.session.to_server.clear()
            said = list(f.split(b"".join(play.session.to_client)))
            play.session.to_client.clear()
            return sent, said, play.session.counters.refused

    assert answered(short=True) == answered(short=False)


def _ring() -> Keyring:
    ring = Keyring(lambda: 0.0)
    fill(ring)
    return ring


REPLIES = [
    [f.BIND_COMPLETE, SEALED, f.data_row(envelope(SSN, b"ada"), b"x"), DONE],
    [f.BIND_COMPLETE, SEALED, *[f.data_row(envelope(SSN, b"ada"), b"x")] * 3, f.command_complete("SELECT 3"), f.ready("T")],
    [f.BIND_COMPLETE, SEALED, f.command_complete("SELECT 0"), f.ready("E")],
    [f.BIND_COMPLETE, f.NO_DATA, DONE],
    [f.BIND_COMPLETE, SEALED, f.notice("n"), f.data_row(envelope(SSN, b"ada"), b"x"), f.parameter_status("a", "b"), DONE],
    [f.error("22P02"), f.ready()],
    [f.BIND_COMPLETE, SEALED, f.data_row(envelope(SSN, b"ada"), b"x"), f.error("22012"), f.ready()],
    [f.BIND_COMPLETE, SEALED, f.data_row(envelope(FULL_NAME, b"ada"), b"x"), DONE],
    [f.BIND_COMPLETE, SEALED, f.data_row(b"no envelope", b"x"), DONE],
    [f.BIND_COMPLETE, SEALED, f.data_row(envelope(SSN, b"ada")), DONE],
    [f.BIND_COMPLETE, f.row_description(f.column("city", table=100, attnum=6)), DONE],
    [f.BIND_COMPLETE, f.row_description(*[f.column("ssn", 25, table=100, attnum=2)] * 2), DONE],
    [f.BIND_COMPLETE, SEALED, f.raw(b"Z", b"?")],
    [f.BIND_COMPLETE, SEALED, b"D\0\0\0\2", DONE],
    [f.BIND_COMPLETE, SEALED, b"D\x7f\xff\xff\xff", DONE],
    [f.BIND_COMPLETE, DONE],
    [f.BIND_COMPLETE, SEALED, SEALED, DONE],
    [f.command_complete("SELECT 1"), f.ready()],
]


@pytest.mark.parametrize("replies", REPLIES, ids=range(len(REPLIES)))
def test_replies_are_shown_as_by_the_handlers_however_they_are_cut(replies: list[bytes]) -> None:
    said = b"".join(replies)

    def shown(pieces: Sequence[bytes], *, short: bool) -> tuple[object, ...]:
        with pytest.MonkeyPatch.context() as patch:
            if not short:
                by_handlers(patch)
            play = Screenplay()
            prepared(play, BY_TAG)
            play.client_says(group(b"ada", describes=True))
            play.session.to_server.clear()
            for piece in pieces:
                play.server_says(piece)
            session = play.session
            out, left = b"".join(session.to_client), len(session.pipeline.queue)
            session.to_client.clear()
            session.to_server.clear()
            return out, session.phase, session.status, left, session.counters.open_failures, session.groups.answered

    expected = shown([said], short=False)
    assert shown([said], short=True) == expected
    for cut in range(1, len(said), 3):
        assert shown([said[:cut], said[cut:]], short=True) == shown([said[:cut], said[cut:]], short=False)
    assert shown([said, said], short=True) == shown([said, said], short=False)


def test_several_groups_in_one_piece(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    prepared(play, PLAIN, "p")
    play.client_says(f.query("BEGIN") + group(b"ada") + group(b"7", name="p", describes=True) + group(b"bob") + f.query("COMMIT"))
    searched = [f.bind(tag(SSN, v), statement="s", formats=(1,), results=(1, 0)) for v in (b"ada", b"bob")]
    rest = [f.execute(), f.SYNC]
    plain = [f.bind(b"7", statement="p"), f.describe(), *rest]
    play.server_gets(f.query("BEGIN"), searched[0], *rest, *plain, searched[1], *rest, f.query("COMMIT"))
    begun, inside = f.command_complete("BEGIN") + f.ready("T"), f.command_complete("SELECT 1") + f.ready("T")
    row, fields = f.data_row(b"7", b"x"), f.row_description(f.column("id"), f.column("msg"))
    ended = f.command_complete("COMMIT") + f.ready()
    first, last = (f.BIND_COMPLETE + f.data_row(envelope(SSN, v), b"x") + inside for v in (b"ada", b"bob"))
    between = f.BIND_COMPLETE + fields + row + inside
    play.server_says(begun + first + between + last + ended)
    opened = [f.BIND_COMPLETE + f.data_row(v, b"x") + inside for v in (b"ada", b"bob")]
    play.client_gets(*f.split(begun + opened[0] + between + opened[1] + ended))
    play.is_idle()


def test_a_missing_key_is_asked_for_on_the_way_out_and_back() -> None:
    ring = Keyring(lambda: 0.0)
    play = Screenplay(FakeDatabase(Planner(PROTECTION, CATALOG, Ciphers(ring))))
    prepared(play, BY_TAG)
    play.client_says(group(b"ada"))
    assert isinstance(play.need, NeedKeys)
    assert not play.session.to_server
    assert not play.session.pipeline.queue
    fill(ring, play.need.wants)
    play.resumes()
    play.server_gets(f.bind(tag(SSN, b"ada"), statement="s", formats=(1,), results=(1, 0)), f.execute(), f.SYNC)
    row = f.data_row(envelope(SSN, b"ada"), b"x")
    play.server_says(f.BIND_COMPLETE + row + row + DONE)
    assert isinstance(play.need, NeedKeys)
    assert all(isinstance(want, DataKeyWant) for want in play.need.wants)
    fill(ring, play.need.wants)
    play.resumes()
    play.client_gets(f.BIND_COMPLETE, *[f.data_row(b"ada", b"x")] * 2, *f.split(DONE))
    play.is_idle()


def test_rows_are_in_the_encoding_that_the_server_told_of_last(play: Screenplay) -> None:
    """A function may set it, behind which the same group is already under way."""
    prepared(play, BY_TAG)
    row, text = f.data_row(envelope(SSN, "é".encode()), b"x"), "é".encode()
    for encoding, shown in (("UTF8", text), ("LATIN1", b"\xe9"), ("UTF8", text)):
        play.client_says(group(b"ada"))
        play.session.to_server.clear()
        play.server_says(f.parameter_status("client_encoding", encoding))
        play.server_says(f.BIND_COMPLETE + row + DONE)
        play.client_gets(f.parameter_status("client_encoding", encoding), f.BIND_COMPLETE, f.data_row(shown, b"x"), *f.split(DONE))
    play.is_idle()


def test_a_value_that_does_not_open_breaks_the_result_off(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    play.client_says(group(b"ada"))
    play.session.to_server.clear()
    play.server_says(f.BIND_COMPLETE + f.data_row(envelope(SSN, b"ada"), b"x") + f.data_row(envelope(MRN, b"x"), b"x") + DONE)
    play.client_gets(f.BIND_COMPLETE, f.data_row(b"ada", b"x"), Says("XX001"), f.ready())
    play.is_idle()


# -- a chunk that is one group ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("describes", [True, False])
def test_a_chunk_that_is_one_group_goes_on_by_itself_and_so_do_its_replies(
    play: Screenplay, monkeypatch: pytest.MonkeyPatch, *, describes: bool
) -> None:
    prepared(play, BY_TAG)
    prepared(play, PLAIN, "p")
    prepared(play, INSERT, "i")
    only_whole_chunks(monkeypatch)
    asked, rest = [f.describe()] if describes else [], [f.execute(), f.SYNC]
    for value in (b"ada", b"grace"):
        play.client_says(group(value, describes=describes))
        play.server_gets(f.bind(tag(SSN, value), statement="s", formats=(1,), results=(1, 0)), *asked, *rest)
        fields = [SEALED] if describes else []
        play.server_says(f.BIND_COMPLETE, *fields, f.data_row(envelope(SSN, value), b"x"), f.data_row(None, b"y"), DONE)
        shown = [SHOWN] if describes else []
        play.client_gets(f.BIND_COMPLETE, *shown, f.data_row(value, b"x"), f.data_row(None, b"y"), *f.split(DONE))
        play.is_idle()
        play.client_says(group(b"7", name="p", describes=describes))
        play.server_gets(f.bind(b"7", statement="p"), *asked, *rest)
        plain = [f.row_description(f.column("id"), f.column("msg"))] if describes else []
        play.server_says(f.BIND_COMPLETE, *plain, f.data_row(b"7", b"x"), DONE)
        play.client_gets(f.BIND_COMPLETE, *plain, f.data_row(b"7", b"x"), *f.split(DONE))
        play.is_idle()
        play.client_says(group(b"1", value, b"m", name="i", describes=describes))
        sealed = [b"1", b"<sealed " + value + b">", b"<sealed m>"]
        play.server_gets(f.bind(*sealed, statement="i", formats=(0, 1, 1)), *asked, *rest)
        nothing = [f.NO_DATA] if describes else []
        play.server_says(f.BIND_COMPLETE, *nothing, f.command_complete("INSERT 0 1"), f.ready())
        play.client_gets(f.BIND_COMPLETE, *nothing, f.command_complete("INSERT 0 1"), f.ready())
        play.is_idle()
    assert play.session.groups.answered == play.session.groups.number - 1
    assert (play.session.counters.rewritten, play.session.counters.forwarded) == (4, 2)


WHOLE = group(b"ada")
NOT_ONE_GROUP = [
    WHOLE + WHOLE,
    WHOLE[:-1],
    WHOLE + f.SYNC,
    f.SYNC + WHOLE,
    f.bind(b"ada", statement="s") + f.SYNC,
    f.bind(b"ada", statement="s", portal="p") + f.execute() + f.SYNC,
    group(b"ada", name="unknown"),
    f.query("SELECT 1"),
    b"B",
    b"B\0\0\0\4" + f.execute() + f.SYNC,
    b"B\xff\xff\xff\xff" + WHOLE[5:],
]


@pytest.mark.parametrize("chunk", NOT_ONE_GROUP, ids=range(len(NOT_ONE_GROUP)))
def test_a_chunk_that_is_not_one_group_is_left_and_nothing_is_done(play: Screenplay, chunk: bytes) -> None:
    prepared(play, BY_TAG)
    assert play.session.settled
    before = play.session.groups.number
    assert sent_for(play.session, chunk) == b""
    assert (play.session.groups.number, list(play.session.pipeline.queue), play.session.to_server) == (before, [], [])


@pytest.mark.parametrize(
    "said",
    [
        f.parse(BY_TAG, "other"),
        f.bind(b"ada", statement="s") + f.execute() + f.SYNC,
        f.query("SET search_path = elsewhere"),
        f.query("SET client_encoding = 'LATIN1'"),
        f.query("SET DateStyle = german"),
        f.query("BEGIN; CREATE TABLE public.visits (id int)"),
        f.query("COPY log FROM STDIN"),
        WHOLE[:9],
        b"",
    ],
)
def test_no_chunk_goes_on_by_itself_while_something_is_awaited_or_pending(play: Screenplay, said: bytes) -> None:
    """But for nothing at all, of course."""
    prepared(play, BY_TAG)
    play.client_says(said)
    taken = play.session.settled and sent_for(play.session, WHOLE)
    assert bool(taken) is (said == b"")
    play.session.to_server.clear()


def test_no_chunk_goes_on_by_itself_once_the_lease_is_over(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    play.session.now, play.session.fence.until = 2.0, 1.0
    assert sent_for(play.session, WHOLE) == b""
    play.session.fence.until = 3.0
    assert sent_for(play.session, WHOLE)
    play.server_says(f.BIND_COMPLETE + DONE)
    play.client_gets(f.BIND_COMPLETE, *f.split(DONE))
    play.is_idle()


def test_an_ordinary_group_does_not_hide_that_it_replaces_a_portal_that_was_noted(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    prepared(play, PLAIN, "p")
    play.session.status = b"T"
    for value in (b"ada", b"grace"):
        assert sent_for(play.session, group(value))
        assert play.session.names.portals[b""].plan.touches
        play.server_says(f.BIND_COMPLETE + f.command_complete("SELECT 0") + f.ready("T"))
        play.client_gets(f.BIND_COMPLETE, f.command_complete("SELECT 0"), f.ready("T"))
        assert play.session.settled
    assert sent_for(play.session, group(b"7", name="p")) == b""
    play.is_idle()


def test_a_session_is_not_settled_behind_its_last_word(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    assert play.session.settled
    play.session.fatal(StatementRefused("the end"))
    assert not play.session.settled
    play.session.to_client.clear()
