"""Whole groups of Bind to Sync go the short way; whatever it gives, the handlers would have given the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phiproxy.crypto.keyring import Keyring
from phiproxy.errors import DataKeyWant
from phiproxy.plan.cache import Planner
from phiproxy.plan.ciphers import Ciphers
from phiproxy.session import client, core, server
from phiproxy.session.core import NeedKeys
from tests.clinic_model import CATALOG, PROTECTION
from tests.session import frames as f
from tests.session.network import Network, same
from tests.session.screenplay import FULL_NAME, MRN, SECRET, SSN, FakeDatabase, Says, Screenplay, envelope, fill, legible, tag

BY_TAG = "SELECT ssn, city FROM public.patients WHERE ssn = $1"
INSERT = "INSERT INTO public.patients (id, ssn, mrn) VALUES ($1, $2, $3)"
PLAIN = "SELECT id, msg FROM log WHERE id = $1"
SEALED = f.row_description(f.column("ssn", 17, table=100, attnum=2, code=1), f.column("city", table=100, attnum=6))
SHOWN = f.row_description(f.column("ssn", 25, table=100, attnum=2), f.column("city", table=100, attnum=6))
DONE = f.command_complete("SELECT 1") + f.ready()


def prepared(play: Screenplay, text: str, name: str = "s") -> None:
    play.client_says(f.parse(text, name), f.SYNC)
    play.session.to_server.clear()
    play.server_says(f.PARSE_COMPLETE, f.ready())
    play.session.to_client.clear()


def by_handlers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core, "pass_replies", lambda _session: None)
    patch.setattr(core, "pass_messages", lambda _session: None)


def nothing_is_left_to_handlers(patch: pytest.MonkeyPatch) -> None:
    for handlers, tags in ((client.HANDLERS, b"BDES"), (server.HANDLERS, b"2TDCZ")):
        for name in tags:
            patch.delitem(handlers, name)


def group(*values: bytes | None, name: str = "s", results: Sequence[int] = (), describes: bool = False) -> bytes:
    asked = f.describe() if describes else b""
    return f.bind(*values, statement=name, results=tuple(results)) + asked + f.execute() + f.SYNC


@pytest.mark.parametrize("describes", [True, False])
def test_a_search_by_tag_and_its_rows_go_the_short_way(
    play: Screenplay, monkeypatch: pytest.MonkeyPatch, *, describes: bool
) -> None:
    prepared(play, BY_TAG)
    nothing_is_left_to_handlers(monkeypatch)
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
    assert play.session.counters.rewritten == play.session.counters.forwarded == 2


@pytest.mark.parametrize("describes", [True, False])
def test_an_insert_goes_the_short_way(play: Screenplay, monkeypatch: pytest.MonkeyPatch, *, describes: bool) -> None:
    prepared(play, INSERT)
    nothing_is_left_to_handlers(monkeypatch)
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
            return out, session.phase, session.status, left, session.counters.open_failures, session.names.answered

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


# -- any conversation -----------------------------------------------------------------------------------------------------------

TEXTS = [
    "SELECT ssn, city FROM public.patients",
    "SELECT city, ssn FROM public.patients WHERE ssn = $1",
    "SELECT city FROM public.patients WHERE city = $1",
    "INSERT INTO public.patients (city, ssn) VALUES ('x', $1)",
    "SELECT msg FROM log",
    "SELECT boom()",
    "BEGIN",
    "COMMIT",
]
named = st.sampled_from("abcdefgh")


@st.composite
def a_group(draw: st.DrawFn) -> bytes:
    name = draw(named)
    right = TEXTS["abcdefgh".index(name)].count("$")
    count = draw(st.sampled_from([right, right, right, right, 1 - right]))
    values = [draw(st.sampled_from([SECRET if name in "bd" else b"y", b"x", None])) for _ in range(count)]
    formats = draw(st.sampled_from([(), (), (0,), (1,), (2,)]))
    results = draw(st.sampled_from([(), (0,), (1,), *([(0, 1)] if name in "ab" else [])]))
    asked = [f.describe()] if draw(st.booleans()) else []
    bound = f.bind(*values, statement=name, formats=formats, results=results)
    run = f.execute("", draw(st.sampled_from([0, 0, 1])))
    return b"".join([bound, *asked, run, *([f.SYNC] if draw(st.integers(0, 5)) else [])])


others = st.one_of(
    st.sampled_from(["BEGIN", "COMMIT", "ROLLBACK", "SELECT msg FROM log"]).map(f.query),
    st.builds(f.close, named),
    st.builds(f.parse, st.sampled_from(TEXTS), named),
    st.sampled_from([f.SYNC, f.describe(), f.execute(), f.FLUSH]),
)


def conversation(script: Sequence[bytes], *, together: bool) -> Network:
    network = Network()
    for text, name in zip(TEXTS, "abcdefgh", strict=True):
        network.say(f.parse(text, name))
    network.say(f.SYNC)
    network.settle()
    for message in script:
        network.say(message)
        if not together:
            network.settle()
    network.say(f.SYNC)
    network.settle()
    return network


@settings(max_examples=60, deadline=None)
@given(script=st.lists(st.one_of(a_group(), a_group(), a_group(), others), max_size=8), together=st.booleans())
def test_groups_in_any_order_are_the_same_by_handlers_alone(script: list[bytes], *, together: bool) -> None:
    passed = conversation(script, together=together)
    with pytest.MonkeyPatch.context() as patch:
        by_handlers(patch)
        handled = conversation(script, together=together)
    assert [same(frame) for frame in f.split(passed.received)] == [same(frame) for frame in f.split(handled.received)]
    sent = [[legible(frame) for frame in f.split(n.captured) if frame[:1] == b"B"] for n in (passed, handled)]
    if not together:  # a message that the server would skip may wait where handlers alone decide
        assert sent[0] == sent[1]
    left = (passed.session, handled.session)
    assert len({(s.status, s.phase, frozenset(s.names.statements), s.counters.rewritten) for s in left}) == 1
    assert SECRET not in passed.captured
