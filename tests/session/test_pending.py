"""While anything is pending nothing goes the fast path; each kind of it is told by one predicate."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phiproxy.session.pending import Pending
from phiproxy.session.pipeline import Pipeline
from phiproxy.session.state_parts import CatalogChanges, CopyState
from tests.session import frames as f
from tests.session.screenplay import PLANNER, Screenplay

GROUPS = ("announcement", "catalog", "encoding", "encoding_set", "path", "schemas", "styles")
PENDING: dict[str, Callable[[Screenplay], None]] = {
    "a search path": lambda play: play.client_says(f.query("SET search_path = elsewhere")),
    "an encoding": lambda play: play.client_says(f.query("SET client_encoding = 'LATIN1'")),
    "a style": lambda play: play.client_says(f.query("SET DateStyle = german")),
    "DDL": lambda play: play.client_says(f.query("BEGIN; CREATE TABLE public.visits (id int)")),
    "an error that skips to Sync": lambda play: play.client_says(f.raw(b"D", b"")),
}


def pending() -> tuple[Pending, Pipeline, CatalogChanges, CopyState]:
    pipeline, catalog, copy = Pipeline(), CatalogChanges(), CopyState()
    return Pending(pipeline, catalog, copy), pipeline, catalog, copy


def test_nothing_is_pending_at_first() -> None:
    assert pending()[0].nothing


@pytest.mark.parametrize("name", GROUPS)
def test_a_change_of_a_setting_or_of_the_catalogue_is_pending_from_its_first_group_on(name: str) -> None:
    changes = pending()[0]
    setattr(changes, name, 0)
    assert not changes.nothing
    setattr(changes, name, None)
    assert changes.nothing


def test_every_attribute_is_one_of_these() -> None:
    assert {name for name in Pending.__slots__ if not name.startswith("_")} == set(GROUPS)


@pytest.mark.parametrize(("name", "value"), [("skipping", True), ("copy_in", True), ("ignored", 1), ("discarding", True)])
def test_what_is_skipped_dropped_or_copied_is_pending(name: str, value: object) -> None:
    changes, pipeline, _, _ = pending()
    setattr(pipeline, name, value)
    assert not changes.nothing


@pytest.mark.parametrize(("name", "value"), [("overlay", PLANNER), ("fresh", True)])
def test_a_catalogue_of_the_transaction_or_of_one_message_is_pending(name: str, value: object) -> None:
    changes, _, catalog, _ = pending()
    setattr(catalog, name, value)
    assert not changes.nothing


def test_a_copy_over_protected_columns_is_pending_until_the_server_has_ended_it(play: Screenplay) -> None:
    play.client_says(f.query("COPY public.patients (id, ssn) FROM STDIN"))
    play.session.to_server.clear()
    assert play.session.pending.nothing
    play.server_says(f.raw(b"G", b"\0\0\2\0\0\0\0"))
    play.session.to_client.clear()
    assert not play.session.pending.nothing
    play.client_says(f.copy_fail("no"))
    play.session.to_server.clear()
    assert not play.session.pending.nothing
    play.server_says(f.error("57014"), f.ready())
    play.session.to_client.clear()
    assert play.session.pending.nothing


@pytest.mark.parametrize("what", PENDING)
def test_what_a_client_says_makes_it_pending_and_the_session_is_not_settled(play: Screenplay, what: str) -> None:
    assert play.session.settled
    assert play.session.pending.nothing
    PENDING[what](play)
    assert not play.session.pending.nothing
    assert not play.session.settled
    play.session.to_server.clear()
