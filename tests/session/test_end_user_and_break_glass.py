"""What clients say of who acts: reasons are recorded before anybody is told, names and tokens are looked up by their marks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from phiproxy.access.rules import AccessRules, BreakGlass
from phiproxy.effects import Effects
from phiproxy.errors import PathNeeded
from phiproxy.session import end_user_and_break_glass
from phiproxy.session.core import Session
from phiproxy.session.state_parts import EndUser, GivenReason
from phiproxy.session.trail import NotRecorded, Trail
from tests.session.test_current_access_and_expiry import Watched, told


@pytest.fixture
def database() -> Watched:
    return Watched()


@pytest.fixture
def session(database: Watched) -> Session:
    session = Session(database, "clinic")
    told(session, "app")
    return session


@dataclass
class FakeTrail:
    failing: bool = False
    alerts: list[tuple[object, ...]] = field(default_factory=list)

    def alerted(self, *said: object) -> int:
        self.alerts.append(said)
        return 77


def test_a_reason_is_recorded_before_anybody_is_told(session: Session, database: Watched) -> None:
    effects = Effects(reason=("mark", "because"))
    with pytest.raises(end_user_and_break_glass.MayNotSay):  # there is no audit log
        end_user_and_break_glass.check_said(session, effects)
    trail = FakeTrail()
    session.trail = cast("Trail", trail)
    database.lifts = False
    with pytest.raises(end_user_and_break_glass.MayNotSay):
        end_user_and_break_glass.check_said(session, effects)
    database.lifts, trail.failing = True, True
    with pytest.raises(NotRecorded):
        end_user_and_break_glass.check_said(session, effects)
    trail.failing = False
    end_user_and_break_glass.check_said(session, effects)
    database.access, session.now = AccessRules(break_glass=BreakGlass(("app",), 60)), 5.0
    end_user_and_break_glass.take_said(session, effects)
    assert trail.alerts == [("because", 60, "app", None)]
    assert (session.unrecorded, session.search_path.reasons) == (77, {"mark": GivenReason("because", 65.0)})
    session.search_path.schemas = None
    with pytest.raises(PathNeeded):
        end_user_and_break_glass.check_said(session, effects)
    end_user_and_break_glass.check_said(session, Effects(reason=("mark", "")))  # that ends it, and anybody may


def test_names_and_tokens(session: Session, database: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    end_user_and_break_glass.take_said(session, Effects(end_user=("m", "dr.who")))
    assert session.search_path.users == {"m": EndUser("dr.who")}
    monkeypatch.setattr(end_user_and_break_glass, "MAX_SAID", 2)
    told(session, "app", "m")
    for mark in ("n", "o"):
        end_user_and_break_glass.take_said(session, Effects(end_user=(mark, mark)))
    assert set(session.search_path.users) == {"m", "o"}
    assert session.user == EndUser("dr.who")
    monkeypatch.setattr(database, "end_user", lambda said, now: EndUser(said[::-1], "verified", ("r",), now + 1), raising=False)
    end_user_and_break_glass.check_said(session, Effects(end_user=("t", "abc")))
    end_user_and_break_glass.take_said(session, Effects(end_user=("t", "abc")))
    assert session.search_path.users["t"] == EndUser("cba", "verified", ("r",), 1.0)
