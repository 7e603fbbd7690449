"""One group alone goes the shortest way, and only where nothing else is under way or followed."""

from __future__ import annotations

import pytest

from phiproxy.errors import StatementRefused
from phiproxy.session import alone, core
from tests.session import frames as f
from tests.session.screenplay import SSN, Screenplay, envelope, tag
from tests.session.test_groups import BY_TAG, DONE, INSERT, PLAIN, SEALED, SHOWN, group, prepared


def only_the_shortest_way(patch: pytest.MonkeyPatch) -> None:
    for name in ("pass_messages", "pass_replies"):
        patch.setattr(core, name, None)
    patch.setattr(core.Session, "_drain", None)


@pytest.mark.parametrize("describes", [True, False])
def test_a_group_and_its_replies(play: Screenplay, monkeypatch: pytest.MonkeyPatch, *, describes: bool) -> None:
    prepared(play, BY_TAG)
    prepared(play, PLAIN, "p")
    prepared(play, INSERT, "i")
    only_the_shortest_way(monkeypatch)
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
    assert play.session.names.answered == play.session.names.group - 1
    assert play.session.counters.forwarded == 6


ALONE = group(b"ada")
NOT_ALONE = [
    ALONE + ALONE,
    ALONE[:-1],
    ALONE + f.SYNC,
    f.SYNC + ALONE,
    f.bind(b"ada", statement="s") + f.SYNC,
    f.bind(b"ada", statement="s", portal="p") + f.execute() + f.SYNC,
    group(b"ada", name="unknown"),
    f.query("SELECT 1"),
    b"B",
    b"B\0\0\0\4" + f.execute() + f.SYNC,
    b"B\xff\xff\xff\xff" + ALONE[5:],
]


@pytest.mark.parametrize("chunk", NOT_ALONE, ids=range(len(NOT_ALONE)))
def test_anything_else_is_left_as_it_was(play: Screenplay, chunk: bytes) -> None:
    prepared(play, BY_TAG)
    assert play.session.quiet
    before = play.session.names.group
    assert alone.group(play.session, chunk) == b""
    assert (play.session.names.group, list(play.session.pipeline.queue), play.session.to_server) == (before, [], [])


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
        ALONE[:9],
        b"",
    ],
)
def test_not_behind_what_is_not_answered(play: Screenplay, said: bytes) -> None:
    """But for nothing at all, of course."""
    prepared(play, BY_TAG)
    play.client_says(said)
    taken = play.session.quiet and alone.group(play.session, ALONE)
    assert bool(taken) is (said == b"")
    play.session.to_server.clear()


def test_not_in_a_transaction_that_has_a_portal_nor_once_the_fence_is_passed(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    play.session.now, play.session.fence.until = 2.0, 1.0
    assert alone.group(play.session, ALONE) == b""
    play.session.fence.until = 3.0
    play.session.status = b"T"
    assert alone.group(play.session, ALONE)
    assert b"" in play.session.names.portals
    play.server_says(f.BIND_COMPLETE + f.command_complete("SELECT 0") + f.ready("T"))
    play.client_gets(f.BIND_COMPLETE, f.command_complete("SELECT 0"), f.ready("T"))
    assert play.session.quiet
    assert alone.group(play.session, ALONE) == b""
    play.is_idle()


def test_the_last_word_ends_the_quiet(play: Screenplay) -> None:
    prepared(play, BY_TAG)
    assert play.session.quiet
    play.session.fatal(StatementRefused("the end"))
    assert not play.session.quiet
    play.session.to_client.clear()
