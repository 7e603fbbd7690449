"""Each exception that a handler raises for want of something is one Need."""

from __future__ import annotations

import pytest

from phiproxy.errors import AnnouncementNeeded, CatalogNeeded, DataKeyWant, KeyNeeded, StatementRefused
from phiproxy.session.needs import NeedAnnouncement, NeedCatalog, NeedKeys, NeedWork, Work, WorkNeeded, need_of

NAMES = frozenset({"visits"})


def test_keys_a_catalogue_an_announcement_and_work_are_needed_as_they_are_asked_for() -> None:
    work, wants = Work(("row",)), frozenset({DataKeyWant(7)})
    assert need_of(KeyNeeded(wants)) == NeedKeys(wants)
    assert need_of(CatalogNeeded()) == NeedCatalog(changed=False, names=frozenset())
    assert need_of(CatalogNeeded(changed=True, names=NAMES)) == NeedCatalog(changed=True, names=NAMES)
    assert need_of(AnnouncementNeeded(NAMES)) == NeedAnnouncement(NAMES)
    assert need_of(WorkNeeded(work)) == NeedWork(work)


def test_work_answers_the_question_it_is_done_for_and_no_other() -> None:
    work = Work(("script", "SELECT 1"), apart=lambda: 1)
    assert work.key == ("script", "SELECT 1")
    assert work.key != Work(("script", "SELECT 2")).key


def test_its_outcome_is_what_it_has_come_to_or_what_it_has_raised() -> None:
    work = Work(("script",))
    work.done(7)
    assert work.outcome() == 7
    work.failed(StatementRefused("no"))
    with pytest.raises(StatementRefused):
        work.outcome()


def test_neither_it_nor_the_need_of_it_shows_a_text() -> None:
    work = Work(("script", "SELECT '078-05-1120'"))
    assert "078" not in f"{work!r} {WorkNeeded(work)!r}"
