"""Who acts in a conversation: nothing protected is answered before that is told, and another role has another database."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from phiproxy.access.rules import AccessRules
from phiproxy.errors import PathNeeded
from phiproxy.plan.planner import Planner
from phiproxy.session import current_access_and_expiry
from phiproxy.session.core import Session
from phiproxy.session.phases import LOGGED_IN
from phiproxy.session.state import Database
from phiproxy.session.state_parts import Acting, EndUser, GivenReason
from phiproxy.session.statements_and_portals import Portal
from phiproxy.wire.messages import encode_query
from tests.session.screenplay import FakeDatabase


@dataclass
class Watched(FakeDatabase):
    """A database that is another one for each role."""

    access: AccessRules | None = field(default_factory=AccessRules)
    views: dict[str, FakeDatabase] = field(default_factory=dict)
    asked: list[Acting] = field(default_factory=list)
    lifts: bool = True

    def seen(self, acting: Acting) -> Database:
        self.asked.append(acting)
        return self.views.setdefault(acting.role, FakeDatabase(generation=len(self.views) + 2))

    def may_lift(self, acting: Acting) -> bool:
        return self.lifts


def told(session: Session, role: str, user: str = "", reason: str = "") -> None:
    session.take_session_settings(ok=True, rows=[b"hex", b"1", role.encode(), user.encode(), reason.encode(), b"", b"public"])


@pytest.fixture
def database() -> Watched:
    return Watched()


@pytest.fixture
def session(database: Watched) -> Session:
    session = Session(database, "clinic")
    told(session, "app")
    return session


def test_each_role_has_its_view(session: Session, database: Watched) -> None:
    assert session.database is database.views["app"]
    told(session, "nurse")
    assert session.database is database.views["nurse"]
    assert session.base is database
    database.access = None
    session.see()
    assert session.database is database


def test_what_may_be_protected_waits_until_it_is_told(session: Session, database: Watched) -> None:
    current_access_and_expiry.check_told(session, b"SELECT ssn FROM patients")
    session.search_path.schemas = None
    current_access_and_expiry.check_told(session, b"SELECT 1")
    with pytest.raises(PathNeeded):
        current_access_and_expiry.check_told(session, b"SELECT ssn FROM patients")
    with pytest.raises(PathNeeded):
        current_access_and_expiry.check_portal(session, b"c", Portal(session.names, None, 0))  # type: ignore[arg-type]
    database.access = None
    current_access_and_expiry.check_told(session, b"SELECT ssn FROM patients")


def test_a_portal_is_of_who_opened_it(session: Session) -> None:
    portal = Portal(None, None, 0, seen_by=session.database)  # type: ignore[arg-type]
    current_access_and_expiry.check_portal(session, b"c", portal)
    told(session, "nurse")
    for _ in range(2):  # it may be gone the next time
        with pytest.raises(current_access_and_expiry.PortalNeeded):
            current_access_and_expiry.check_portal(session, b"c", portal)
        portal.found = True
        with pytest.raises(current_access_and_expiry.OtherRole):
            current_access_and_expiry.check_portal(session, b"c", portal)


def test_a_token_counts_until_its_time_is_over(session: Session, database: Watched) -> None:
    session.search_path.users["m"] = EndUser("jane", "verified", ("doctor",), 100.0)
    session.now = 1.0
    told(session, "app", "m")
    assert (database.asked[-1], session.acting_until) == (Acting("app", ("doctor",)), 100.0)
    session.now = 100.0
    session.from_client(b"")
    assert (database.asked[-1].expired, session.acting_until) == (True, float("inf"))


def test_a_reason_counts_until_its_time_is_over(session: Session, database: Watched) -> None:
    session.search_path.reasons["m"] = GivenReason("because", 50.0)
    told(session, "app", reason="m")
    assert (database.asked[-1].reason, session.acting_until, session.reason) == (True, 50.0, "because")
    session.now = 50.0
    session.from_client(b"")
    assert (database.asked[-1].reason, session.acting_until, session.reason) == (False, float("inf"), None)
    session.now = 0.0
    database.lifts = False
    told(session, "other", reason="m")
    assert session.reason is None


def test_what_the_client_has_said_before_waits_for_its_time(session: Session, database: Watched) -> None:
    """A message that comes while the session waits, and is taken behind the end of a reason, is taken under masks again."""
    session.search_path.reasons["m"] = GivenReason("because", 50.0)
    told(session, "app", reason="m")
    session.phase, session.blocked = LOGGED_IN, True
    session.from_client(encode_query(b"SELECT 1"))
    assert (session.client_frames.pending > 0, session.reason) == (True, "because")
    session.now, session.blocked = 50.0, False
    session.from_server(b"")
    assert (database.asked[-1].reason, session.reason) == (False, None)


def test_a_transactions_catalogue_is_seen_likewise(session: Session, database: Watched) -> None:
    overlay = session.planner
    session.catalog.overlay, overlays = overlay, session.catalog.overlays

    class Other(FakeDatabase):
        def overlay_of(self, planner: Planner) -> Planner:
            assert planner is overlay
            return Planner(replace(planner.protection, generation=7), planner.catalog, planner.ciphers)

    database.views["nurse"] = Other(generation=9)
    told(session, "nurse")
    assert session.catalog.overlay.protection.generation == 7
    assert session.catalog.overlays == overlays + 1
